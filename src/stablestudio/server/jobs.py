"""The jobs of a wallet: read one, list them, delete a failed one, or the files of a complete one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

import sqlalchemy as sa

from stablestudio.clock import Clock
from stablestudio.errors import InvalidInput, Issue, StudioError
from stablestudio.jobs.changes import Changes
from stablestudio.server.discovery.answers import LISTED, MOST_LISTED, STATES
from stablestudio.server.events import EventStreams
from stablestudio.server.http import PRIVATE, Receive, Scope, Send, refuse_method, respond_json, respond_preflight
from stablestudio.server.job_bodies import PREFIX, JobBodies, state_of
from stablestudio.server.job_pages import JobNotFound, JobPages
from stablestudio.server.sign_in import Gate
from stablestudio.server.waits import applied, preferred_wait, wait_for_turn
from stablestudio.server.webhooks import WebhookRoutes
from stablestudio.store import assets as asset_store
from stablestudio.store import jobs as store
from stablestudio.store import views
from stablestudio.store.database import Database

_LONGEST_PATH = 100
_Below = Callable[[Scope, Receive, Send, str], Awaitable[None]]


class JobNotEnded(StudioError):
    """A job under way cannot be deleted."""

    status = 409
    hint = "Wait until the job is complete or failed."


class JobNotPaid(StudioError):
    """The payment of this job is not known to have arrived, so there is nothing to cancel yet."""

    status = 409
    hint = "Read the job until its payment is settled; if it never is, nothing is charged."


class JobInUse(StudioError):
    """Another order of yours is being made from this job's file."""

    status = 409
    hint = "Wait until that order has ended, then delete again."


class JobRoutes:
    """`/api/jobs`, `/api/jobs/{id}` and what is below it."""

    def __init__(
        self,
        database: Database,
        *,
        gate: Gate,
        bodies: JobBodies,
        pages: JobPages,
        changes: Changes,
        webhooks: WebhookRoutes,
        cancel: Callable[[str], Awaitable[None]],
        clock: Clock,
        erase: Callable[[str], Awaitable[None]],
    ) -> None:
        """Take the parts; `cancel` ends a job early, `erase` removes the bytes of a job whose files were deleted."""
        self._database = database
        self._gate = gate
        self._bodies = bodies
        self._pages = pages
        self._changes = changes
        self._under: dict[str, tuple[str, _Below]] = {
            "events": ("GET", self._events),
            "cancel": ("POST", self._cancel),
            "webhooks": ("GET", webhooks.log),
            "webhooks/redeliver": ("POST", webhooks.redeliver),
        }
        self._cancel_job = cancel
        self._streams = EventStreams(changes, pages=pages)
        self._clock = clock
        self._erase = erase

    async def one(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve `/api/jobs/{id}`."""
        method = scope["method"]
        path = scope["path"]
        if len(path) > _LONGEST_PATH:
            raise JobNotFound  # a challenge repeats the path, and clients take 16 KB of headers
        if "/" in path[len(PREFIX) :]:
            return await self._below(scope, receive, send)
        job_id = path[len(PREFIX) :]
        if method == "GET":
            return await self._read(scope, receive, send, job_id)
        if method == "DELETE":
            return await self._delete(scope, send)
        if method == "OPTIONS":
            return await respond_preflight(send, "GET, DELETE, OPTIONS")
        raise refuse_method(scope, "GET, DELETE")

    async def _below(self, scope: Scope, receive: Receive, send: Send) -> None:
        job_id, _, name = scope["path"][len(PREFIX) :].partition("/")
        if name not in self._under:
            raise JobNotFound
        method, serve = self._under[name]
        if scope["method"] == "OPTIONS":
            return await respond_preflight(send, f"{method}, OPTIONS")
        if scope["method"] != method:
            raise refuse_method(scope, method)
        await serve(scope, receive, send, job_id)

    async def _read(self, scope: Scope, receive: Receive, send: Send, job_id: str) -> None:
        reader = await self._gate.reader(scope, job_id=job_id)
        seconds = preferred_wait(scope) if self._changes.has_room(job_id) else None
        if seconds is None:
            start, body = await self._pages.page(job_id, reader.wallet, signed=reader.has_signed, seen=reader.seen)
        else:
            await self._pages.own(job_id, reader.wallet)
            order = await wait_for_turn(self._changes, job_id, seconds=seconds, receive=receive)
            start, body = await self._pages.page(job_id, reader.wallet, signed=reader.has_signed, order=order)
            start = start | {"headers": [*start["headers"], *applied(seconds)]}
        await send(start)
        await send(body)

    async def _events(self, scope: Scope, receive: Receive, send: Send, job_id: str) -> None:
        reader = await self._gate.reader(scope, job_id=job_id)
        await self._streams.serve(scope, receive, send, order=await self._pages.own(job_id, reader.wallet))

    async def listed(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - a body is not read
        """Serve `/api/jobs?limit=20&status=complete&before={id}`."""
        if scope["method"] == "OPTIONS":
            return await respond_preflight(send, "GET, OPTIONS")
        if scope["method"] != "GET":
            raise refuse_method(scope, "GET")
        wallet = (await self._gate.reader(scope)).wallet
        limit, state, before = _filters(scope["query_string"])
        jobs = await self._database.look(lambda: self._list(wallet, limit=limit, state=state, before=before))
        following = jobs[-1]["jobId"] if len(jobs) == limit else None
        await respond_json(send, 200, {"success": True, "jobs": jobs, "next": following}, [PRIVATE])

    def _list(self, wallet: str, *, limit: int, state: str | None, before: str | None) -> list[dict[str, Any]]:
        found = views.of_wallet(self._database, wallet, limit=limit, state=state, before=before)
        return [self._bodies.body(order) for order in found]

    async def _cancel(self, scope: Scope, receive: Receive, send: Send, job_id: str) -> None:  # noqa: ARG002 - a body is not read
        signed = await self._gate.writer(scope)
        order = await self._pages.own(job_id, signed.wallet)
        if order.state is None:
            raise JobNotPaid
        await self._gate.burn(scope, signed)
        await self._cancel_job(job_id)
        for message in await self._pages.page(job_id, signed.wallet, signed=False):
            await send(message)

    async def _delete(self, scope: Scope, send: Send) -> None:
        job_id = scope["path"][len(PREFIX) :]
        signed = await self._gate.writer(scope)
        order = await self._pages.own(job_id, signed.wallet)
        if order.state not in ("failed", "complete"):
            raise JobNotEnded(f"This job is {state_of(order)}; it can be deleted when it has ended.")
        await self._gate.burn(scope, signed)
        now = self._clock.now_ms()
        await self._database.write(lambda connection: _delete(connection, job_id, wallet=signed.wallet, now=now))
        await self._erase(job_id)
        await respond_json(send, 200, {"success": True, "jobId": job_id, "deleted": True}, [PRIVATE])


def _delete(connection: sa.Connection, job_id: str, *, wallet: str, now: int) -> None:
    """Delete a job's files; a failed job leaves the list too, a complete one stays as the record of the sale."""
    if asset_store.is_input_of_open_order(connection, job_id=job_id, wallet=wallet):
        raise JobInUse
    asset_store.mark_deleted(connection, job_id=job_id, now=now)
    store.delete_failed(connection, job_id=job_id, wallet=wallet, now=now)


def _filters(query: bytes) -> tuple[int, str | None, str | None]:
    try:
        fields = parse_qs(query.decode(), keep_blank_values=True, max_num_fields=10)
    except ValueError:
        raise InvalidInput("The query string cannot be read.") from None
    issues: list[Issue] = []
    limit = fields.get("limit", [str(LISTED)])[-1]
    state = fields.get("status", [""])[-1] or None
    if not (limit.isascii() and limit.isdecimal() and len(limit) < 5 and 1 <= int(limit) <= MOST_LISTED):
        issues.append(Issue(("limit",), "out_of_range", f"limit is a whole number from 1 to {MOST_LISTED}"))
    if state is not None and state not in STATES:
        issues.append(Issue(("status",), "unknown_value", "status is not a state of a job", STATES))
    unknown = sorted(set(fields) - {"limit", "status", "before"})
    issues.extend(
        Issue((name,), "unknown_field", f"Unknown filter {name!r}", ("limit", "status", "before")) for name in unknown
    )
    if issues:
        raise InvalidInput("The filters of this list are wrong.", issues=issues)
    return int(limit), state, fields.get("before", [""])[-1] or None
