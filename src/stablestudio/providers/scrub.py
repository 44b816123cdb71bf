"""Keys taken out of what vendors answer: some repeat the key that they refuse, and their words go to logs and screens."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote

_SHORTEST = 8  # characters: anything shorter is a word such as Bearer, or no key
_GONE = "[key]"
# Keys that are not ours to know: tokens that a vendor made out of ours, and those of a gateway's own vendors.
_KEYS = re.compile(
    r"(?<=\bBearer )\S{8,}"
    r"|\bya29\.[\w.-]+"  # Google's access tokens
    r"|\bAIza[\w-]{30,}"  # Google's API keys
    r"|\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?"  # JSON web tokens
    r"|\bsk-[\w-]{20,}",
    re.IGNORECASE,
)


def secrets_of(headers: Mapping[str, str]) -> tuple[str, ...]:
    """Return all that is secret in the headers of an operator's key: each value, and the bare key in it, however spelled."""
    words = {word for value in headers.values() for word in (value, *value.split()) if len(word) >= _SHORTEST}
    spelled = {each for word in words for each in _spellings(word)}
    return tuple(sorted(spelled, key=len, reverse=True))


def scrubbed(text: str, secrets: Iterable[str] = ()) -> str:
    """Return a text without these secrets, and without anything that looks like a key."""
    for secret in secrets:
        text = text.replace(secret, _GONE)
    return _KEYS.sub(_GONE, text)


def scrubbed_bytes(body: bytes, secrets: Iterable[str]) -> bytes:
    """Return a body without these secrets."""
    for secret in secrets:
        body = body.replace(secret.encode(), _GONE.encode())
    return body


def _spellings(word: str) -> Iterable[str]:
    """Return a word as it stands in text, in JSON (whose slashes some servers escape), and in addresses."""
    written = json.dumps(word)[1:-1]
    return (word, written, written.replace("/", "\\/"), quote(word, safe=""))
