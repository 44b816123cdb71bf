"""Whether a person's browser asks: it names HTML, where programs name JSON, text, or nothing (RFC 9110 section 12.5.1)."""

from __future__ import annotations

import re

from stablestudio.server.http import Scope

_OURS = ("application/json", "text/markdown", "text/plain")
_QUALITY = re.compile(r";\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*(?:;|$)", re.IGNORECASE)
_LONGEST = 1000


def prefers_html(scope: Scope) -> bool:
    """Tell whether HTML is accepted by name, and before everything else that could be answered."""
    told = b",".join(value for name, value in scope["headers"] if name == b"accept")
    qualities: dict[str, float] = {}
    for each in told[:_LONGEST].decode("latin-1").split(","):
        kind = each.partition(";")[0].strip().lower()
        quality = _QUALITY.search(each)
        qualities[kind] = float(quality[1]) if quality else 1.0
    return qualities.get("text/html", 0.0) > max(qualities.get(kind, 0.0) for kind in _OURS)
