"""The sweep: compares our unfinished jobs with the engine's and sets going again what was stranded."""

from __future__ import annotations

import logging

from stablestudio.clock import Clock
from stablestudio.jobs.engine import LOST, Engine
from stablestudio.loops import every
from stablestudio.store import jobs as store
from stablestudio.store.database import Database

log = logging.getLogger(__name__)
_INTERVAL = 30.0
_QUIET_MS = 60_000


_RUNNING = frozenset({"ENQUEUED", "PENDING", "DELAYED"})


def is_stranded(engine_state: str | None) -> bool:
    """Tell whether the engine will never touch a job again that is not finished by our books."""
    return engine_state not in _RUNNING


class Sweep:
    """Looks at jobs that nobody touched for a while."""

    def __init__(self, database: Database, *, engine: Engine, clock: Clock) -> None:
        self._database = database
        self._engine = engine
        self._clock = clock
        self._seen_lost: set[str] = set()

    async def run(self) -> None:
        """Work until cancelled."""
        await every(_INTERVAL, self.work_once, name="sweep")

    async def work_once(self, *, quiet_ms: int = _QUIET_MS) -> None:
        """Look once at every job untouched for `quiet_ms`."""
        before = self._clock.now_ms() - quiet_ms
        stale = await self._database.read(lambda connection: store.open_jobs(connection, before=before))
        states = await self._engine.states([job.id for job in stale])
        stranded = [job.id for job in stale if is_stranded(states.get(job.id))]
        for job_id in stranded:
            # Between queue and first step the engine and this process disagree for a moment: look twice.
            if states.get(job_id) != LOST or job_id in self._seen_lost:
                await self._restart(job_id, states.get(job_id))
        self._seen_lost = {job_id for job_id in stranded if states.get(job_id) == LOST}

    async def _restart(self, job_id: str, state: str | None) -> None:
        log.warning("job_stranded", extra={"job": job_id, "engine": state})
        try:
            await self._engine.restart(job_id)
        except Exception:
            log.exception("job_not_restarted", extra={"job": job_id})
