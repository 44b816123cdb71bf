"""The reconciler: finishes every claim that a stop or a lost answer left open, from what the chain says."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from stablestudio.clock import Clock
from stablestudio.errors import StudioError
from stablestudio.loops import every
from stablestudio.payments.rail import Outcome, Rail, Unknown
from stablestudio.sales.sell import Seller
from stablestudio.store import payments as store
from stablestudio.store.database import Database

log = logging.getLogger(__name__)
_INTERVAL = 5.0
# Longer than any settlement that is still being waited for in a living process.
_QUIET_MS = 30_000


class Reconciler:
    """Asks the chain about payments whose outcome nobody recorded."""

    def __init__(self, database: Database, *, rails: Sequence[Rail], seller: Seller, clock: Clock) -> None:
        self._database = database
        self._rails = {rail.name: rail for rail in rails}
        self._seller = seller
        self._clock = clock

    async def run(self) -> None:
        """Work until cancelled."""
        await every(_INTERVAL, self.work_once, name="reconciler")

    async def work_once(self, *, quiet_ms: int = _QUIET_MS) -> None:
        """Look once at every open payment untouched for `quiet_ms`."""
        before = self._clock.now_ms() - quiet_ms
        for payment in await self._database.read(lambda connection: store.open_payments(connection, before=before)):
            await self._finish(payment)

    async def _finish(self, payment: store.Payment) -> None:
        try:
            order = await self._database.read(lambda connection: store.find_order(connection, payment.order_id))
            assert order is not None
            answer = await self._seller.finish(order, payment, await self._ask(payment, self._rails[payment.rail]))
        except StudioError as rejected:
            log.info("reconciled", extra={"order": payment.order_id, "outcome": rejected.code})
            return
        except Exception:
            log.exception("reconcile_failed", extra={"order": payment.order_id, "rail": payment.rail})
            await self._postpone(payment)
            return
        log.info("reconciled", extra={"order": payment.order_id, "outcome": type(answer).__name__.lower()})

    async def _postpone(self, payment: store.Payment) -> None:
        now = self._clock.now_ms()
        await self._database.write(lambda connection: store.postpone(connection, payment_id=payment.id, now=now))

    async def _ask(self, payment: store.Payment, rail: Rail) -> Outcome:
        outcome = await rail.find(payment.credential)
        if isinstance(outcome, Unknown):
            # Not on the chain and not expired: the same authorization again, which the token takes only once.
            return await rail.settle(payment.credential)
        return outcome
