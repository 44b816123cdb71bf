"""The jobs of a wallet: read one, list them, delete a failed one, or the files of a complete one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs

import sqlalchemy as sa
from pydantic_core import from_json, to_json

from stablestudio import catalog
from stablestudio.clock import Clock, iso
from stablestudio.errors import InvalidInput, Issue, StudioError
from stablestudio.media.links import Links
from stablestudio.money import Money
from stablestudio.server.http import (
    CORS,
    JSON,
    PRIVATE,
    Answer,
    Receive,
    Scope,
    Send,
    answer,
    refuse_method,
    respond_json,
    respond_preflight,
)
from stablestudio.server.sign_in import Gate
from stablestudio.store import assets as asset_store
from stablestudio.store import jobs as store
from stablestudio.store import views
from stablestudio.store.database import Database
from stablestudio.store.views import AssetView, OrderView

PREFIX = "/api/jobs/"
_STATES = ("pending", "loading", "complete", "failed")
_HEADERS = [JSON, *CORS, PRIVATE]
_MAX_LIST = 100
_LONGEST_PATH = 100
_RENDERED = 10_000
_LONGEST_DATA = 2_000
_REFUNDS = {
    "pending": "refund_pending",
    "waiting": "refund_pending",
    "signed": "refund_pending",
    "refunded": "refunded",
}
_PAYMENTS = {
    "claimed": "unknown",
    "unknown": "unknown",
    "held": "held",
    "settled": "charged",
    "rejected": "rejected",
    "released": "released",
}


_UPLOAD = "upload"  # a paid place for a file is nothing that is made


class JobNotFound(StudioError):
    """There is no such job."""

    status = 404
    hint = "Use the jobId of the answer to your paid request."


class NotYourJob(StudioError):
    """This job belongs to another wallet."""

    status = 403
    hint = (
        "Sign in with the wallet that paid. A wallet of another network is another identity: "
        "a job paid on Solana is read with the Solana key, one paid on Base or Tempo with the EVM key."
    )


class JobNotEnded(StudioError):
    """A job under way cannot be deleted."""

    status = 409
    hint = "Wait until the job is complete or failed."


class JobInUse(StudioError):
    """Another order of yours is being made from this job's file."""

    status = 409
    hint = "Wait until that order has ended, then delete again."


class JobRoutes:
    """`/api/jobs` and `/api/jobs/{id}`."""

    def __init__(
        self, database: Database, *, gate: Gate, links: Links, clock: Clock, erase: Callable[[str], Awaitable[None]]
    ) -> None:
        """Take the parts; `erase` removes the bytes of a job whose files were deleted."""
        self._database = database
        self._gate = gate
        self._links = links
        self._clock = clock
        self._erase = erase
        self._rendered: dict[str, tuple[str, int | None, int, Answer]] = {}

    async def one(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - a body is not read
        """Serve `/api/jobs/{id}`."""
        method = scope["method"]
        if len(scope["path"]) > _LONGEST_PATH:
            raise JobNotFound  # a challenge repeats the path, and clients take 16 KB of headers
        if method == "GET":
            wallet = await self._gate.reader(scope)
            start, body = await self._database.look(lambda: self._read(scope["path"][len(PREFIX) :], wallet))
            await send(start)
            return await send(body)
        if method == "DELETE":
            return await self._delete(scope, send)
        if method == "OPTIONS":
            return await respond_preflight(send, "GET, DELETE, OPTIONS")
        raise refuse_method(scope, "GET, DELETE")

    async def listed(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - a body is not read
        """Serve `/api/jobs?limit=20&status=complete&before={id}`."""
        if scope["method"] == "OPTIONS":
            return await respond_preflight(send, "GET, OPTIONS")
        if scope["method"] != "GET":
            raise refuse_method(scope, "GET")
        wallet = await self._gate.reader(scope)
        limit, state, before = _filters(scope["query_string"])
        jobs = await self._database.look(lambda: self._list(wallet, limit=limit, state=state, before=before))
        following = jobs[-1]["jobId"] if len(jobs) == limit else None
        await respond_json(send, 200, {"success": True, "jobs": jobs, "next": following}, [PRIVATE])

    async def _delete(self, scope: Scope, send: Send) -> None:
        job_id = scope["path"][len(PREFIX) :]
        signed = await self._gate.writer(scope)
        order = await self._database.look(lambda: self._own(job_id, signed.wallet))
        if order.state not in ("failed", "complete"):
            raise JobNotEnded(f"This job is {_state(order)}; it can be deleted when it has ended.")
        await self._gate.burn(scope, signed)
        now = self._clock.now_ms()
        await self._database.write(lambda connection: _delete(connection, job_id, wallet=signed.wallet, now=now))
        await self._erase(job_id)
        await respond_json(send, 200, {"success": True, "jobId": job_id, "deleted": True}, [PRIVATE])

    def _list(self, wallet: str, *, limit: int, state: str | None, before: str | None) -> list[dict[str, Any]]:
        found = views.of_wallet(self._database, wallet, limit=limit, state=state, before=before)
        return [self._body(order) for order in found]

    def _own(self, job_id: str, wallet: str) -> OrderView:
        order = views.find(self._database, job_id)
        if order is None or order.deleted_at is not None or order.model == _UPLOAD:
            raise JobNotFound
        if order.wallet != wallet:
            raise NotYourJob
        return order

    def _read(self, job_id: str, wallet: str) -> Answer:
        """Return the answer to a poll; one that nothing changed since costs a single look at the order's revision."""
        minute = self._clock.now_ms() // 60_000  # links are signed for full minutes
        revision = views.revision(self._database, job_id)
        rendered = self._rendered.get(job_id)
        if rendered is not None and rendered[:3] == (wallet, revision, minute):
            return rendered[3]
        order = self._own(job_id, wallet)
        shown = self._body(order)
        if order.input is None:
            shown["input"] = _without_data(from_json(views.whole_input(self._database, job_id)))
        body = to_json(shown)
        if len(self._rendered) >= _RENDERED:
            self._rendered.clear()
        ready = answer(200, body, _HEADERS)
        self._rendered[job_id] = (wallet, revision, minute, ready)
        return ready

    def _body(self, order: OrderView) -> dict[str, Any]:
        type_, poll_after = _offering(order.model, order.operation)
        state = _state(order)
        body: dict[str, Any] = {
            "success": True,
            "jobId": order.id,
            "type": type_,
            "status": state,
            "progress": order.progress or 0,
            "createdAt": iso(order.ordered_at),
            "updatedAt": iso(order.updated_at or order.ordered_at),
            "pollUrl": f"{self._links.origin}{PREFIX}{order.id}",
            "payment": _payment(order),
        }
        if order.input is not None:
            body["input"] = from_json(order.input)
        if order.upstream_model is not None:
            body["upstreamModel"] = order.upstream_model
        if order.finished_at is not None:
            body["finishedAt"] = iso(order.finished_at)
        if state == "complete":
            body["result"] = self._result(views.assets(self._database, order.id))
            if "expiresAt" in body["result"]:
                body["expiresAt"] = body["result"]["expiresAt"]
        elif state == "failed":
            body["error"] = order.error or "The payment was not settled; nothing was charged."
            body["errorCode"] = order.error_code or "payment_rejected"
        else:
            body["pollAfter"] = poll_after
        return body

    def _result(self, assets: list[AssetView]) -> dict[str, Any]:
        now = self._clock.now_ms()
        main = next((asset for asset in assets if asset.role == "result"), None)
        if main is not None and main.gone == "deleted":
            return {"deleted": True, "deletedAt": iso(main.gone_at or now)}
        if main is not None and (main.gone or (main.expires_at is not None and main.expires_at <= now)):
            return {"expired": True, **_facts(main, assets)}
        links = {
            _link_name(asset): self._links.url(
                asset.key, now_ms=now, content_type=asset.content_type, until_ms=asset.expires_at
            )
            for asset in assets
        }
        return links | (_facts(main, assets) if main else {})


def _delete(connection: sa.Connection, job_id: str, *, wallet: str, now: int) -> None:
    """Delete a job's files; a failed job leaves the list too, a complete one stays as the record of the sale."""
    if asset_store.is_input_of_open_order(connection, job_id=job_id, wallet=wallet):
        raise JobInUse
    asset_store.mark_deleted(connection, job_id=job_id, now=now)
    store.delete_failed(connection, job_id=job_id, wallet=wallet, now=now)


def _link_name(asset: AssetView) -> str:
    if asset.role == "result":
        return "videoUrl" if asset.content_type.startswith("video/") else "imageUrl"
    return f"{asset.role}Url"


def _facts(main: AssetView, assets: list[AssetView]) -> dict[str, Any]:
    """Return what is told of a result beside its links."""
    facts: dict[str, Any] = {
        "contentType": main.content_type,
        "size": main.size,
        "sha256": main.sha256,
        "width": main.width,
        "height": main.height,
    }
    if main.milliseconds is not None:
        facts["durationSeconds"] = main.milliseconds / 1000
    if blurhash := next((asset.blurhash for asset in assets if asset.blurhash), None):
        facts["blurhash"] = blurhash
    if main.expires_at is not None:
        facts["expiresAt"] = iso(main.expires_at)
    return facts


def _state(order: OrderView) -> str:
    return order.state or ("failed" if order.payment_state == "rejected" else "pending")


def _without_data(value: Any) -> Any:
    """Return an input as it was submitted, but for inline media, of which the beginning is told."""
    if isinstance(value, dict):
        return {name: _without_data(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_without_data(each) for each in value]
    if isinstance(value, str) and len(value) > _LONGEST_DATA and value.startswith("data:"):
        return f"{value[:40]}... ({len(value)} characters)"
    return value


@lru_cache(maxsize=256)
def _offering(model: str, operation: str) -> tuple[str, int]:
    """Return (type, poll interval in seconds); an offering that was taken out of the catalog keeps its jobs."""
    offering = catalog.find(model, operation)
    return (offering.type, offering.poll_after) if offering else (f"{model}-{operation}", 5)


def _payment(order: OrderView) -> dict[str, Any]:
    payment: dict[str, Any] = {
        "state": _REFUNDS[order.refund_state] if order.refund_state else _PAYMENTS[order.payment_state],
        "amount": str(Money(order.price_micros)),
        "currency": "USD",
        "amountAtomic": str(order.amount),
        "asset": order.asset,
        "network": order.network,
        "payer": order.payer,
        "transaction": order.transaction,
    }
    if order.refund_state:
        payment["refund"] = {"amountAtomic": str(order.refund_amount), "transaction": order.refund_transaction}
        if order.refund_state == "waiting":
            payment["refund"] |= {"reason": order.refund_reason, "note": "The operator has to approve this refund."}
    return payment


def _filters(query: bytes) -> tuple[int, str | None, str | None]:
    try:
        fields = parse_qs(query.decode(), keep_blank_values=True, max_num_fields=10)
    except ValueError:
        raise InvalidInput("The query string cannot be read.") from None
    issues: list[Issue] = []
    limit = fields.get("limit", ["20"])[-1]
    state = fields.get("status", [""])[-1] or None
    if not (limit.isascii() and limit.isdecimal() and len(limit) < 5 and 1 <= int(limit) <= _MAX_LIST):
        issues.append(Issue(("limit",), "out_of_range", f"limit is a whole number from 1 to {_MAX_LIST}"))
    if state is not None and state not in _STATES:
        issues.append(Issue(("status",), "unknown_value", "status is not a state of a job", _STATES))
    unknown = sorted(set(fields) - {"limit", "status", "before"})
    issues.extend(
        Issue((name,), "unknown_field", f"Unknown filter {name!r}", ("limit", "status", "before")) for name in unknown
    )
    if issues:
        raise InvalidInput("The filters of this list are wrong.", issues=issues)
    return int(limit), state, fields.get("before", [""])[-1] or None
