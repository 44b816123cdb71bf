"""The sweep: compares our unfinished jobs with the engine's and sets going again what was stranded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

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
_PAGE = 250  # jobs that are looked at in one go: others use the loop and the store between two pages


class Sweep:
    """Looks at jobs that nobody touched for a while."""

    def __init__(self, database: Database, *, engine: Engine, maker: Maker, clock: Clock) -> None:
        self._database = database
        self._engine = engine
        self._maker = maker
        self._clock = clock
        self._seen_lost: set[str] = set()

    async def run(self) -> None:
        """Work until cancelled; what keeps one of both from its work keeps the other from nothing."""
        looks = every(_INTERVAL, self.work_once, name="sweep")
        await asyncio.gather(looks, every(_INTERVAL, self.end_dropped, name="end_dropped"))

    async def work_once(self, *, quiet_ms: int = _QUIET_MS) -> None:
        """Look once at every job untouched for `quiet_ms`."""
        before = self._clock.now_ms() - quiet_ms
        lost: set[str] = set()
        page = await self._page(before)
        while page:
            lost |= await self._look(page)
            page = await self._page(before, after=page[-1])
        self._seen_lost = lost

    async def end_dropped(self) -> None:
        """Have the engine run on with what ended here while it could not write so."""
        for job_id in await self._engine.take_up_dropped():
            log.warning("workflow_dropped", extra={"job": job_id})

    async def _page(self, before: int, *, after: store.Stale | None = None) -> list[store.Stale]:
        return await self._database.read(partial(store.stale, before=before, after=after, limit=_PAGE))

    async def _look(self, page: Sequence[store.Stale]) -> set[str]:
        """Mend what is stranded; return the jobs that the engine believes to run, and nobody runs."""
        states = await self._engine.states([job.id for job in page])
        lost = {job.id for job in page if states.get(job.id) is EngineState.LOST}
        for job in page:
            # Between queue and first step the engine and this process disagree for a moment: look twice.
            if states.get(job.id) is not EngineState.RUNNING and (job.id not in lost or job.id in self._seen_lost):
                await self._mend(job, states.get(job.id))
        return lost

    async def _mend(self, job: store.Stale, state: EngineState | None) -> None:
        log.warning("job_stranded", extra={"job": job.id, "engine": state})
        now = self._clock.now_ms()
        try:
            if not await self._database.write(lambda connection: store.postpone(connection, job=job, now=now)):
                return  # it ended or moved while we looked, or another process mends it
            if is_overdue((now - job.created_at) / 1000) and not await self._maker.is_kept(job.id):
                await self._maker.fail(job.id, code=FailureKind.UPSTREAM_UNKNOWN.value, message=OVERDUE)
            else:
                await self._engine.restart(job.id, queue=job.provider or QUEUE)
        except Exception:
            log.exception("job_not_mended", extra={"job": job.id})
