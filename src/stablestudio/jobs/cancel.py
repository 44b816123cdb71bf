"""Cancel a job for its buyer: what nobody works on any more is paid back, all else goes on and is charged."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import sqlalchemy as sa

from stablestudio.clock import Clock
from stablestudio.errors import InvalidInput, StudioError
from stablestudio.failpoints import reach
from stablestudio.jobs.work import work_of
from stablestudio.providers.bindings import Bindings, ProviderMissing
from stablestudio.providers.provider import Cancels, FailureKind
from stablestudio.store import jobs as store
from stablestudio.store.database import Database

log = logging.getLogger(__name__)
_MESSAGE = "Cancelled at the buyer's request; the payment goes back in full."


class CancelTooLate(StudioError):
    """This job cannot be cancelled any more: it goes on, and it is charged."""

    status = 409
    hint = "Wait for its result. If it fails after all, its payment goes back by itself."


class Canceller:
    """Ends jobs early. Whether a job was cancelled, made or had failed first is decided by one compare-and-set."""

    def __init__(self, database: Database, *, bindings: Bindings, clock: Clock, on_failed: Callable[[], None]) -> None:
        """Take the parts; `on_failed` hears that money is owed."""
        self._database = database
        self._bindings = bindings
        self._clock = clock
        self._on_failed = on_failed
        self._under_way: dict[str, asyncio.Future[None]] = {}

    async def cancel(self, job_id: str) -> None:
        """Cancel a paid job, so that its payment goes back; raise `CancelTooLate`. A job that has failed stays so.

        A job that no vendor was asked for ends at once; one that a vendor has ends where the vendor confirms that it stops.
        Whoever asks meanwhile shares the outcome: a vendor that is asked twice may say no the second time.
        """
        if job_id not in self._under_way:
            self._under_way[job_id] = task = asyncio.ensure_future(self._cancel(job_id))
            task.add_done_callback(lambda _: self._under_way.pop(job_id))
        await asyncio.shield(self._under_way[job_id])

    async def _cancel(self, job_id: str) -> None:
        if await self._end(job_id, unasked=True):
            log.info("job_cancelled", extra={"job": job_id, "asked": False})
        elif not await self._has_failed(job_id):
            try:
                await self._give_up_task(job_id)
            except CancelTooLate:
                if await self._has_failed(job_id):  # another cancel was first, or its maker gave up
                    return
                raise
            if not await self._end(job_id, unasked=False) and not await self._has_failed(job_id):
                raise _too_late("This job was complete before it could be cancelled.")
            log.info("job_cancelled", extra={"job": job_id, "asked": True})
        reach("cancel.ended")
        self._on_failed()

    async def _end(self, job_id: str, *, unasked: bool) -> bool:
        """Close the job and owe its money, in one commit; `False` if it has ended, or was asked for meanwhile."""
        now = self._clock.now_ms()

        def close(connection: sa.Connection) -> bool:
            if unasked and store.is_asked_for(connection, job_id):
                return False
            return store.fail(connection, job_id=job_id, code=FailureKind.CANCELLED.value, message=_MESSAGE, now=now)

        return await self._database.write(close)

    async def _has_failed(self, job_id: str) -> bool:
        job = await self._database.read(lambda connection: store.find(connection, job_id))
        return job is not None and job.state == "failed"

    async def _give_up_task(self, job_id: str) -> None:
        """Have the vendor stop; raise `CancelTooLate` where it cannot, does not agree, or nobody knows."""
        job = await self._database.read(lambda connection: store.find(connection, job_id))
        order = await self._database.read(lambda connection: store.order_input(connection, job_id))
        if job is None or order is None or job.state not in ("pending", "loading"):
            raise CancelTooLate("This job is complete.", hint="Read the job: its result is there.", charged=True)
        if job.task is None:
            raise _too_late("This job is being handed to a vendor at this very moment.")
        try:
            provider: object = self._bindings.named(job.provider or "")
            work = work_of(job, order)
        except (ProviderMissing, LookupError, InvalidInput):
            raise _too_late("No vendor of this service knows this job any more.") from None
        if not isinstance(provider, Cancels):
            raise _too_late("The vendor of this model cannot stop what it has begun.")
        try:
            agreed = await provider.cancel(work, job.task)
        except Exception:
            log.exception("task_not_cancelled", extra={"job": job_id, "provider": provider.name})
            raise _too_late("The vendor did not confirm that it stops.") from None
        reach("cancel.confirmed")
        if not agreed:
            raise _too_late("The vendor has gone too far with this job to stop.")


def _too_late(message: str) -> CancelTooLate:
    return CancelTooLate(message, charged=True)
