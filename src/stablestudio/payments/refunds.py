"""The refund worker: pays back what failed jobs owe, each once, and survives a stop at any moment."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from stablestudio.clock import Clock
from stablestudio.failpoints import reach
from stablestudio.loops import every
from stablestudio.payments.rail import Rail, Rejected, Settled
from stablestudio.store import refunds as store
from stablestudio.store.database import Database

log = logging.getLogger(__name__)
_INTERVAL = 5.0


class RefundWorker:
    """Sign, remember, send, record: one refund at a time."""

    def __init__(self, database: Database, *, rails: Mapping[str, Rail], clock: Clock) -> None:
        self._database = database
        self._rails = rails
        self._clock = clock
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def wake(self) -> None:
        """Look at once instead of at the next interval; may be called from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake.set)

    async def run(self) -> None:
        """Work until cancelled."""
        self._loop = asyncio.get_running_loop()
        await every(_INTERVAL, self.work_once, name="refunds", wake=self._wake)

    async def work_once(self) -> None:
        """Bring every owed refund one attempt further."""
        for refund in await self._database.read(store.open_refunds):
            rail = self._rails.get(refund.rail)
            try:
                if rail is None:
                    log.error("refund_rail_missing", extra={"order": refund.order_id, "rail": refund.rail})
                else:
                    await self._pay_back(refund, rail)
            except Exception:
                log.exception("refund_faulted", extra={"order": refund.order_id})
            await self._postpone(refund)

    async def _postpone(self, refund: store.Refund) -> None:
        now = self._clock.now_ms()
        await self._database.write(lambda connection: store.postpone(connection, order_id=refund.order_id, now=now))

    async def _pay_back(self, refund: store.Refund, rail: Rail) -> None:
        now = self._clock.now_ms()
        signed = refund.signed
        if signed is None:
            signed = rail.sign_refund(
                order_id=refund.order_id, recipient=refund.recipient, amount=refund.amount, now_s=now // 1000
            )
            kept = signed
            if not await self._database.write(
                lambda connection: store.sign_refund(connection, order_id=refund.order_id, signed=kept, now=now)
            ):
                return  # another worker signed it first and sends its own bytes
            reach("refund.signed")
        outcome = await rail.send_refund(signed)
        reach("refund.sent")
        if isinstance(outcome, Settled):
            transaction = outcome.transaction
            await self._database.write(
                lambda connection: store.settle_refund(
                    connection, order_id=refund.order_id, transaction=transaction, now=self._clock.now_ms()
                )
            )
            log.info("refunded", extra={"order": refund.order_id, "transaction": transaction})
            return
        reason = outcome.reason
        log.warning("refund_not_sent", extra={"order": refund.order_id, "reason": reason})
        if isinstance(outcome, Rejected) and reason == "payment_expired":
            await self._sign_anew(refund)

    async def _sign_anew(self, refund: store.Refund) -> None:
        """An expired transfer can never happen, so signing the same nonce again cannot pay twice."""
        await self._database.write(
            lambda connection: store.forget_signature(
                connection, order_id=refund.order_id, signed=refund.signed or "", now=self._clock.now_ms()
            )
        )
