"""What to do next in the making of a job, decided without a clock, a network or a database."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypedDict

from stablestudio.providers.provider import FailureKind, NotAccepted

MAX_ATTEMPTS = 3
MAX_WAITS = 10  # for a vendor that only asks for patience
MAX_WAIT_SECONDS = 120.0
# Vendors forget a task after a day; until then nobody gives up what nobody knows the end of.
HARD_DEADLINE_SECONDS = 24 * 3600
OVERDUE = "The work could not be finished within a day."
_REFUSED = {
    FailureKind.INVALID_INPUT: "No provider of this route takes this input.",
    FailureKind.UPSTREAM_AUTH: "This service is not signed in with the vendor at the moment.",
    FailureKind.UPSTREAM_QUOTA: "This service has no credit left with the vendor at the moment.",
    FailureKind.UPSTREAM_RETIRED: "The vendor no longer makes this.",
    FailureKind.RATE_LIMITED: "The vendor is too busy for this service at the moment.",
}


Verb = Literal["submit", "poll", "keep", "charge", "deliver"]


class Step(TypedDict):
    """The next step of a job, as plain JSON, because the engine writes it down."""

    do: Verb | Literal["fail"]
    wait: float  # seconds to sleep before
    code: str  # FailureKind, for "fail"
    message: str


def step(do: Verb, *, wait: float = 0.0) -> Step:
    """Return a step that is not a failure."""
    return Step(do=do, wait=wait, code="", message="")


def failure(kind: FailureKind, message: str) -> Step:
    """Return the step that closes the job as failed and refunds it."""
    return Step(do="fail", wait=0.0, code=kind.value, message=message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often to ask a vendor: eager at first, then at the model's own pace (seconds)."""

    steady: float = 5.0

    @property
    def first(self) -> float:
        """Return the shortest pause, in seconds."""
        return self.steady / 10

    def wait(self, elapsed: float, *, shift: float = 0.0) -> float:
        """Return the pause before the next poll: a quarter of the time waited so far, within bounds.

        `shift`, from -1 to 1, makes it up to a fifth shorter or longer, so that many jobs do not ask at one moment.
        """
        return max(self.first, min(self.steady, elapsed / 4)) * (1 + shift / 5)


def shift_of(job_id: str) -> float:
    """Return a job's own shift of its pauses, from -1 to 1."""
    return zlib.crc32(job_id.encode()) / (1 << 31) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A vendor certainly did not take the work; `retry_at` is when it may be asked again (ms)."""

    provider: str
    kind: FailureKind
    retry_at: int = 0


class Turn(NamedTuple):
    """Who is asked next, not before `at` (ms)."""

    provider: str
    at: int


def next_turn(candidates: Sequence[str], refusals: Sequence[Refusal]) -> Turn | None:
    """Decide who is asked after all refusals so far; None where nobody is left.

    Whoever was not asked yet comes first, in the order of `candidates`; then, when its pause is over, whoever may take
    the work another time.
    """
    left = []
    for name in candidates:
        own = [refusal for refusal in refusals if refusal.provider == name]
        if not own:
            return Turn(name, 0)
        if not any(is_final(refusal.kind) for refusal in own) and len(own) < _tries(own[-1].kind):
            left.append(Turn(name, own[-1].retry_at))
    return min(left, key=lambda turn: turn.at, default=None)


def retry_pause(refusal: NotAccepted, *, times: int) -> float:
    """Return how many seconds a vendor is left alone after it refused so many times: what it asked for, within bounds."""
    usual = float(2 ** (min(times, 8) - 1)) / 2
    return max(usual, min(refusal.retry_after or 0.0, MAX_WAIT_SECONDS))


def nobody_took_it(refusals: Sequence[Refusal]) -> Step:
    """Return the failure of work that every provider refused: for what passes, if any did so, and else for the last reason."""
    kinds = [refusal.kind for refusal in refusals] or [FailureKind.UPSTREAM_RETIRED]
    passing = [kind for kind in kinds if not is_final(kind)]
    lasting = [kind for kind in kinds if kind is not FailureKind.INVALID_INPUT]
    kind = (passing or lasting or kinds)[-1]
    return failure(kind, _REFUSED.get(kind, "No vendor accepted the work."))


def _tries(kind: FailureKind) -> int:
    return MAX_WAITS if kind is FailureKind.RATE_LIMITED else MAX_ATTEMPTS


def is_final(kind: FailureKind) -> bool:
    """Tell whether a vendor will refuse this very order for ever."""
    return is_lasting(kind) or kind is FailureKind.INVALID_INPUT


def is_lasting(kind: FailureKind) -> bool:
    """Tell whether a vendor will refuse the next order as well, until its operator or ours has done something."""
    return kind in (FailureKind.UPSTREAM_AUTH, FailureKind.UPSTREAM_QUOTA, FailureKind.UPSTREAM_RETIRED)


def is_overdue(elapsed: float) -> bool:
    """Tell whether a vendor has certainly forgotten a task."""
    return elapsed >= HARD_DEADLINE_SECONDS
