"""The reconciler: finishes every claim that a stop or a lost answer left open, from what the chain says."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from stablestudio.clock import Clock
from stablestudio.errors import StudioError
from stablestudio.loops import every
from stablestudio.payments.evm.chain import FINALITY_SECONDS
from stablestudio.payments.rail import Outcome, Rail, Rejected, Settled, Unknown
from stablestudio.sales.order import Held, Sold
from stablestudio.sales.sell import Seller, settle
from stablestudio.store import payments as store
from stablestudio.store.database import Database

log = logging.getLogger(__name__)
_INTERVAL = 5.0
# Longer than any settlement that is still being waited for in a living process: half a minute of facilitators, and what
# a claim may take whose commit was not answered.
_QUIET_MS = 45_000
# After that the chain's word on an expired payment is the last; a minute more for clocks that differ.
_FINAL_MS = (FINALITY_SECONDS + 60) * 1000
_GIVEN_BACK = ("rejected", "released")
_AT_ONCE = 8


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
        """Look once at every open payment untouched for `quiet_ms`, and at those given back that a stranger could settle."""
        now = self._clock.now_ms()
        open_ = await self._database.read(lambda connection: store.open_payments(connection, before=now - quiet_ms))
        over = await self._database.read(lambda connection: store.watched_payments(connection, before=now - _FINAL_MS))
        places = asyncio.Semaphore(_AT_ONCE)  # one slow node must not hold the other rails up
        await asyncio.gather(*(self._finish(payment, places) for payment in open_))
        await asyncio.gather(*(self._look_again(payment, places) for payment in over))

    async def _finish(self, payment: store.Payment, places: asyncio.Semaphore) -> None:
        async with places:
            await self._record(payment, self._ask)

    async def _look_again(self, payment: store.Payment, places: asyncio.Semaphore) -> None:
        """Ask the chain a last time about a payment that was given back, now that nobody can settle it any more."""
        async with places:
            await self._record(payment, self._ask_last)

    async def _record(self, payment: store.Payment, ask: Callable[[store.Payment, Rail], Awaitable[Outcome]]) -> None:
        try:
            order = await self._database.read(lambda connection: store.find_order(connection, payment.order_id))
            assert order is not None
            rail = self._rails.get(payment.rail)
            if rail is None:
                log.error("payment_rail_missing", extra={"order": payment.order_id, "rail": payment.rail})
                return await (self._look_later(payment) if payment.state in _GIVEN_BACK else self._postpone(payment))
            outcome = await ask(payment, rail)
            if payment.state in _GIVEN_BACK and not isinstance(outcome, Settled):
                return await self._forget(payment, outcome)
            answer = await self._seller.finish(order, payment, outcome)
        except StudioError as rejected:
            log.info("reconciled", extra={"order": payment.order_id, "outcome": rejected.code})
            return None
        except Exception:
            log.exception("reconcile_failed", extra={"order": payment.order_id, "rail": payment.rail})
            await (self._look_later(payment) if payment.state in _GIVEN_BACK else self._postpone(payment))
            return None
        if payment.state in _GIVEN_BACK:
            await self._close_watch(payment, answer)
        log.info("reconciled", extra={"order": payment.order_id, "outcome": type(answer).__name__.lower()})

    async def _forget(self, payment: store.Payment, outcome: Outcome) -> None:
        if isinstance(outcome, Rejected):
            await self._database.write(lambda connection: store.unwatch(connection, payment_id=payment.id))
        else:
            await self._look_later(payment)

    async def _close_watch(self, payment: store.Payment, answer: Sold | Held) -> None:
        """The money moved: for this order, which has it now, or for a later one of the same credential."""
        if isinstance(answer, Sold) and answer.payment.id == payment.id:
            log.error("given_back_but_settled", extra={"order": payment.order_id, "rail": payment.rail})
        await self._database.write(lambda connection: store.unwatch(connection, payment_id=payment.id))

    async def _look_later(self, payment: store.Payment) -> None:
        """Put a watched payment behind the others, the longer the older it is, so that none starves."""
        now = self._clock.now_ms()
        later = now + max(60_000, (now - payment.claimed_at) // 4)
        await self._database.write(
            lambda connection: store.look_later(connection, payment_id=payment.id, at=later - _FINAL_MS)
        )

    async def _postpone(self, payment: store.Payment) -> None:
        now = self._clock.now_ms()
        await self._database.write(lambda connection: store.postpone(connection, payment_id=payment.id, now=now))

    async def _ask_last(self, payment: store.Payment, rail: Rail) -> Outcome:
        return await rail.find(payment.credential)

    async def _ask(self, payment: store.Payment, rail: Rail) -> Outcome:
        outcome = await rail.find(payment.credential)
        if isinstance(outcome, Unknown):
            # Not on the chain and not expired: the same authorization again, which the token takes only once.
            return await settle(rail, replace(payment, state="unknown"))
        return outcome
