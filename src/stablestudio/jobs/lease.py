"""The lease of a process that makes jobs: while it holds the jobs are its own, and after its end it does nothing for them."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa

from stablestudio.ids import new_id
from stablestudio.providers.leaving import Leave, leave
from stablestudio.store import executors
from stablestudio.store.database import Database
from stablestudio.store.migrate import bare_engine

log = logging.getLogger(__name__)
T = TypeVar("T")
# Goes on while the machine sleeps, where there is such a clock: the database's does, too.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_LOOK_SECONDS = 0.5  # the event loop's own timers stand still in that time
_BEATS = 6  # renewals that are tried within the time of one lease


def _now() -> float:
    return time.clock_gettime(_CLOCK)


class LeaseOver(Exception):
    """This process may do nothing for its jobs any more: another one makes them, or may do so at any moment."""


class NothingAsked(LeaseOver):
    """The right was over before anything of a question had left."""


class Right(Protocol):
    """The right to make jobs. `executor` names who has it; None where one process has the database for itself."""

    @property
    def executor(self) -> str | None: ...

    def require(self, connection: sa.Connection) -> None:
        """Raise `LeaseOver` unless the right holds until the end of this transaction."""
        ...

    async def bind(self, work: Coroutine[Any, Any, T]) -> T:
        """Do this work as long as the right holds; raise `LeaseOver` at its end, before it gets one step further.

        What the work asks a vendor over HTTP does not leave after that end, wherever this process was stopped, but for
        what the operating system has already, and a piece that is written in the same turn of the event loop. It is a
        `NothingAsked` where nothing of it had left.
        """
        ...


class Alone:
    """The right of the only process there is."""

    executor = None

    def require(self, connection: sa.Connection) -> None:  # noqa: ARG002 - nobody else writes
        return None

    async def bind(self, work: Coroutine[Any, Any, T]) -> T:
        return await work


async def write_as(right: Right, database: Database, work: Callable[[sa.Connection], T]) -> T:
    """Write what only the process with the right to it may write."""

    def write(connection: sa.Connection) -> T:
        right.require(connection)
        return work(connection)

    return await database.write(write)


class Lease:
    """Kept by renewing it; the database's clock tells others when it is over, and ours tells us no later.

    Ours counts from before a renewal was asked for. It goes on in a process that is stopped (SIGSTOP), and the event
    loop of one that goes on again cancels what is bound before that does anything; of a machine that slept (Linux), within
    half a second.
    """

    def __init__(self, url: str, *, seconds: float) -> None:
        self.executor = new_id("worker")
        self.beat_seconds = seconds / _BEATS
        self._engine = bare_engine(url)
        self._lasts = round(seconds * 1000)
        self._until = 0.0  # by `_CLOCK`
        self._is_away = False  # the database, at the last renewal
        # A thread of its own: what keeps the others busy for long may not cost the lease.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lease")

    async def take(self) -> None:
        """Begin the lease; raise SQLAlchemy's error where the database cannot be reached."""
        await self._in_thread(self._take)

    async def renew(self) -> bool:
        """Renew the lease; `False` if its jobs are another's now. A database that cannot be reached tells nothing."""
        return await self._in_thread(self._renew)

    def require(self, connection: sa.Connection) -> None:
        if not executors.hold(connection, self.executor):
            raise LeaseOver

    async def bind(self, work: Coroutine[Any, Any, T]) -> T:
        context = copy_context()
        given = Leave(self._require_left)
        context.run(leave.set, given)
        bound = asyncio.get_running_loop().create_task(work, context=context)
        watch = _Watch(self, bound)
        try:
            return await bound
        except LeaseOver:
            raise _over(given) from None
        except asyncio.CancelledError:
            if watch.over:
                raise _over(given) from None
            raise
        finally:
            watch.end()

    @property
    def left(self) -> float:
        """Seconds until the lease is over, as far as this process knows."""
        return self._until - _now()

    def close(self) -> None:
        self._thread.shutdown()
        self._engine.dispose()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _require_left(self) -> None:
        if self.left <= 0:
            raise LeaseOver

    def _take(self) -> None:
        asked = _now()
        with self._engine.begin() as connection:
            executors.begin(
                connection, executor=self.executor, host=socket.gethostname(), pid=os.getpid(), lasts=self._lasts
            )
        self._until = asked + self._lasts / 1000

    def _renew(self) -> bool:
        asked = _now()
        try:
            with self._engine.begin() as connection:
                renewed = executors.renew(connection, executor=self.executor, lasts=self._lasts)
        except sa.exc.DBAPIError as error:
            if not self._is_away:
                log.warning("lease_not_renewed", extra={"executor": self.executor, "detail": str(error.orig)})
            self._is_away = True
            return True
        self._is_away = False
        self._until = asked + self._lasts / 1000 if renewed else 0.0
        return renewed


def _over(given: Leave) -> LeaseOver:
    return LeaseOver() if given.used else NothingAsked()


class _Watch:
    """Cancels work at the end of a lease: in the timer's own call, so that nothing of the work comes before it."""

    def __init__(self, lease: Lease, work: asyncio.Future[Any]) -> None:
        self._lease = lease
        self._work = work
        self.over = False
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._look()

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        left = self._lease.left
        if left > 0:  # it may have been renewed since the last look
            self._timer = self._loop.call_later(min(left, _LOOK_SECONDS), self._look)
            return
        self.over = True
        self._work.cancel()
