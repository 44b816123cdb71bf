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
            rail = self._rails.get(payment.rail)
            if rail is None:
                log.error("payment_rail_missing", extra={"order": payment.order_id, "rail": payment.rail})
                continue
            await self._finish(payment, rail)

    async def _finish(self, payment: store.Payment, rail: Rail) -> None:
        order = await self._database.read(lambda connection: store.find_order(connection, payment.order_id))
        assert order is not None
        try:
            outcome = await self._ask(payment, rail)
            answer = await self._seller.finish(order, payment, outcome)
        except StudioError as rejected:
            log.info("reconciled", extra={"order": order.id, "outcome": rejected.code})
            return
        except Exception:
            log.exception("reconcile_failed", extra={"order": order.id})
            return
        log.info("reconciled", extra={"order": order.id, "outcome": type(answer).__name__.lower()})

    async def _ask(self, payment: store.Payment, rail: Rail) -> Outcome:
        outcome = await rail.find(payment.credential)
        if isinstance(outcome, Unknown):
            # Not on the chain and not expired: the same authorization again, which the token takes only once.
            return await rail.settle(payment.credential)
        return outcome
