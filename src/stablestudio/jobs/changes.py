"""Who waits for which job: a change wakes the waiters of that job alone, and they share one look at it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from itertools import islice

from stablestudio.loops import every
from stablestudio.store import views
from stablestudio.store.database import Database
from stablestudio.store.views import OrderView

log = logging.getLogger(__name__)
# How late a change made by another process, such as an operator's command, is heard of at the latest, in seconds.
_INTERVAL = 5.0
_AT_ONCE = 500
# A connection that waits holds some 25 KiB: no job may collect them, and all together stay below half a GiB.
MOST_EACH = 200
MOST = 20_000

Heeds = Callable[[OrderView | None], bool]


class Waiter:
    """One connection that waits for one order."""

    def __init__(self, room: _Room) -> None:
        self._room = room
        self.heeds: Heeds | None = None
        self._turn: asyncio.Future[None] | None = None

    async def look(self) -> OrderView | None:
        """Return the order as it is; after a change the first of its waiters asks the database for all of them."""
        return await self._room.look()

    async def wait(self, seen: OrderView | None, *, seconds: float, heeds: Heeds | None = None) -> None:
        """Return when there may be something newer than `seen`, when the time is over, or when somebody wakes it.

        A change that comes meanwhile counts where the waiter `heeds` it; by default any does.
        """
        self.heeds = heeds
        if self._room.is_over or not self._room.holds(seen):
            return
        loop = asyncio.get_running_loop()
        self._turn = loop.create_future()
        timer = loop.call_later(seconds, self.wake)
        try:
            await self._turn
        finally:
            timer.cancel()
            self._turn = None

    def wake(self) -> None:
        """End the wait."""
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)


class _Room:
    """The waiters of one order, and what one of them saw."""

    def __init__(self, database: Database, order_id: str) -> None:
        self._database = database
        self._order_id = order_id
        self._view: OrderView | None = None
        self._turns = 0
        self._looking = asyncio.Lock()
        self._telling: set[asyncio.Future[None]] = set()
        self.waiters: set[Waiter] = set()
        self.is_over = False

    @property
    def revision(self) -> int | None:
        return self._view.revision if self._view is not None else None

    async def look(self) -> OrderView | None:
        async with self._looking:
            while (seen := self._view) is None:
                turns = self._turns
                seen = await views.find(self._database, self._order_id)
                if turns == self._turns:  # else what was seen may be older than the change that was heard meanwhile
                    self._view = seen
                    break
        return seen

    def holds(self, seen: OrderView | None) -> bool:
        return self._view is seen

    def turn(self) -> None:
        self._view = None
        self._turns += 1
        choosy = [waiter for waiter in self.waiters if waiter.heeds is not None]
        for waiter in self.waiters.difference(choosy):
            waiter.wake()
        if choosy:
            telling = asyncio.ensure_future(self._tell(choosy))
            self._telling.add(telling)
            telling.add_done_callback(self._telling.discard)

    async def _tell(self, choosy: list[Waiter]) -> None:
        """Wake those who wait for such a change, after one look for all of them; where that fails, they look themselves."""
        try:
            seen = await self.look()
        except Exception:
            log.exception("look_failed", extra={"job": self._order_id})
        else:
            choosy = [waiter for waiter in choosy if waiter.heeds is None or waiter.heeds(seen)]
        for waiter in choosy:
            waiter.wake()

    def end(self) -> None:
        self.is_over = True
        self._view = None
        for waiter in self.waiters:
            waiter.wake()


class Changes:
    """Hears of changed orders. It lives on one event loop; changes may come from any thread, or another process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rooms: dict[str, _Room] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiters = 0
        self.is_over = False

    @property
    def waited_for(self) -> int:
        """Return how many orders somebody waits for."""
        return len(self._rooms)

    def start(self) -> None:
        """Listen; call it on the loop that the waiters live on."""
        self._loop = asyncio.get_running_loop()
        self._database.listen(self._hear)

    async def run(self) -> None:
        """Look for changes that other processes made, until cancelled: one question for all that is waited for."""
        await every(_INTERVAL, self.look_around, name="changes")

    def close(self) -> None:
        """Let everybody go: the service is about to stop."""
        self.is_over = True
        for room in self._rooms.values():
            room.end()

    def has_room(self, order_id: str) -> bool:
        """Tell whether one more may wait for an order."""
        room = self._rooms.get(order_id)
        return self._waiters < MOST and (room is None or len(room.waiters) < MOST_EACH)

    @contextmanager
    def waiter(self, order_id: str) -> Iterator[Waiter]:
        """Wait for an order. From here on no change is missed: what `look` does not see yet ends a `wait`."""
        room = self._rooms.setdefault(order_id, _Room(self._database, order_id))
        room.is_over = self.is_over
        waiter = Waiter(room)
        room.waiters.add(waiter)
        self._waiters += 1
        try:
            yield waiter
        finally:
            room.waiters.discard(waiter)
            self._waiters -= 1
            if not room.waiters:
                self._rooms.pop(order_id, None)

    async def look_around(self) -> None:
        """Compare what was seen of all orders that are waited for with what is in the books."""
        seen = {order_id: room.revision for order_id, room in self._rooms.items() if room.revision is not None}
        ids = iter(seen)
        while part := list(islice(ids, _AT_ONCE)):
            known = await self._database.read(lambda connection: views.revisions(connection, part))
            self._turn([order_id for order_id in part if known.get(order_id) != seen[order_id]])

    def _hear(self, told: frozenset[str]) -> None:
        """Pass a change on, from the writer's thread; whoever begins to wait after this look sees the change itself."""
        waited = [word for word in told if word in self._rooms]
        if waited and self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and with it those who waited
                self._loop.call_soon_threadsafe(self._turn, waited)

    def _turn(self, order_ids: Collection[str]) -> None:
        for order_id in order_ids:
            if (room := self._rooms.get(order_id)) is not None:
                room.turn()
