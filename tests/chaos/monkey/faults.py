"""The monkey itself: breaks something by lot every few seconds, and leaves all whole when it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any

import psycopg

from .house import LEASE_SECONDS, House, Seat
from .lots import Lots

_COMMON = {
    "kill -9": 5,
    "freeze and thaw (SIGSTOP)": 3,
    "clock steps": 3,
    "disk is full for a while": 2,
    "books are slow to write (locked for seconds)": 2,
}
_POSTGRES = {
    "PostgreSQL crashes and comes back": 1.5,
    "database connections cut": 4,
    "worker is frozen between intent and question": 1.5,
}
_LONGEST_STEP = 45.0  # seconds that a clock goes wrong by
_STRIDE = 8  # orders that end between two faults, or
_MOST_PAUSES = 6  # so many times the usual pause
_MOST_LEASES = 3  # that a process is frozen for
_FREEZES_WITHIN, _ENDS_WITHIN = 15.0, 20.0  # seconds
_ALL_TABLES = "orders, payments, jobs, submissions, refunds"


class Monkey:
    """Injects faults while the crowd buys."""

    def __init__(
        self, house: House, *, seed: int, pause: float, extra: dict[str, Callable[[], Awaitable[None]]]
    ) -> None:
        """`pause` is the mean time between two faults, in seconds; `extra` are faults of parts outside of the house."""
        self._house = house
        self._pause = pause
        self._extra = extra
        self._weights: dict[str, float] = {**_COMMON, **({} if house.server is None else _POSTGRES)}
        self._weights |= dict.fromkeys(extra, 3.0)
        self.lots = Lots(seed, "monkey", self._weights)
        self._under_way: set[asyncio.Task[None]] = set()
        self._crashing = asyncio.Lock()

    async def run(self, enough: asyncio.Event, progress: Callable[[], int]) -> None:
        """Break things until there was enough, then wait until all is whole.

        `progress` counts what was achieved: on a slow machine faults come slower, or nothing would ever end.
        """
        while not enough.is_set():
            before = progress()
            await _any_of(enough, seconds=self.lots.random.expovariate(1 / self._pause))
            patience = time.monotonic() + _MOST_PAUSES * self._pause
            while progress() < before + _STRIDE and time.monotonic() < patience and not enough.is_set():
                await _any_of(enough, seconds=0.1)
            self._under_way.add(asyncio.create_task(self._break()))
        await asyncio.gather(*self._under_way)
        for seat in self._house.seats:
            seat.shift_clock(0.0)
            seat.signal(signal.SIGCONT)

    async def _break(self) -> None:
        kind = self.lots.draw(self._weights)
        if kind in self._extra:
            return await self._extra[kind]()
        seat = self.lots.random.choice(self._house.seats)
        deeds: dict[str, Callable[[Seat], Awaitable[Any]]] = {
            "kill -9": self._kill,
            "freeze and thaw (SIGSTOP)": self._freeze,
            "clock steps": self._step_clock,
            "disk is full for a while": self._fill_disk,
            "books are slow to write (locked for seconds)": self._lock_books,
            "PostgreSQL crashes and comes back": self._crash_postgres,
            "database connections cut": self._cut,
            "worker is frozen between intent and question": self._freeze_at_intent,
        }
        await deeds[kind](seat)

    async def _kill(self, seat: Seat) -> None:
        seat.signal(signal.SIGKILL)

    async def _freeze(self, seat: Seat) -> None:
        pid = seat.pid
        seat.signal(signal.SIGSTOP)
        await asyncio.sleep(self.lots.between(1, 5 if self._house.server is None else _MOST_LEASES * LEASE_SECONDS))
        if seat.pid == pid:
            seat.signal(signal.SIGCONT)

    async def _freeze_at_intent(self, _: Seat) -> None:
        """Freeze a worker where it may ask a vendor next, until the others have its jobs: it must not ask any more."""
        seat = self.lots.random.choice([seat for seat in self._house.seats if seat.role == "worker"])
        seat.failpoint = "make.intended=freeze"
        seat.signal(signal.SIGKILL)
        if not await _until(lambda: seat.failpoint is None and seat.is_frozen, seconds=_FREEZES_WITHIN):
            seat.failpoint = None
            seat.signal(signal.SIGKILL)  # nothing was asked for; else it would freeze when nobody looks
            return
        pid = seat.pid
        await asyncio.sleep(_MOST_LEASES * LEASE_SECONDS)
        thawed = time.monotonic()
        while seat.pid == pid and seat.exit_status() is None:  # the failpoint freezes it each time that it gets there
            seat.signal(signal.SIGCONT if time.monotonic() < thawed + _ENDS_WITHIN else signal.SIGKILL)
            await asyncio.sleep(0.2)

    async def _step_clock(self, seat: Seat) -> None:
        seat.shift_clock(self.lots.between(-_LONGEST_STEP, _LONGEST_STEP))
        await asyncio.sleep(self.lots.between(2, 10))
        seat.shift_clock(0.0)

    async def _fill_disk(self, seat: Seat) -> None:
        """Let none of its files grow beyond a random size."""
        _limit(seat, self._size() + self.lots.random.randrange(60_000))
        await asyncio.sleep(self.lots.between(0.5, 3))
        _limit(seat, resource.RLIM_INFINITY)

    def _size(self) -> int:
        """Return the size of what the store writes to; a PostgreSQL has its own disk."""
        log = self._house.any.database.with_name("stablestudio.db-wal")
        return log.stat().st_size if self._house.server is None and log.exists() else 0

    async def _lock_books(self, _: Seat) -> None:
        await asyncio.to_thread(self._hold_books, self.lots.between(0.5, 3))

    def _hold_books(self, seconds: float) -> None:
        try:
            if self._house.server is None:
                with closing(sqlite3.connect(self._house.any.database, timeout=30, isolation_level=None)) as file:
                    file.execute("BEGIN IMMEDIATE")
                    time.sleep(seconds)
                return
            with psycopg.connect(self._house.any.books) as connection:
                connection.execute(f"LOCK TABLE {_ALL_TABLES} IN EXCLUSIVE MODE".encode())
                connection.execute("SELECT pg_sleep(%s)", [seconds])
        except (sqlite3.OperationalError, psycopg.Error):
            return  # another fault was in the way

    async def _crash_postgres(self, _: Seat) -> None:
        server = self._house.server
        assert server is not None
        async with self._crashing:
            await asyncio.to_thread(server.stop, signal.SIGQUIT)
            await asyncio.sleep(self.lots.between(0.2, 3))
            await asyncio.to_thread(server.start)

    async def _cut(self, _: Seat) -> None:
        share = self.lots.random.choice((0.1, 0.3, 1.0))
        await asyncio.to_thread(self._cut_share, share)

    def _cut_share(self, share: float) -> None:
        sql = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid() AND random() < %s"""
        try:
            with psycopg.connect(self._house.any.books) as connection:
                connection.execute(sql, [share])
        except psycopg.Error:
            return


async def _any_of(event: asyncio.Event, *, seconds: float) -> None:
    """Wait for an event for so long at most."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


async def _until(happened: Callable[[], bool], *, seconds: float) -> bool:
    """Wait for something for so long at most; tell whether it happened."""
    deadline = time.monotonic() + seconds
    while not happened() and time.monotonic() < deadline:  # noqa: ASYNC110 - a process' state tells nobody
        await asyncio.sleep(0.05)
    return happened()


def _limit(seat: Seat, size: int) -> None:
    try:
        resource.prlimit(seat.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    except ProcessLookupError:
        return
