"""What a process does beside answering: makes jobs under a lease of its own, and has the duties that one does for all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from stablestudio.clock import Clock
from stablestudio.jobs.engine import DbosEngine
from stablestudio.jobs.lease import Lease
from stablestudio.jobs.maker import Maker
from stablestudio.jobs.purge import Purger
from stablestudio.jobs.reaper import Reaper
from stablestudio.jobs.sweep import Sweep
from stablestudio.jobs.webhooks import WebhookWorker
from stablestudio.loops import every
from stablestudio.media.copies import Copies
from stablestudio.media.storage import Storage
from stablestudio.media.uploads import UploadDesk
from stablestudio.payments.refunds import RefundWorker
from stablestudio.providers.bindings import Bindings
from stablestudio.sales.reconcile import Reconciler
from stablestudio.store import echoes, nonces
from stablestudio.store import jobs as job_store
from stablestudio.store import payments as payment_store
from stablestudio.store.database import Database
from stablestudio.store.place import Place

log = logging.getLogger(__name__)
_TIDY_SECONDS = 600.0
_PLACE_SECONDS = 2.0
_HAND_OVER_SECONDS = 1.0
_QUIET_SECONDS = 3600.0
_ECHOES_KEPT_MS = 3600 * 1000
_REJECTED_KEPT_MS = 24 * 3600 * 1000
_WORKFLOWS_KEPT_MS = 3600 * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Duties:
    """The looking after money, messages and files."""

    database: Database
    clock: Clock
    bindings: Bindings
    reconciler: Reconciler
    refunds: RefundWorker
    webhooks: WebhookWorker
    desk: UploadDesk
    copies: Copies
    purger: Purger
    storage: Storage
    engine: DbosEngine

    async def begin(self, *, alone: bool) -> list[Coroutine[Any, Any, None]]:
        """Return the loops to run. What looks open is nobody's where this process is alone, else it may be in other hands."""
        await self._warn_of_strays()
        if alone:
            await self.reconciler.work_once(quiet_ms=0)
        return [
            self.reconciler.run(),
            self.refunds.run(),
            every(_TIDY_SECONDS, self._tidy, name="tidy"),
            every(_TIDY_SECONDS, self.desk.purge, name="purge_uploads"),
            every(_TIDY_SECONDS, self.copies.purge, name="purge_copies"),
            self.storage.sweep(quiet_s=0.0 if alone else _QUIET_SECONDS),
            self.purger.run(),
            self.webhooks.run(),
        ]

    async def _warn_of_strays(self) -> None:
        """Tell of paid jobs that are with a provider which the settings no longer have: only its key can fetch them."""
        for name, count in (await self.database.read(job_store.open_at)).items():
            if name not in self.bindings.providers:
                log.error("provider_missing", extra={"provider": name, "jobs": count})

    async def _tidy(self) -> None:
        """Forget what nobody can ask for any more."""
        now = self.clock.now_ms()
        await self.database.write(lambda connection: nonces.forget_expired(connection, now=now))
        await self.database.write(lambda connection: echoes.forget(connection, before=now - _ECHOES_KEPT_MS, now=now))
        await self.database.write(
            lambda connection: payment_store.forget_rejected(connection, before=now - _REJECTED_KEPT_MS)
        )
        await self.engine.forget(before_ms=now - _WORKFLOWS_KEPT_MS)


class Working:
    """Begins, keeps and ends the work of one process."""

    def __init__(
        self,
        database: Database,
        *,
        engine: DbosEngine,
        maker: Maker,
        sweep: Sweep,
        duties: Duties,
        lease: Lease | None,
        place: Place | None,
        drain_seconds: float,
        give_up: Callable[[str], None],
    ) -> None:
        """Take the parts; `lease` and `place` are None where this process is alone.

        `give_up` ends this process for a reason, as a fault that a new one does not have.
        """
        self._engine = engine
        self._maker = maker
        self._sweep = sweep
        self._duties = duties
        self._lease = lease
        self._reaper = Reaper(database, engine=engine, executor=lease.executor) if lease is not None else None
        self._place = place
        self._drain_seconds = drain_seconds
        self._give_up = give_up
        self._tasks: list[asyncio.Task[None]] = []
        self._at_duties: list[asyncio.Task[None]] = []
        self._beat: asyncio.Task[None] | None = None

    async def start(self, *, makes_jobs: bool) -> None:
        """Make jobs, if this process is to do so, and take the duties, at once or when the place is free."""
        if self._lease is not None:
            await self._lease.take()
            self._beat = asyncio.create_task(every(self._lease.beat_seconds, self._keep_lease, name="lease"))
        await self._engine.start(self._maker if makes_jobs else None)
        if makes_jobs:
            self._run(self._sweep.run())
            self._run(self._maker.progress.run())
        if self._reaper is not None and self._lease is not None:
            self._run(every(self._lease.beat_seconds, self._reaper.work_once, name="reaper"))
        if self._place is None:
            await self._take_duties(alone=True)
            return
        await self._mind_place()
        self._run(every(_PLACE_SECONDS, self._mind_place, name="place"))

    async def stop(self) -> None:
        """Stop taking jobs, leave the place of the duties, and hand over the jobs of this process; what is alone goes on at its next start."""
        await _end(self._tasks)
        await _end(self._at_duties)
        # Our duties have ended: another takes them now, while vendors are waited for here.
        leaving = asyncio.create_task(self._give_place_back())
        handing = asyncio.create_task(every(_HAND_OVER_SECONDS, self._hand_over, name="hand_over"))
        await self._maker.asking.drain(self._drain_seconds)
        handing.cancel()
        await asyncio.gather(handing, return_exceptions=True)
        await self._engine.stop()
        await self._leave()
        await leaving

    async def _give_place_back(self) -> None:
        if self._place is not None:
            await asyncio.to_thread(self._place.give_back)

    async def _leave(self) -> None:
        """Give the lease back, so that others go on at once; if that fails, they do so when it is over."""
        if self._lease is None or self._reaper is None or self._beat is None:
            return
        self._beat.cancel()
        await asyncio.gather(self._beat, return_exceptions=True)
        try:
            await self._reaper.hand_over()
        except Exception:
            log.exception("not_handed_over", extra={"executor": self._lease.executor})
        self._lease.close()

    async def _hand_over(self) -> None:
        """Leave to others what waits here while the vendors' answers are awaited."""
        if self._reaper is not None:
            await self._reaper.share(keep=self._maker.asking.jobs)

    async def _keep_lease(self) -> None:
        assert self._lease is not None
        if not await self._lease.renew():
            self._give_up("lease_lost")

    async def _mind_place(self) -> None:
        """Have the duties as long as the place is ours: they end before another works beside us, and begin when it is free."""
        assert self._place is not None
        if self._place.taken and not await asyncio.to_thread(self._place.keep):
            log.error("place_lost")
            await _end(self._at_duties)
        if not self._place.taken and await asyncio.to_thread(self._place.take):
            await self._try_duties()

    async def _try_duties(self) -> None:
        """Take the duties, or make room for a process that can."""
        try:
            await self._take_duties(alone=False)
        except Exception:
            log.exception("work_not_begun")
            self._give_up("work_not_begun")
        else:
            log.info("place_taken")

    async def _take_duties(self, *, alone: bool) -> None:
        for loop in await self._duties.begin(alone=alone):
            self._at_duties.append(asyncio.create_task(loop))

    def _run(self, loop: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(loop))


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel tasks, and go on when the last of them has ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    tasks.clear()
