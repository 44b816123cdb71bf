"""What a job tells its owner, as JSON: state, money, links that are signed anew at each read."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import lru_cache
from typing import Any

from pydantic_core import from_json

from stablestudio import catalog
from stablestudio.catalog import Offering
from stablestudio.clock import Clock, iso
from stablestudio.media.links import Links
from stablestudio.money import Money
from stablestudio.store import views
from stablestudio.store.database import Database
from stablestudio.store.views import AssetView, OrderView

PREFIX = "/api/jobs/"
_LONGEST_DATA = 2_000
_POLL_AFTER = 5
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


class Phase(Enum):
    """How far an order is."""

    MAKING = "making"
    REPAYING = "repaying"  # the job has failed, and its money is on the way back
    OVER = "over"  # neither job nor money will change any more


class JobBodies:
    """Writes jobs as their owners read them."""

    def __init__(
        self, database: Database, *, links: Links, clock: Clock, poll_after: Callable[[Offering], int]
    ) -> None:
        """Take the parts; `poll_after` gives the seconds between two reads of a job."""
        self._database = database
        self._poll_after = poll_after
        self._links = links
        self._clock = clock

    def whole(self, order: OrderView) -> dict[str, Any]:
        """Return a job with its input, however long; of inline media the beginning is told."""
        shown = self.body(order)
        if order.input is None:
            shown["input"] = _without_data(from_json(views.whole_input(self._database, order.id)))
        return shown

    def body(self, order: OrderView) -> dict[str, Any]:
        """Return a job, with its input where that is short."""
        offering = _offering(order.model, order.operation)
        state = state_of(order)
        body: dict[str, Any] = {
            "success": True,
            "jobId": order.id,
            "type": offering.type if offering else f"{order.model}-{order.operation}",
            "status": state,
            "progress": order.progress or 0,
            "createdAt": iso(order.ordered_at),
            "updatedAt": iso(order.updated_at or order.ordered_at),
            "pollUrl": f"{self._links.origin}{PREFIX}{order.id}",
            "payment": payment_of(order),
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
            body["pollAfter"] = self._poll_after(offering) if offering else _POLL_AFTER
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


def phase_of(order: OrderView) -> Phase:
    """Return how far an order is."""
    state = state_of(order)
    if state == "failed" and order.refund_state != "refunded" and order.payment_state not in ("rejected", "released"):
        return Phase.REPAYING
    return Phase.OVER if state in ("complete", "failed") else Phase.MAKING


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


def state_of(order: OrderView) -> str:
    """Return a job's state; an order that was never paid has failed."""
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
def _offering(model: str, operation: str) -> Offering | None:
    """Return what was sold; an offering that was taken out of the catalog keeps its jobs."""
    return catalog.find(model, operation)


def payment_of(order: OrderView) -> dict[str, Any]:
    """Return what became of an order's money."""
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
