"""What to do next in the making of a job, decided without a clock, a network or a database."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal, TypedDict

from stablestudio.providers.provider import FailureKind, NotAccepted

MAX_ATTEMPTS = 3
MAX_WAITS = 10  # for a vendor that only asks for patience
MAX_WAIT_SECONDS = 120.0
# Vendors forget a task after a day; until then nobody gives up what nobody knows the end of.
HARD_DEADLINE_SECONDS = 24 * 3600
OVERDUE = "The work could not be finished within a day."


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

    first: float = 0.2
    steady: float = 5.0

    def wait(self, elapsed: float, *, shift: float = 0.0) -> float:
        """Return the pause before the next poll: a quarter of the time waited so far, within bounds.

        `shift`, from -1 to 1, makes it up to a fifth shorter or longer, so that many jobs do not ask at one moment.
        """
        return max(self.first, min(self.steady, elapsed / 4)) * (1 + shift / 5)


def shift_of(job_id: str) -> float:
    """Return a job's own shift of its pauses, from -1 to 1."""
    return zlib.crc32(job_id.encode()) / (1 << 31) - 1


def after_refusal(attempt: int, refusal: NotAccepted, *, another: bool) -> Step:
    """Decide what follows a vendor that certainly did not take the work; `another` tells that one is left to ask."""
    if another and attempt < MAX_ATTEMPTS * 2:
        return step("submit")
    if refusal.kind is FailureKind.INVALID_INPUT:
        return failure(refusal.kind, "No provider of this route takes this input.")
    tries = MAX_WAITS if refusal.kind is FailureKind.RATE_LIMITED else MAX_ATTEMPTS
    if is_lasting(refusal.kind) or attempt >= tries:
        return failure(refusal.kind, "No vendor accepted the work.")
    usual = float(2 ** (min(attempt, 8) - 1)) / 2
    return step("submit", wait=max(usual, min(refusal.retry_after or 0.0, MAX_WAIT_SECONDS)))


def is_lasting(kind: FailureKind) -> bool:
    """Tell whether a vendor will refuse the next order as well, until its operator or ours has done something."""
    return kind in (FailureKind.UPSTREAM_AUTH, FailureKind.UPSTREAM_QUOTA, FailureKind.UPSTREAM_RETIRED)


def is_overdue(elapsed: float) -> bool:
    """Tell whether a vendor has certainly forgotten a task."""
    return elapsed >= HARD_DEADLINE_SECONDS
