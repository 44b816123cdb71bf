"""The steps of making a job. Each may be repeated after a stop at any point and has its effect once."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from enum import Enum
from functools import partial
from typing import TypeVar

import sqlalchemy as sa

from stablestudio.clock import Clock
from stablestudio.errors import InvalidInput, StudioError
from stablestudio.failpoints import reach
from stablestudio.jobs.asking import Asking, failed_as
from stablestudio.jobs.busy import Busy
from stablestudio.jobs.decisions import (
    OVERDUE,
    Pace,
    Step,
    Verb,
    failure,
    is_overdue,
    shift_of,
    step,
)
from stablestudio.jobs.keeper import Keeper
from stablestudio.jobs.lease import Alone, LeaseOver, Right, write_as
from stablestudio.jobs.progress import ProgressNotes
from stablestudio.jobs.retention import Retention
from stablestudio.jobs.work import pace_of, work_of
from stablestudio.media.storage import Storage
from stablestudio.providers.answers import Undecided
from stablestudio.providers.bindings import Bindings, ProviderMissing
from stablestudio.providers.provider import (
    LOOK_PATIENCE,
    Cancels,
    Failed,
    FailureKind,
    Made,
    Running,
    Work,
)
from stablestudio.store import jobs as store
from stablestudio.store.database import Database

log = logging.getLogger(__name__)
T = TypeVar("T")
# A held payment is collected while it is still good, or not at all.
_CHARGE_MARGIN_MS = 30_000
AWAY_SECONDS = 5.0  # between two looks whether the books are back
_TOLD = 1000  # characters of a vendor's words
_OF_THE_OPERATOR = {401: FailureKind.UPSTREAM_AUTH, 402: FailureKind.UPSTREAM_QUOTA}


class Charged(Enum):
    """What became of a payment that was held until the work was done."""

    SETTLED = "settled"
    REFUSED = "refused"  # certainly nothing moved
    UNKNOWN = "unknown"


class Maker:
    """Makes one job, step by step; the engine decides when each step runs."""

    def __init__(
        self,
        database: Database,
        *,
        bindings: Bindings,
        storage: Storage,
        clock: Clock,
        on_failed: Callable[[], None],
        charge: Callable[[str], Awaitable[Charged]],
        retention: Retention | None = None,
        on_ended: Callable[[str], Awaitable[None]] | None = None,
        restored_at: int | None = None,
        may_ask: Callable[[], bool] = lambda: True,
        right: Right | None = None,
        at_once: int | None = None,
    ) -> None:
        """Take the parts; `charge` settles the held payment of an order, `retention` is for ever unless given.

        `on_failed` hears that money is owed, `on_ended` that nothing is needed for a job any more. `restored_at` is when
        the books were put back (ms): what was ordered before may be with a vendor already, without their knowing.
        `may_ask` tells whether there is room for what a vendor would make. `right` is this process' right to make jobs.
        `at_once` is how many jobs of a provider it takes: what the engine hands out is limited as the last process said.
        """
        self._database = database
        self._bindings = bindings
        self._keeper = Keeper(database, storage=storage, clock=clock)
        self._clock = clock
        self._on_failed = on_failed
        self._charge_order = charge
        self._retention = retention or Retention()
        self._on_ended = on_ended
        self._right = right or Alone()
        self._busy = Busy(at_once)
        self.progress = ProgressNotes(database, clock=clock)
        self.asking = Asking(
            database,
            bindings=bindings,
            clock=clock,
            busy=self._busy,
            right=self._right,
            may_ask=may_ask,
            restored_at=restored_at or 0,
        )

    async def advance(self, verb: Verb, job_id: str) -> Step:
        """Do one step. An unforeseen fault is not a failure: the step is tried again until the job's deadline."""
        try:
            made = await store.making(self._database, job_id, patience=LOOK_PATIENCE if verb == "poll" else 0.0)
        except sa.exc.OperationalError:  # the books are away, which is told of once, not for each job
            return step(verb, wait=AWAY_SECONDS)
        job = made.job
        if (ended := _ended(job)) is not None:
            return ended
        elapsed = (self._clock.now_ms() - job.created_at) / 1000
        if verb == "charge":  # what is made already is handed over, whether it would be sold today or not
            return await self._charge(job, elapsed=elapsed)
        try:
            work = work_of(job, made.order)
        except (LookupError, InvalidInput):
            # An upgrade may drop a model or tighten an input; the money of orders under way must not hang on it.
            dropped = failure(FailureKind.INVALID_INPUT, "This service no longer makes what was ordered.")
            return await self._paid_for(dropped, made)
        return await self._make(verb, made, self._bound(work, job), elapsed=elapsed)

    async def _make(self, verb: Verb, made: store.Making, work: Work, *, elapsed: float) -> Step:
        job = made.job
        if self._is_too_late_to_charge(made):
            late = failure(FailureKind.UPSTREAM_TIMEOUT, "The work was not done before its payment ran out.")
            return await self._abandon(job, work, late)
        try:
            following = await self._step(verb, job, work, elapsed=elapsed)
        except ProviderMissing as missing:
            log.error("provider_missing", extra={"job": job.id, "step": verb, "provider": str(missing)})  # noqa: TRY400
        except LeaseOver:
            log.warning("lease_over", extra={"job": job.id, "step": verb})
        except Undecided as unclear:
            self._note_unclear(job, work, unclear, verb=verb)
        except Exception:
            log.exception("step_faulted", extra={"job": job.id, "step": verb})
        else:
            return await self._paid_for(following, made)
        return await self._paid_for(_again(verb, elapsed), made)

    async def _paid_for(self, following: Step, made: store.Making) -> Step:
        """Return what follows for a result: what is kept is delivered, once it is paid for, whatever its vendor says later.

        A process may end between keeping and delivering, and the next one asks the vendor again.
        """
        if following["do"] == "fail" and await self.is_kept(made.job.id):
            log.warning("kept_after_all", extra={"job": made.job.id, "code": following["code"]})
            following = step("deliver")
        unpaid = following["do"] == "deliver" and made.policy == "complete" and made.payment_state != "settled"
        return step("charge") if unpaid else following

    async def is_kept(self, job_id: str) -> bool:
        """Tell whether a job's result is in the storage and in the books."""
        return await self._database.read(lambda connection: store.find_result(connection, job_id)) is not None

    def _note_unclear(self, job: store.Job, work: Work, unclear: Undecided, *, verb: Verb) -> None:
        """Tell the operator of an answer that decides nothing. A key that is refused now is refused to new orders, too."""
        reply = unclear.reply
        request = reply.request_id if reply is not None else None
        told = {"step": verb, "provider": job.provider, "detail": str(unclear)[:_TOLD], "request": request}
        log.warning("vendor_unclear", extra={"job": job.id, **told})
        bound = self._bindings.bound(work.offering, job.provider or "")
        if reply is not None and bound is not None and (kind := _OF_THE_OPERATOR.get(reply.status)) is not None:
            self._bindings.close(bound, work.offering, kind=kind)

    def _bound(self, work: Work, job: store.Job) -> Work:
        """Name the vendor's model as the job's binding does, or as the vendor did where the binding is gone."""
        binding = self._bindings.bound(work.offering, job.provider or "")
        return replace(work, model=binding.model if binding else job.upstream_model or "")

    async def _step(self, verb: Verb, job: store.Job, work: Work, *, elapsed: float) -> Step:
        match verb:
            case "submit":
                return await self.asking.submit(job, work)
            case "poll":
                return await self._poll(job, work, elapsed=elapsed)
            case _:
                return await self._keep(job, work)

    async def _poll(self, job: store.Job, work: Work, *, elapsed: float) -> Step:
        """Ask how it goes."""
        if job.task is None:
            return step("submit")
        self._busy.begin(job.provider or "", job.id)
        binding = self._bindings.bound(work.offering, job.provider or "")
        pace = pace_of(work, binding)
        deadline = (binding and binding.deadline_seconds) or work.offering.deadline_seconds
        answer = await self._bindings.named(job.provider or "").poll(work, job.task)
        reach("make.polled")
        match answer:
            case Made():
                return step("keep")
            case Failed():
                return failed_as(work, answer)
            case Running() if elapsed > deadline and await self._waited(job) > deadline:
                late = failure(
                    FailureKind.UPSTREAM_TIMEOUT, f"The vendor did not finish within {deadline:.0f} seconds."
                )
                return await self._abandon(job, work, late)
            case Running():
                if answer.progress is not None and answer.progress > job.progress:
                    self.progress.note(job.id, answer.progress)
                return step("poll", wait=pace.wait(elapsed, shift=shift_of(job.id)))

    async def _waited(self, job: store.Job) -> float:
        """Return for how many seconds the vendor has had the work."""
        since = await self._database.read(lambda connection: store.accepted_at(connection, job.id))
        return (self._clock.now_ms() - (job.created_at if since is None else since)) / 1000

    async def _abandon(self, job: store.Job, work: Work, following: Step) -> Step:
        """Tell the vendor that nobody waits for its task any more, where it can be told; the job ends in any case."""
        provider: object = self._bindings.named(job.provider) if job.provider and job.task else None
        if isinstance(provider, Cancels):
            try:
                cancelled = await provider.cancel(work, job.task or "")
            except Exception:
                log.exception("task_not_cancelled", extra={"job": job.id, "provider": provider.name})
            else:
                log.warning("task_abandoned", extra={"job": job.id, "provider": provider.name, "cancelled": cancelled})
        return following

    async def _keep(self, job: store.Job, work: Work) -> Step:
        """Fetch the output and keep it under a key that is written once."""
        try:
            output = await self._bindings.named(job.provider or "").fetch(work, job.task or "")
        except StudioError as error:
            if error.retryable:
                raise
            return failure(FailureKind.INVALID_INPUT, error.message)
        if isinstance(output, Failed):
            return failed_as(work, output)
        reach("make.fetched")
        await self._keeper.keep(job.id, output)
        reach("make.kept")
        return step("deliver")

    async def _charge(self, job: store.Job, *, elapsed: float) -> Step:
        """Collect the held payment; what is not paid for is not handed over."""
        try:
            charged = await self._charge_order(job.id)
        except Exception:
            log.exception("step_faulted", extra={"job": job.id, "step": "charge"})
            return _again("charge", elapsed)
        match charged:
            case Charged.SETTLED:
                return step("deliver")
            case Charged.REFUSED:
                return failure(FailureKind.PAYMENT_FAILED, "The payment could not be collected when the work was done.")
            case Charged.UNKNOWN:
                return step("charge", wait=Pace().wait(elapsed))

    def _is_too_late_to_charge(self, made: store.Making) -> bool:
        if made.payment_state != "held" or made.payment_expires_at is None:
            return False
        return self._clock.now_ms() >= made.payment_expires_at - _CHARGE_MARGIN_MS

    async def deliver(self, job_id: str) -> None:
        """Add the previews and close the job as complete."""
        result = await self._database.read(lambda connection: store.find_result(connection, job_id))
        if result is None:
            return await self.fail(
                job_id, code=FailureKind.UPSTREAM_UNKNOWN.value, message="The result was lost before it was kept."
            )
        if result.gone is None:  # an engine that lost its own last line may come here once more, much later
            await self._keeper.add_previews(result)
        reach("make.thumbnailed")
        now = self._clock.now_ms()
        until = self._retention.until(result.content_type, now_ms=now)
        await write_as(self._right, self._database, partial(store.complete, job_id=job_id, now=now, expires_at=until))
        log.info("job_complete", extra={"job": job_id})
        reach("close.complete")
        await self._clean_up(job_id)

    async def fail(self, job_id: str, *, code: str, message: str) -> None:
        """Close the job as failed and owe the money back, in one commit."""
        now = self._clock.now_ms()
        await write_as(
            self._right, self._database, partial(store.fail, job_id=job_id, code=code, message=message, now=now)
        )
        log.warning("job_failed", extra={"job": job_id, "code": code})
        reach("close.failed")
        self._on_failed()
        await self._clean_up(job_id)

    async def _clean_up(self, job_id: str) -> None:
        self._busy.end(job_id)
        if self._on_ended is None:
            return
        try:
            await self._on_ended(job_id)
        except Exception:
            log.exception("not_cleaned_up", extra={"job": job_id})  # the job has ended all the same


def _again(verb: Verb, elapsed: float) -> Step:
    """Return what follows a fault: the same step later, until the job's last moment."""
    if is_overdue(elapsed):
        return failure(FailureKind.UPSTREAM_UNKNOWN, OVERDUE)
    return step(verb, wait=Pace(steady=60.0).wait(elapsed + 4.0))


def _ended(job: store.Job) -> Step | None:
    """Return how a closed job was closed: an engine that lost its own last line may run it once more."""
    if job.state == "failed":
        return Step(do="fail", wait=0.0, code=job.error_code or "", message=job.error or "")
    return step("deliver") if job.state == "complete" else None
