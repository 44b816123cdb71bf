"""What a buyer's flow asks of the world, and what it gets back.

Flows are generators of these steps and do no network I/O of their own, so one copy of the logic serves a sync and an async shell.
"""

from __future__ import annotations

import email.utils
import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from stablestudio.client.errors import UnreadableAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """An HTTP request to send once; the shell neither retries it nor follows redirects."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """A wish to sleep for some seconds."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An HTTP answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def document(self) -> dict[str, Any]:
        """Return the body as a JSON object; raise `UnreadableAnswer` for anything else."""
        found = self.document_or_none()
        if found is None:
            raise UnreadableAnswer(f"The service answered {self.status} without a JSON object.")
        return found

    def document_or_none(self) -> dict[str, Any] | None:
        try:
            found = json.loads(self.body)
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    def retry_after(self) -> float | None:
        """Return the seconds of `Retry-After`, a number or a date (read against `Date`); None where it says nothing."""
        text = self.headers.get("retry-after", "").strip()
        if text.isdecimal():
            return float(text)
        until, now = (email.utils.parsedate_tz(value) for value in (text, self.headers.get("date", "")))
        return max(0.0, float(email.utils.mktime_tz(until) - email.utils.mktime_tz(now))) if until and now else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """No answer came. `sent` is False only where the request certainly never left this machine."""

    reason: str
    sent: bool


Outcome: TypeAlias = Reply | Lost
Result = TypeVar("Result")
Flow: TypeAlias = Generator[Call | Pause, Outcome | None, Result]


def ask(call: Call) -> Flow[Outcome]:
    """Send a request; a lost answer is returned, not raised."""
    outcome = yield call
    if outcome is None:
        raise TypeError("A shell must answer a Call with a Reply or Lost")
    return outcome


def pause(seconds: float) -> Flow[None]:
    """Sleep."""
    yield Pause(seconds)


def drive(flow: Flow[Result], *, perform: Callable[[Call], Outcome], sleep: Callable[[float], None]) -> Result:
    """Run a flow to its end with blocking I/O."""
    outcome: Outcome | None = None
    try:
        while True:
            step = flow.send(outcome)
            if isinstance(step, Pause):
                sleep(step.seconds)
                outcome = None
            else:
                outcome = perform(step)
    except StopIteration as end:
        result: Result = end.value
        return result
