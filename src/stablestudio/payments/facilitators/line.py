"""An ordered list of facilitators that together settle a payment once: who is asked next, who again, and who never.

A payment goes to the next facilitator only where the one before certainly did nothing. After an answer that leaves
doubt nobody is asked any more but the chain.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import anyio

from stablestudio.clock import Clock
from stablestudio.payments.facilitators.answers import Answer, Passed, Silent, Submission
from stablestudio.payments.facilitators.client import Facilitator, FacilitatorUnreachable, FacilitatorUnusable, Served
from stablestudio.payments.rail import Outcome, Rejected, Settled, Unknown

log = logging.getLogger(__name__)
Find = Callable[[], Awaitable[Outcome]]
# What is begun by then ends within half a minute, after which the reconciler may look at the same payment.
_LAST_CALL_SECONDS = 18.0
_PRUNE_EVERY = 256


class Attempts(Protocol):
    """Remember which facilitator holds a payment, from before it is sent until the payment expires.

    Each verb is atomic. Where several processes settle, or one may be killed and started again, this must be a table:
    `stored.StoredAttempts`.
    """

    async def begin(self, key: str, *, facilitator: str, expires_at: int) -> str | None:
        """Note who is about to get the payment; return None, or the name that was noted before, unchanged.

        A note past its `expires_at` (seconds) counts as none: an expired refund is signed again under the same key.
        """
        ...

    async def spend(self, key: str, *, facilitator: str | None = None) -> bool:
        """Take the one repetition that this holder, or whoever holds it, may get; return whether it was still there."""
        ...

    async def release(self, key: str, *, facilitator: str | None = None) -> bool:
        """Forget this holder, or any, which did nothing; return False, and keep it, where the repetition is taken."""
        ...


@dataclass(slots=True, kw_only=True)
class _Attempt:
    facilitator: str
    expires_at: int
    spent: bool = False


class MemoryAttempts:
    """Attempts of one process: enough where a single process settles, until it stops."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._attempts: dict[str, _Attempt] = {}
        self._begun = 0

    async def begin(self, key: str, *, facilitator: str, expires_at: int) -> str | None:
        self._begun += 1
        if self._begun % _PRUNE_EVERY == 0:
            self._prune()
        standing = self._attempts.get(key)
        if standing is not None and standing.expires_at > self._clock.now_ms() // 1000:
            return standing.facilitator
        self._attempts[key] = _Attempt(facilitator=facilitator, expires_at=expires_at)
        return None

    async def spend(self, key: str, *, facilitator: str | None = None) -> bool:
        attempt = self._held(key, facilitator)
        if attempt is None or attempt.spent:
            return False
        attempt.spent = True
        return True

    async def release(self, key: str, *, facilitator: str | None = None) -> bool:
        attempt = self._held(key, facilitator)
        if attempt is None:
            return True
        if attempt.spent:
            return False
        del self._attempts[key]
        return True

    def _held(self, key: str, facilitator: str | None) -> _Attempt | None:
        attempt = self._attempts.get(key)
        return attempt if attempt is None or facilitator in (None, attempt.facilitator) else None

    def _prune(self) -> None:
        now_s = self._clock.now_ms() // 1000
        self._attempts = {key: attempt for key, attempt in self._attempts.items() if attempt.expires_at > now_s}


class FacilitatorLine:
    """Settle through the first facilitator of the list that takes the payment."""

    def __init__(self, facilitators: Sequence[Facilitator], *, attempts: Attempts, verify_first: bool = False) -> None:
        self._facilitators = {facilitator.name: facilitator for facilitator in facilitators}
        if not facilitators or len(self._facilitators) < len(facilitators):
            raise FacilitatorUnusable("The list of facilitators is empty or names one of them twice.")
        self._attempts = attempts
        self._verify_first = verify_first

    async def check(self, *, network: str, scheme: str = "exact") -> tuple[Served, ...]:
        """Ask each facilitator what it offers; raise a `FacilitatorUnusable` where one is wrong or none is there.

        One that is merely away is logged and left out of the answer: it may be back by the next payment.
        """
        served: list[Served] = []
        away: FacilitatorUnreachable | None = None
        for facilitator in self._facilitators.values():
            try:
                served.append(await facilitator.served(network=network, scheme=scheme))
            except FacilitatorUnreachable as error:
                log.warning("facilitator_away", extra={"facilitator": facilitator.name})
                away = error
        if not served and away is not None:
            raise away
        return tuple(served)

    async def close(self) -> None:
        """Close all connections."""
        for facilitator in self._facilitators.values():
            await facilitator.close()

    async def settle(self, submission: Submission, *, find: Find) -> Outcome:
        """Bring a payment to the chain at most once; `find` tells from the chain what became of it."""
        last_call = anyio.current_time() + _LAST_CALL_SECONDS
        doubt = False
        for facilitator in self._facilitators.values():
            answer = await self._offer(facilitator, submission, find, last_call=last_call)
            if not isinstance(answer, Passed):
                return await _conclude(answer, find, doubt=doubt)
            log.warning("facilitator_passed", extra={"facilitator": facilitator.name, "reason": answer.reason})
            doubt = doubt or not answer.sure
        if doubt:
            return await _conclude(Unknown(reason="facilitators_unavailable"), find, doubt=True)
        return Rejected(
            reason="settlement_unavailable",
            message="No settlement service takes payments at the moment; nothing moved. Try again later.",
        )

    async def _offer(
        self, facilitator: Facilitator, submission: Submission, find: Find, *, last_call: float
    ) -> Outcome | Passed:
        if anyio.current_time() >= last_call:
            return Unknown(reason="facilitators_too_slow")
        key = submission.key
        holder = await self._attempts.begin(key, facilitator=facilitator.name, expires_at=submission.expires_at)
        if holder is not None:
            # An earlier call, a twin or a process that was killed has begun: only that facilitator may finish it.
            return await self._repeat(self._facilitators.get(holder), submission, find)
        answer = await self._ask(facilitator, submission, last_call=last_call)
        if isinstance(answer, Silent):
            return await self._repeat(facilitator, submission, find, last_call=last_call)
        if isinstance(answer, Rejected | Passed) and not await self._attempts.release(
            key, facilitator=facilitator.name
        ):
            return Unknown(reason="settlement_awaited")
        return answer

    async def _ask(self, facilitator: Facilitator, submission: Submission, *, last_call: float) -> Answer:
        if self._verify_first:
            verdict = await facilitator.verify(submission)
            if verdict is not None:
                return verdict
            if anyio.current_time() >= last_call:
                return Passed(reason="facilitators_too_slow")
        answer = await facilitator.settle(submission)
        if isinstance(answer, Unknown):
            # Now, before anything else can fail: neither this process nor another may send it again.
            await self._attempts.spend(submission.key, facilitator=facilitator.name)
        return answer

    async def _repeat(
        self, facilitator: Facilitator | None, submission: Submission, find: Find, *, last_call: float | None = None
    ) -> Outcome:
        """Send the same bytes to the same facilitator once more, unless the chain knows them or they were repeated before."""
        found = await find()
        if not isinstance(found, Unknown):
            return found
        if last_call is not None and anyio.current_time() >= last_call:
            return Unknown(reason="facilitator_timed_out")
        if facilitator is None or not await self._attempts.spend(submission.key, facilitator=facilitator.name):
            return Unknown(reason="settlement_awaited")
        answer = await facilitator.settle(submission)
        # Whatever else it says now is about the second copy; the first may still be on its way.
        return answer if isinstance(answer, Settled) else Unknown(reason=answer.reason)


async def _conclude(answer: Outcome, find: Find, *, doubt: bool) -> Outcome:
    """Let the chain correct a refusal: an earlier copy, or a stranger's, may have been mined."""
    if isinstance(answer, Settled):
        return answer
    found = await find()
    if not isinstance(found, Unknown):
        return found
    return Unknown(reason=answer.reason) if doubt else answer
