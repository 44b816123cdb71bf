"""The sweep: compares our unfinished jobs with the engine's and sets going again what was stranded."""

from __future__ import annotations

import logging

from stablestudio.clock import Clock
from stablestudio.jobs.decisions import OVERDUE, is_overdue
from stablestudio.jobs.engine import QUEUE, Engine, EngineState
from stablestudio.jobs.maker import Maker
from stablestudio.loops import every
from stablestudio.providers.provider import FailureKind
from stablestudio.store import jobs as store
from stablestudio.store.database import Database

log = logging.getLogger(__name__)
_INTERVAL = 30.0
_QUIET_MS = 60_000


class Sweep:
    """Looks at jobs that nobody touched for a while."""

    def __init__(self, database: Database, *, engine: Engine, maker: Maker, clock: Clock) -> None:
        self._database = database
        self._engine = engine
        self._maker = maker
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
        lost = {job.id for job in stale if states.get(job.id) is EngineState.LOST}
        for job in stale:
            # Between queue and first step the engine and this process disagree for a moment: look twice.
            if states.get(job.id) is not EngineState.RUNNING and (job.id not in lost or job.id in self._seen_lost):
                await self._mend(job, states.get(job.id))
        self._seen_lost = lost

    async def _mend(self, job: store.Job, state: EngineState | None) -> None:
        log.warning("job_stranded", extra={"job": job.id, "engine": state})
        now = self._clock.now_ms()
        try:
            if not await self._database.write(lambda connection: store.postpone(connection, job=job, now=now)):
                return  # it ended or moved while we looked, or another process mends it
            if is_overdue((now - job.created_at) / 1000):
                await self._maker.fail(job.id, code=FailureKind.UPSTREAM_UNKNOWN.value, message=OVERDUE)
            else:
                await self._engine.restart(job.id, queue=job.provider or QUEUE)
        except Exception:
            log.exception("job_not_mended", extra={"job": job.id})
