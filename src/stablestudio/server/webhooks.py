"""Webhooks over HTTP: the address that an order names, what is written there, the log of tries, and the public key."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_json

from stablestudio.catalog import OfferingInput
from stablestudio.clock import Clock, iso
from stablestudio.errors import InvalidInput, Issue
from stablestudio.jobs.webhooks import redeliver
from stablestudio.media.addresses import FetchRefused
from stablestudio.media.post import Poster
from stablestudio.protocols.webhooks import WebhookKeys
from stablestudio.server.discovery.documents import Document, made
from stablestudio.server.http import PRIVATE, Receive, Scope, Send, header, respond_json
from stablestudio.server.job_bodies import JobBodies
from stablestudio.server.job_pages import JobPages
from stablestudio.server.sign_in import Gate
from stablestudio.store import views
from stablestudio.store import webhooks as store
from stablestudio.store.database import Database
from stablestudio.store.webhooks import Try, WebhookEvent

KEYS_PATH = "/.well-known/webhooks.json"
HEADER = "Webhook-Url"
_HEADER = HEADER.lower().encode()


def read_webhook(scope: Scope, given: OfferingInput | None, *, poster: Poster) -> str | None:
    """Return who is to be told when the job ends: the header's address, or the one in the input.

    Raises `InvalidInput` for an address that is certainly never called. The header is no part of what a payment is bound
    to: a payment that is sent again changes no address.
    """
    asked, inner = header(scope, _HEADER), given.callback() if given is not None else None
    if asked is None and inner is None:
        return None
    name = HEADER if asked is not None else "callBackUrl"
    if asked is not None and inner is not None and asked != inner:
        raise _bad(name, "conflict", f"{HEADER} and callBackUrl name different addresses.")
    url = asked or inner or ""
    try:
        poster.admit(url)
    except FetchRefused as error:
        raise _bad(name, "invalid_url", error.message) from None
    return url


def _bad(name: str, code: str, message: str) -> InvalidInput:
    hint = "Give one public https:// address that answers POST requests, or none; nothing was charged."
    return InvalidInput(f"{name}: {message}", hint=hint, issues=[Issue((name,), code, message)])


class WebhookMessages:
    """Writes what receivers get: the job as its owner would read it now, with links that have just been signed."""

    def __init__(self, database: Database, *, bodies: JobBodies) -> None:
        self._database = database
        self._bodies = bodies

    async def __call__(self, event: WebhookEvent) -> bytes:
        order = await views.find(self._database, event.order_id)
        assert order is not None, "the message is of this order"
        data = await self._database.look(lambda: self._bodies.body(order))
        del data["success"]
        data.pop("input", None)  # its owner knows it, and messages are to be small
        return to_json({"type": event.type, "timestamp": iso(event.occurred_at), "data": data})


class WebhookRoutes:
    """`/api/jobs/{id}/webhooks`: for the owner's signature alone, since the answer holds the secret."""

    def __init__(self, database: Database, *, gate: Gate, pages: JobPages, keys: WebhookKeys, clock: Clock) -> None:
        self._database = database
        self._gate = gate
        self._pages = pages
        self._keys = keys
        self._clock = clock

    async def log(self, scope: Scope, receive: Receive, send: Send, job_id: str) -> None:  # noqa: ARG002 - a body is not read
        """Tell what was told, when, and how that went."""
        order = await self._pages.own(job_id, (await self._gate.reader(scope)).wallet)
        await respond_json(send, 200, await self._told(order.id), [PRIVATE])

    async def redeliver(self, scope: Scope, receive: Receive, send: Send, job_id: str) -> None:  # noqa: ARG002 - as above
        """Tell everything once more, at once, though once a minute at most."""
        signed = await self._gate.writer(scope)
        await self._pages.own(job_id, signed.wallet)
        await self._gate.burn(scope, signed)
        now = self._clock.now_ms()
        await self._database.write(lambda connection: redeliver(connection, order_id=job_id, now=now))
        await respond_json(send, 200, await self._told(job_id), [PRIVATE])

    async def _told(self, job_id: str) -> dict[str, Any]:
        url = await self._database.read(lambda connection: store.url_of(connection, job_id))
        events = await self._database.read(lambda connection: store.of_order(connection, job_id))
        ids = [event.id for event in events]
        tries = await self._database.read(lambda connection: store.tries_of(connection, ids))
        return {
            "success": True,
            "jobId": job_id,
            "url": url,
            "secret": self._keys.secret_of(job_id),
            "publicKey": self._keys.public,
            "messages": [message_of(event, [each for each in tries if each.event_id == event.id]) for event in events],
        }


def published(keys: WebhookKeys) -> Document:
    """Return the document with the key that every message is signed with."""
    body = to_json({"keys": [{"algorithm": "ed25519", "scheme": "v1a", "publicKey": keys.public}]})
    return made(body, "application/json")


def message_of(event: WebhookEvent, tries: list[Try]) -> dict[str, Any]:
    """Return a message and its tries as they are told."""
    return {
        "id": event.id,
        "type": event.type,
        "state": event.state,
        "occurredAt": iso(event.occurred_at),
        "nextTryAt": iso(event.due_at) if event.state == "pending" else None,
        "tries": [
            {
                "number": each.number,
                "at": iso(each.at),
                "milliseconds": each.milliseconds,
                "status": each.status,
                "reason": each.reason,
            }
            for each in tries
        ],
    }
