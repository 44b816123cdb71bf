"""How far the vendors are, written down for all jobs together: ten thousand jobs would ask for hundreds of commits a second."""

from __future__ import annotations

import threading
from functools import partial

from stablestudio.clock import Clock
from stablestudio.loops import every
from stablestudio.store import jobs as store
from stablestudio.store.database import Database

_INTERVAL = 0.5  # seconds; buyers hear of progress so much later
_AT_ONCE = 200  # jobs in one transaction


class ProgressNotes:
    """Keeps what vendors told until the next writing. What a process forgets at its end, the next look tells again."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._noted: dict[str, int] = {}
        self._lock = threading.Lock()  # jobs are made in the engine's own thread

    def note(self, job_id: str, percent: int) -> None:
        """Keep a job's progress."""
        with self._lock:
            self._noted[job_id] = percent

    async def run(self) -> None:
        """Write what is noted, twice a second, until cancelled."""
        await every(_INTERVAL, self.write, name="progress")

    async def write(self) -> None:
        """Write what is noted now; jobs that somebody holds are left to the next look at their vendor."""
        with self._lock:
            noted, self._noted = self._noted, {}
        now = self._clock.now_ms()
        told = sorted(noted.items())
        for begin in range(0, len(told), _AT_ONCE):
            some = dict(told[begin : begin + _AT_ONCE])
            await self._database.write(partial(store.set_progress, progress=some, now=now))
