"""Asking a vendor for a job, once: the intent is on disk before the question, and an answer that was lost is looked for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import sqlalchemy as sa

from stablestudio.clock import Clock
from stablestudio.failpoints import reach
from stablestudio.jobs.busy import Busy
from stablestudio.jobs.decisions import (
    Refusal,
    Step,
    Turn,
    failure,
    is_lasting,
    next_turn,
    nobody_took_it,
    retry_pause,
    step,
)
from stablestudio.jobs.lease import NothingAsked, Right, write_as
from stablestudio.jobs.work import pace_of
from stablestudio.providers.bindings import Binding, Bindings
from stablestudio.providers.provider import Accepted, Failed, FailureKind, NotAccepted, Work
from stablestudio.store import executors
from stablestudio.store import jobs as store
from stablestudio.store.database import CommitUnknown, Database

log = logging.getLogger(__name__)
# A vendor that has all the work it may have is looked at again after this long.
_FULL_SECONDS = 1.0
# A vendor's answer is written down even where the disk is full for a moment: pauses between tries, in seconds.
_WRITE_AGAIN = (0.2, 1.0, 5.0)


class Asking:
    """Asks the vendors of jobs; each question may be repeated after a stop at any point, and is asked once (money rule 4)."""

    def __init__(
        self,
        database: Database,
        *,
        bindings: Bindings,
        clock: Clock,
        busy: Busy,
        right: Right,
        may_ask: Callable[[], bool],
        restored_at: int,
    ) -> None:
        """Take the parts, which are told of at the `Maker`."""
        self._database = database
        self._bindings = bindings
        self._clock = clock
        self._busy = busy
        self._right = right
        self._may_ask = may_ask
        self._restored_at = restored_at
        self._draining = False
        self._jobs: set[str] = set()  # whose vendor is being asked by this very process
        # Attempts whose intent is on disk, or may be, as its commit was not answered, and that nobody was asked for: our
        # own, in this life, or their vendor would have to be asked what became of them.
        self._unasked: set[tuple[str, int]] = set()

    @property
    def jobs(self) -> frozenset[str]:
        """Jobs whose vendor is being asked: the answer may be the result itself."""
        return frozenset(self._jobs)

    async def drain(self, seconds: float) -> None:
        """Ask no vendor any more, and wait for those that are being asked."""
        self._draining = True
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._jobs:  # noqa: ASYNC110 - it changes on the engine's own loop
                    await asyncio.sleep(0.05)

    async def submit(self, job: store.Job, work: Work) -> Step:
        """Ask the vendor, unless that has happened or is happening."""
        if job.task is not None:
            return step("poll")
        if job.id in self._jobs:
            return step("submit", wait=1.0)
        self._jobs.add(job.id)
        try:
            if self._draining:  # looked at now, or a drain that begins in between would not see this one
                return step("submit", wait=1.0)
            return await self._submit_once(work)
        finally:
            self._jobs.discard(job.id)

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
            if not await write_as(
                self._right, self._database, partial(store.intend, **intent, executor=self._right.executor)
            ):
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
        following = failed_as(work, failed)
        now = self._clock.now_ms()

        def close(connection: sa.Connection) -> None:
            store.refuse(connection, job_id=work.job_id, attempt=attempt, reason=failed.kind.value, now=now)
            store.fail(connection, job_id=work.job_id, code=following["code"], message=following["message"], now=now)

        await write_as(self._right, self._database, close)
        return following

    def _may_have_asked(self, work: Work, history: Sequence[store.Submission], *, name: str) -> bool:
        """Tell whether a vendor may have been asked in the time that a restore of the books has forgotten."""
        since = [each for each in history if each.provider == name and each.created_at >= self._restored_at]
        return work.ordered_at < self._restored_at and not since

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
        return step("poll", wait=pace_of(work, self._bindings.bound(work.offering, provider_name)).first)


def failed_as(work: Work, failed: Failed) -> Step:
    """Return what follows a vendor's failure: its own words are for the operator, the buyer gets the clean sentence."""
    told = {"kind": failed.kind.value, "detail": failed.detail, "request": failed.request_id}
    log.warning("vendor_failed", extra={"job": work.job_id, **told})
    return failure(failed.kind, failed.message)
