"""What to do next in the making of a job, decided without a clock, a network or a database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypedDict

from stablestudio.providers.provider import FailureKind

MAX_ATTEMPTS = 3
# Vendors forget a task after a day; until then a late job is late, not failed.
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

    def wait(self, elapsed: float) -> float:
        """Return the pause before the next poll, a quarter of the time waited so far within bounds."""
        return max(self.first, min(self.steady, elapsed / 4))


def after_refusal(attempt: int) -> Step:
    """Decide what follows a vendor that certainly did not take the work."""
    if attempt >= MAX_ATTEMPTS:
        return failure(FailureKind.UPSTREAM_ERROR, "No vendor accepted the work.")
    return step("submit", wait=float(2 ** (attempt - 1)) / 2)


def is_overdue(elapsed: float) -> bool:
    """Tell whether a vendor has certainly forgotten a task."""
    return elapsed >= HARD_DEADLINE_SECONDS
