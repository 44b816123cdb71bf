"""The steps of making a job. Each may be repeated after a stop at any point and has its effect once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from enum import Enum
from functools import partial
from typing import Any, TypeVar

import sqlalchemy as sa

from stablestudio.clock import Clock
from stablestudio.errors import InvalidInput, StudioError
from stablestudio.failpoints import reach
from stablestudio.jobs.busy import Busy
from stablestudio.jobs.decisions import (
    OVERDUE,
    Pace,
    Refusal,
    Step,
    Turn,
    Verb,
    failure,
    is_lasting,
    is_overdue,
    next_turn,
    nobody_took_it,
    retry_pause,
    shift_of,
    step,
)
from stablestudio.jobs.keeper import Keeper
from stablestudio.jobs.lease import Alone, LeaseOver, NothingAsked, Right
from stablestudio.jobs.progress import ProgressNotes
from stablestudio.jobs.retention import Retention
from stablestudio.jobs.work import work_of
from stablestudio.media.storage import Storage
from stablestudio.providers.answers import Undecided
from stablestudio.providers.bindings import Binding, Bindings, ProviderMissing
from stablestudio.providers.provider import (
    LOOK_PATIENCE,
    Accepted,
    Cancels,
    Failed,
    FailureKind,
    Made,
    NotAccepted,
    Running,
    Work,
)
from stablestudio.store import executors
from stablestudio.store import jobs as store
from stablestudio.store.database import CommitUnknown, Database

log = logging.getLogger(__name__)
T = TypeVar("T")
# A held payment is collected while it is still good, or not at all.
_CHARGE_MARGIN_MS = 30_000
# A vendor that has all the work it may have is looked at again after this long.
_FULL_SECONDS = 1.0
_TOLD = 1000  # characters of a vendor's words
_OF_THE_OPERATOR = {401: FailureKind.UPSTREAM_AUTH, 402: FailureKind.UPSTREAM_QUOTA}
# A vendor's answer is written down even where the disk is full for a moment: pauses between tries, in seconds.
_WRITE_AGAIN = (0.2, 1.0, 5.0)


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
        self._restored_at = restored_at or 0
        self._may_ask = may_ask
        self._right = right or Alone()
        self.progress = ProgressNotes(database, clock=clock)
        self._draining = False
        self._busy = Busy(at_once)
        self._asking: set[str] = set()  # jobs whose vendor is being asked by this very process
        # Attempts whose intent is on disk, or may be, as its commit was not answered, and that nobody was asked for: our
        # own, in this life, or their vendor would have to be asked what became of them.
        self._unasked: set[tuple[str, int]] = set()

    async def advance(self, verb: Verb, job_id: str) -> Step:
        """Do one step. An unforeseen fault is not a failure: the step is tried again until the job's deadline."""
        made = await store.making(self._database, job_id, patience=LOOK_PATIENCE if verb == "poll" else 0.0)
        job = made.job
        if (ended := _ended(job)) is not None:
            return ended
        try:
            work = work_of(job, made.order)
        except (LookupError, InvalidInput):
            # An upgrade may drop a model or tighten an input; the money of orders under way must not hang on it.
            return failure(FailureKind.INVALID_INPUT, "This service no longer makes what was ordered.")
        work = self._bound(work, job)
        elapsed = (self._clock.now_ms() - job.created_at) / 1000
        if verb != "charge" and self._is_too_late_to_charge(made):
            late = failure(FailureKind.UPSTREAM_TIMEOUT, "The work was not done before its payment ran out.")
            return await self._abandon(job, work, late)
        try:
            following = await self._step(verb, job, work, elapsed=elapsed)
        except ProviderMissing as missing:
            log.error("provider_missing", extra={"job": job_id, "step": verb, "provider": str(missing)})  # noqa: TRY400
        except LeaseOver:
            log.warning("lease_over", extra={"job": job_id, "step": verb})
        except Undecided as unclear:
            self._note_unclear(job, work, unclear, verb=verb)
        except Exception:
            log.exception("step_faulted", extra={"job": job_id, "step": verb})
        else:
            return await self._paid_for(following, made, verb=verb)
        if is_overdue(elapsed):
            return await self._paid_for(failure(FailureKind.UPSTREAM_UNKNOWN, OVERDUE), made, verb=verb)
        return step(verb, wait=Pace(steady=60.0).wait(elapsed + 4.0))

    async def _paid_for(self, following: Step, made: store.Making, *, verb: Verb) -> Step:
        """Return what follows for a result: what is kept is delivered, once it is paid for, whatever its vendor says later.

        A process may end between keeping and delivering, and the next one asks the vendor again.
        """
        if verb == "charge":
            return following
        if following["do"] == "fail" and await self._is_kept(made.job.id):
            log.warning("kept_after_all", extra={"job": made.job.id, "code": following["code"]})
            following = step("deliver")
        unpaid = following["do"] == "deliver" and made.policy == "complete" and made.payment_state != "settled"
        return step("charge") if unpaid else following

    async def _is_kept(self, job_id: str) -> bool:
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

    @property
    def asking(self) -> frozenset[str]:
        """Jobs whose vendor is being asked: the answer may be the result itself."""
        return frozenset(self._asking)

    async def drain(self, seconds: float) -> None:
        """Ask no vendor any more, and wait for those that are being asked."""
        self._draining = True
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._asking:  # noqa: ASYNC110 - it changes on the engine's own loop
                    await asyncio.sleep(0.05)

    async def _step(self, verb: Verb, job: store.Job, work: Work, *, elapsed: float) -> Step:
        match verb:
            case "submit":
                return await self._submit(job, work)
            case "poll":
                return await self._poll(job, work, elapsed=elapsed)
            case "charge":
                return await self._charge(job, elapsed=elapsed)
            case _:
                return await self._keep(job, work)

    async def _submit(self, job: store.Job, work: Work) -> Step:
        """Ask the vendor, unless that has happened or is happening."""
        if job.task is not None:
            return step("poll")
        if job.id in self._asking:
            return step("submit", wait=1.0)
        self._asking.add(job.id)
        try:
            if self._draining:  # looked at now, or a drain that begins in between would not see this one
                return step("submit", wait=1.0)
            return await self._submit_once(work)
        finally:
            self._asking.discard(job.id)

    async def _submit_once(self, work: Work) -> Step:
        history = await self._database.read(lambda connection: store.submissions_of(connection, work.job_id))
        if history and history[-1].state == "accepted":
            return step("poll")  # by another run, since this one looked
        if history and history[-1].state == "intended":
            if await self._is_anothers(history[-1]):
                return step("submit", wait=_FULL_SECONDS)
            return await self._take_up(work, history)
        turn = self._turn(work, history)
        if isinstance(turn, dict):
            return turn
        binding = self._bindings.bound(work.offering, turn.provider)
        assert binding is not None, "whoever has a turn is bound"
        if not self._busy.has_room(binding, work.job_id) or not self._may_ask():
            return step("submit", wait=_FULL_SECONDS)
        return await self._ask(work, history, binding=binding)

    async def _take_up(self, work: Work, history: Sequence[store.Submission]) -> Step:
        """Go on from an intent of our own: look for an answer that was lost, unless nobody can have been asked."""
        attempt, name = history[-1].attempt, history[-1].provider
        binding = self._bindings.bound(work.offering, name)
        if binding is not None and (work.job_id, attempt) in self._unasked:
            return await self._question(work, history[:-1], binding=binding, attempt=attempt)
        return await self._find(work, attempt=attempt, name=name)

    async def _is_anothers(self, intent: store.Submission) -> bool:
        """Tell whether another process may be asking the vendor at this moment: only after its end can that be found out."""
        if intent.executor is None or intent.executor == self._right.executor:
            return False
        return intent.executor in await self._database.read(executors.ids)

    def _turn(self, work: Work, history: Sequence[store.Submission]) -> Turn | Step:
        """Return who is to be asked now, or what follows instead."""
        refusals = [
            Refusal(provider=each.provider, kind=FailureKind(each.reason), retry_at=each.retry_at or 0)
            for each in history
            if each.reason is not None
        ]
        candidates = [binding.provider.name for binding in self._bindings.candidates(work.offering, work.input)]
        turn = next_turn(candidates, refusals)
        if turn is None:
            return nobody_took_it(refusals)
        wait = (turn.at - self._clock.now_ms()) / 1000
        return turn if wait <= 0 else step("submit", wait=wait)

    async def _ask(self, work: Work, history: Sequence[store.Submission], *, binding: Binding) -> Step:
        """Ask the vendor, once: the intent is on disk before the question is."""
        name, attempt = binding.provider.name, len(history) + 1
        intent: dict[str, Any] = {
            "job_id": work.job_id,
            "attempt": attempt,
            "provider": name,
            "now": self._clock.now_ms(),
        }
        try:
            if not await self._write(partial(store.intend, **intent, executor=self._right.executor)):
                return step("submit", wait=1.0)
        except CommitUnknown:
            self._unasked.add((work.job_id, attempt))
            raise
        reach("make.intended")
        return await self._question(work, history, binding=binding, attempt=attempt)

    async def _question(
        self, work: Work, history: Sequence[store.Submission], *, binding: Binding, attempt: int
    ) -> Step:
        """Ask, now that the intent is on disk; `history` is what went before it."""
        name = binding.provider.name
        self._unasked.discard((work.job_id, attempt))
        self._busy.begin(name, work.job_id)
        if self._may_have_asked(work, history, name=name):
            return await self._find(work, attempt=attempt, name=name)
        try:
            answer = await self._right.bind(binding.provider.submit(replace(work, model=binding.model)))
        except NothingAsked:
            self._unasked.add((work.job_id, attempt))
            raise
        except NotAccepted as refusal:
            return await self._refused(work, refusal, attempt=attempt, name=name)
        reach("make.asked")
        if isinstance(answer, Failed):
            return await self._failed_at_once(work, answer, attempt=attempt)
        return await self._accepted(work, answer, attempt=attempt, provider_name=name)

    async def _failed_at_once(self, work: Work, failed: Failed, *, attempt: int) -> Step:
        """Close the job in one commit with the verdict: this step may run again, and must not ask the next vendor then."""
        following = self._failed(work, failed)
        now = self._clock.now_ms()

        def close(connection: sa.Connection) -> None:
            store.refuse(connection, job_id=work.job_id, attempt=attempt, reason=failed.kind.value, now=now)
            store.fail(connection, job_id=work.job_id, code=following["code"], message=following["message"], now=now)

        await self._write(close)
        return following

    def _may_have_asked(self, work: Work, history: Sequence[store.Submission], *, name: str) -> bool:
        """Tell whether a vendor may have been asked in the time that a restore of the books has forgotten."""
        since = [each for each in history if each.provider == name and each.created_at >= self._restored_at]
        return work.ordered_at < self._restored_at and not since

    async def _poll(self, job: store.Job, work: Work, *, elapsed: float) -> Step:
        """Ask how it goes."""
        if job.task is None:
            return step("submit")
        self._busy.begin(job.provider or "", job.id)
        binding = self._bindings.bound(work.offering, job.provider or "")
        pace = self._pace(work, job.provider or "")
        deadline = (binding and binding.deadline_seconds) or work.offering.deadline_seconds
        answer = await self._bindings.named(job.provider or "").poll(work, job.task)
        reach("make.polled")
        match answer:
            case Made():
                return step("keep")
            case Failed():
                return self._failed(work, answer)
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
            return self._failed(work, output)
        reach("make.fetched")
        await self._keeper.keep(job.id, output)
        reach("make.kept")
        return step("deliver")

    async def _charge(self, job: store.Job, *, elapsed: float) -> Step:
        """Collect the held payment; what is not paid for is not handed over."""
        match await self._charge_order(job.id):
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
        await self._write(partial(store.complete, job_id=job_id, now=now, expires_at=until))
        log.info("job_complete", extra={"job": job_id})
        reach("close.complete")
        await self._clean_up(job_id)

    async def fail(self, job_id: str, *, code: str, message: str) -> None:
        """Close the job as failed and owe the money back, in one commit."""
        now = self._clock.now_ms()
        await self._write(partial(store.fail, job_id=job_id, code=code, message=message, now=now))
        log.warning("job_failed", extra={"job": job_id, "code": code})
        reach("close.failed")
        self._on_failed()
        await self._clean_up(job_id)

    async def _write(self, work: Callable[[sa.Connection], T]) -> T:
        """Write what only the job's own process may write."""

        def write(connection: sa.Connection) -> T:
            self._right.require(connection)
            return work(connection)

        return await self._database.write(write)

    async def _clean_up(self, job_id: str) -> None:
        self._busy.end(job_id)
        if self._on_ended is None:
            return
        try:
            await self._on_ended(job_id)
        except Exception:
            log.exception("not_cleaned_up", extra={"job": job_id})  # the job has ended all the same

    async def _find(self, work: Work, *, attempt: int, name: str) -> Step:
        """A process died between the question and the answer: find out, never ask blindly again (money rule 4)."""
        bound = self._bindings.bound(work.offering, name)
        try:
            found = await self._bindings.named(name).find(replace(work, model=bound.model if bound else ""))
        except NotAccepted as refusal:
            return await self._refused(work, refusal, attempt=attempt, name=name)
        if found is None:
            log.error("possible_duplicate_cost", extra={"job": work.job_id, "provider": name})
            return failure(FailureKind.UPSTREAM_UNKNOWN, "The vendor's answer was lost; the work was not repeated.")
        return await self._accepted(work, found, attempt=attempt, provider_name=name)

    async def _refused(self, work: Work, refusal: NotAccepted, *, attempt: int, name: str) -> Step:
        """Note that the vendor certainly did not take it, and decide who is asked next."""
        told = {"detail": refusal.detail, "request": refusal.request_id, "provider": name, "attempt": attempt}
        log.warning("submission_refused", extra={"job": work.job_id, "kind": refusal.kind.value, **told})
        self._busy.end(work.job_id, provider=name)
        history = await self._database.read(lambda connection: store.submissions_of(connection, work.job_id))
        times = sum(each.provider == name for each in history)
        retry_at = self._clock.now_ms() + round(retry_pause(refusal, times=times) * 1000)
        reason, now = refusal.kind.value, self._clock.now_ms()
        verdict = partial(store.refuse, job_id=work.job_id, attempt=attempt, reason=reason, retry_at=retry_at, now=now)
        await self._database.write(verdict)
        bound = self._bindings.bound(work.offering, name)
        if bound is not None and is_lasting(refusal.kind):
            self._bindings.close(bound, work.offering, kind=refusal.kind)
        history = await self._database.read(lambda connection: store.submissions_of(connection, work.job_id))
        turn = self._turn(work, history)
        return turn if isinstance(turn, dict) else step("submit")

    def _failed(self, work: Work, failed: Failed) -> Step:
        """Keep the vendor's own words for the operator; the buyer gets the clean sentence."""
        told = {"kind": failed.kind.value, "detail": failed.detail, "request": failed.request_id}
        log.warning("vendor_failed", extra={"job": work.job_id, **told})
        return failure(failed.kind, failed.message)

    async def _accepted(self, work: Work, answer: Accepted, *, attempt: int, provider_name: str) -> Step:
        save = partial(
            store.accept,
            job_id=work.job_id,
            attempt=attempt,
            provider=provider_name,
            task=answer.task,
            upstream_model=answer.upstream_model,
            now=self._clock.now_ms(),
        )
        for pause in (*_WRITE_AGAIN, None):
            try:
                await self._database.write(save)
                break
            except sa.exc.SQLAlchemyError:
                if pause is None:
                    raise
                # Not every vendor can be asked for this task again: it is worth some patience.
                log.exception("task_not_written", extra={"job": work.job_id, "provider": provider_name})
                await asyncio.sleep(pause)
        reach("make.submitted")
        return step("poll", wait=self._pace(work, provider_name).first)

    def _pace(self, work: Work, provider: str) -> Pace:
        binding = self._bindings.bound(work.offering, provider)
        return Pace(steady=(binding and binding.poll_seconds) or float(work.offering.poll_after))


def _ended(job: store.Job) -> Step | None:
    """Return how a closed job was closed: an engine that lost its own last line may run it once more."""
    if job.state == "failed":
        return Step(do="fail", wait=0.0, code=job.error_code or "", message=job.error or "")
    return step("deliver") if job.state == "complete" else None
