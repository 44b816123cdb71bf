"""Charge held payments: settle, once the work is done and before it is handed over."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from stablestudio.clock import Clock
from stablestudio.errors import StudioError
from stablestudio.failpoints import reach
from stablestudio.jobs.maker import Charged
from stablestudio.payments.rail import Rail
from stablestudio.sales.order import Sold
from stablestudio.sales.sell import Seller, settle
from stablestudio.store import payments as store
from stablestudio.store.database import Database


class Charger:
    """Collects what was promised. Asked from the engine's thread, it works on the loop that the rails live on."""

    def __init__(self, database: Database, *, rails: Sequence[Rail], seller: Seller, clock: Clock) -> None:
        self._database = database
        self._rails = {rail.name: rail for rail in rails}
        self._seller = seller
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Remember the loop that the rails' connections belong to; call it there."""
        self._loop = asyncio.get_running_loop()

    async def charge(self, order_id: str) -> Charged:
        """Collect an order's payment, or tell that it certainly cannot be collected, or that nobody knows yet."""
        assert self._loop is not None, "start() comes first"
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._charge(order_id), self._loop))

    async def _charge(self, order_id: str) -> Charged:
        payment = await self._database.read(lambda connection: store.find_by_order(connection, order_id))
        order = await self._database.read(lambda connection: store.find_order(connection, order_id))
        assert payment is not None
        assert order is not None
        if payment.state == "held":
            held, now = payment, self._clock.now_ms()
            begun = await self._database.write(lambda connection: store.begin_charge(connection, payment=held, now=now))
            reach("charge.claimed")
            if not begun:
                return Charged.UNKNOWN  # somebody was quicker, perhaps the failure of the job: look again
        if payment.state in ("rejected", "released"):
            return Charged.REFUSED
        if payment.state == "settled":
            return Charged.SETTLED
        try:
            answer = await self._seller.finish(order, payment, await settle(self._rails[payment.rail], payment))
        except StudioError:
            return Charged.REFUSED
        return Charged.SETTLED if isinstance(answer, Sold) and answer.payment.state == "settled" else Charged.UNKNOWN
