"""Find the name that somebody probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_LONGEST = 64


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the most similar of the names, or `None`; case, `_` and `-` do not count."""
    plain = {_plain(candidate): candidate for candidate in names}
    # Comparing costs the square of the length, and a hostile name may have any.
    found = get_close_matches(_plain(name[:_LONGEST]), plain, n=1, cutoff=0.6)
    return plain[found[0]] if found else None


def shown(name: str) -> str:
    """Quote a name that came from outside, shortened and with control characters escaped."""
    return repr(clipped(name))


def clipped(name: str) -> str:
    """Shorten a name that came from outside."""
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}..."


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def label(path: tuple[str | int, ...]) -> str:
    """Return a place in an input as messages spell it, e.g. `'urls[1]'`."""
    name, *indexes = path
    return repr(str(name) + "".join(f"[{index}]" for index in indexes))
