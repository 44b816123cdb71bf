"""The reaper: jobs of a process whose lease is over are taken up by the others."""

from __future__ import annotations

import logging
from collections.abc import Collection

import sqlalchemy as sa

from stablestudio.jobs.engine import DbosEngine
from stablestudio.store import executors
from stablestudio.store.database import Database
from stablestudio.store.place import send_away

log = logging.getLogger(__name__)


class Reaper:
    """Runs in every process that makes jobs; which of them takes up a dead one's jobs is decided by a row's lock."""

    def __init__(self, database: Database, *, engine: DbosEngine, executor: str) -> None:
        """Take the parts; `executor` is this process' own."""
        self._database = database
        self._engine = engine
        self._own = executor
        self._seen: set[str] = set()

    async def work_once(self) -> None:
        """Look once. Who was overdue at the last look, too, is dead: after a fault of the database all are, for a moment."""
        overdue = await self._database.read(lambda connection: executors.overdue(connection, own=self._own))
        if dead := overdue & self._seen:
            await self._database.write(lambda connection: self._bury(connection, dead))
        self._seen = overdue

    async def share(self, *, keep: Collection[str]) -> None:
        """Enqueue this process' jobs but those to `keep`, if there are others who may take them."""
        if len(await self._database.read(executors.ids)) > 1:
            await self._database.write(lambda _: self._engine.release([self._own], keep=keep))

    async def hand_over(self) -> None:
        """Leave this process' jobs to the others, for good."""
        await self._database.write(lambda connection: self._leave(connection, [self._own]))

    def _bury(self, connection: sa.Connection, names: Collection[str]) -> None:
        if dead := executors.take_overdue(connection, names):
            log.warning("executor_over", extra={"executors": dead})
            send_away(connection, dead)
            self._leave(connection, dead)

    def _leave(self, connection: sa.Connection, names: list[str]) -> None:
        """Enqueue their jobs anew, then forget them: a stop in between leaves them to the next look."""
        self._engine.release(names)
        executors.end(connection, names)
