"""Base64 as vendors write it: either alphabet, padded or not, with line breaks or a `data:` head."""

from __future__ import annotations

import base64
import binascii

from stablestudio.providers.answers import Unreadable

_PLAIN = str.maketrans("-_", "+/", "\r\n\t ")


def base64_text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def base64_bytes(text: object) -> bytes:
    """Decode base64; raise `Unreadable` for anything else, and for nothing."""
    if not isinstance(text, str):
        raise Unreadable(f"base64 was expected, {type(text).__name__} came")
    if text[:5].lower() == "data:":
        text = text.partition(",")[2]
    plain = text.translate(_PLAIN)
    try:
        data = binascii.a2b_base64(plain + "=" * (-len(plain) % 4), strict_mode=True)
    except ValueError:
        raise Unreadable(f"no base64: {text[:40]!r}") from None
    if not data:
        raise Unreadable("base64 of nothing")
    return data


def base64_if_any(text: object) -> bytes | None:
    """Decode base64; None where it is none, or of nothing."""
    try:
        return base64_bytes(text)
    except Unreadable:
        return None
