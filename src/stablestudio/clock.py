"""Time as an injected value: aware UTC, integer milliseconds in the store."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """Tell the time; tests pass a clock that they move by hand."""

    def now_ms(self) -> int:
        """Return milliseconds since 1970-01-01 UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


def iso(ms: int) -> str:
    """Write a moment as RFC 3339 with milliseconds, e.g. `2026-11-20T19:54:01.836Z`."""
    return (_EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_iso(text: str) -> int:
    """Read an RFC 3339 moment with a zone; raise `ValueError` otherwise."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"A moment needs a time zone: {text!r}")
    return (moment - _EPOCH) // timedelta(milliseconds=1)
