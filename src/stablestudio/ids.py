"""Identifiers: a short prefix that names the kind, then time-ordered random characters."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford base32: no i, l, o, u


def new_id(prefix: str) -> str:
    """Return e.g. `job_01k9x...`: 48 bits of time and 80 random bits, so ids sort by age and cannot be guessed."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    return f"{prefix}_{''.join(_ALPHABET[value >> shift & 31] for shift in range(125, -1, -5))}"


def serial(prefix: str) -> Callable[[], bytes]:
    """Return a maker of ids that cost next to nothing: a beginning that is this process's own, and a count."""
    beginning = f"{prefix}_{os.urandom(6).hex()}".encode()
    count = itertools.count(1)
    return lambda: b"%b%06x" % (beginning, next(count))
