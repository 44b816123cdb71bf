"""Accept-Payment: which methods and intents a buyer can pay with (draft-httpauth-payment, Client Payment Preferences)."""

from __future__ import annotations

import re
from functools import lru_cache

ACCEPT_PAYMENT = "Accept-Payment"
_MAX_HEADER = 2048
_RANGE = re.compile(r"([a-z0-9:_-]+|\*)[ \t]*/[ \t]*([A-Za-z0-9-]+|\*)")
_QUALITY = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")

_Range = tuple[str, str, float]


def accepts(header: str | None, method: str, intent: str = "charge") -> bool:
    """Tell whether a buyer can use an offer; one that says nothing, or says it malformed, can use each."""
    return quality(header, method, intent) > 0


def quality(header: str | None, method: str, intent: str = "charge") -> float:
    """Return how much a buyer wants an offer, from 0 (not at all) to 1: the most specific range that fits decides."""
    ranges = _ranges(header) if header and len(header) <= _MAX_HEADER else None
    if not ranges:
        return 1.0
    fitting = [
        ((one != "*") + (other != "*"), weight)
        for one, other, weight in ranges
        if one in ("*", method) and other in ("*", intent)
    ]
    return max(fitting)[1] if fitting else 0.0


@lru_cache(maxsize=256)
def _ranges(header: str) -> tuple[_Range, ...] | None:
    parts = [part.strip() for part in header.split(",")]
    found = [_range(part) for part in parts if part]
    return tuple(each for each in found if each) if all(found) else None


def _range(part: str) -> _Range | None:
    name, *parameters = (piece.strip() for piece in part.split(";"))
    match = _RANGE.fullmatch(name)
    if match is None:
        return None
    weight = 1.0
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip().lower() != "q":
            continue
        if not _QUALITY.fullmatch(value.strip()):
            return None
        weight = float(value)
    return match[1], match[2], weight
