"""Pictures in OpenAI's shape: the answer to a paid request waits for the picture itself."""

from __future__ import annotations

import base64
from typing import Any

from pydantic_core import to_json

from stablestudio.errors import StudioError
from stablestudio.media.storage import Storage
from stablestudio.sales.order import Sold
from stablestudio.server.faces.errors import failed
from stablestudio.server.faces.sale import FacedSale
from stablestudio.server.http import Headers, Receive, Scope, Send, header, respond
from stablestudio.server.job_bodies import JobBodies, Phase, phase_of, state_of
from stablestudio.server.poll_tokens import PollTokenExpired, PollTokenInvalid
from stablestudio.server.sell import notes
from stablestudio.server.waits import stated_wait, wait_for_turn
from stablestudio.store import views
from stablestudio.store.database import Database
from stablestudio.store.views import OrderView

PATIENCE_SECONDS = 300
"""How long an answer waits for its picture, and the most that `Prefer: wait` can ask for here."""
_REFUND_SECONDS = 10
_LATE = "The picture is still being made. Read the job at pollUrl; do not pay again."
_NOT_YOURS = (
    "This payment was answered before. Read the job at pollUrl with a signature of the wallet that paid, "
    "or send its poll token, if you have it, as Authorization: Bearer."
)


class PictureSale(FacedSale):
    """Sells one picture."""

    def __init__(self, *args: Any, storage: Storage, bodies: JobBodies, database: Database, **parts: Any) -> None:
        super().__init__(*args, **parts)
        self._storage = storage
        self._bodies = bodies
        self._database = database

    async def answer(self, scope: Scope, receive: Receive, send: Send, sold: Sold) -> None:
        headers, token = self.head(sold)
        stated = stated_wait(scope)
        seconds = PATIENCE_SECONDS if stated is None else min(stated, PATIENCE_SECONDS)
        order = await wait_for_turn(self._changes, sold.job_id, seconds=seconds, receive=receive)
        if order is not None and phase_of(order) is Phase.REPAYING:
            order = await wait_for_turn(self._changes, order.id, seconds=_REFUND_SECONDS, receive=receive)
        if order is None or not (token or self._shows_token(scope, order)):
            return await self._defer(send, sold, headers, {"hint": _NOT_YOURS} | notes(sold))
        if state_of(order) == "failed":
            raise self._told(failed(order, body_of_job=self.awaited(order.id)["pollUrl"]), headers)
        if state_of(order) != "complete":
            return await self._defer(send, sold, headers, {"hint": _LATE, "pollToken": token})
        await respond(send, 200, to_json(await self._picture(order)), headers)

    async def _defer(self, send: Send, sold: Sold, headers: Headers, more: dict[str, Any]) -> None:
        """Answer without a picture: it can be read as a job."""
        body = self.awaited(sold.job_id) | {"data": []} | {name: value for name, value in more.items() if value}
        await respond(send, 202, to_json(body), [*headers, (b"retry-after", b"%d" % body["pollAfter"])])

    def _told(self, error: StudioError, headers: Headers) -> StudioError:
        """Add what a buyer has a right to whatever came of the work: the receipt, and the token that reads the job."""
        kept = (b"poll-token", b"payment-response", b"payment-receipt")
        error.headers += [(name.decode(), value.decode()) for name, value in headers if name.lower() in kept]
        return error

    def _shows_token(self, scope: Scope, order: OrderView) -> bool:
        """Tell whether a request has the job's poll token. OpenAI's clients always send a key, so another one is no fault."""
        scheme, _, text = (header(scope, b"authorization") or "").partition(" ")
        if scheme.lower() != "bearer":
            return False
        try:
            self._tokens.check(text.strip(), order.id, wallet=order.wallet, now_ms=self._clock.now_ms())
        except (PollTokenInvalid, PollTokenExpired):
            return False
        return True

    async def _picture(self, order: OrderView) -> dict[str, Any]:
        job = self._bodies.body(order)
        result = job["result"]
        datum = {"url": result["imageUrl"]} if "imageUrl" in result else {}
        if datum and self.wish is not None and self.wish.inline:
            key = next(asset.key for asset in views.assets(self._database, order.id) if asset.role == "result")
            datum["b64_json"] = base64.b64encode(await self._storage.read(key)).decode()
        return {
            "created": order.ordered_at // 1000,
            "data": [datum] if datum else [],
            "output_format": result["contentType"].partition("/")[2] if "contentType" in result else None,
            "size": f"{result['width']}x{result['height']}" if "width" in result else None,
            "model": order.model,
            **{name: job[name] for name in ("success", "jobId", "pollUrl", "payment")},
        }
