"""What vendors answer over HTTP: a reply, its retry hints, and the ways in which there is none."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any, Final

from pydantic_core import from_json

from stablestudio.providers.scrub import scrubbed

LONGEST_RETRY_SECONDS = 120.0
TRANSIENT = frozenset({408, 425, 429})
"""Statuses below 500 that say nothing but "not now"."""
_EXCERPT = 500  # characters of a vendor's words that are kept
_REQUEST_IDS = (
    "x-request-id",
    "x-fal-request-id",
    "request-id",
    "apim-request-id",
    "x-goog-request-id",
    "x-dashscope-request-id",
    "x-tt-logid",
    "cf-ray",
)
_CODES = ("code", "status", "type", "error_type")
_NO_JSON: Final = object()
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")


class Undecided(Exception):
    """Nothing that was said decides anything: ask again later. `reply` is there where a server answered at all."""

    def __init__(self, detail: str, *, reply: Reply | None = None) -> None:
        self.reply = reply
        super().__init__(detail)


class Ambiguous(Undecided):
    """The request was sent and nobody knows what became of it."""

    @property
    def detail(self) -> str:
        return str(self)


class Unanswered(Undecided):
    """A question that may be repeated was repeated until its time was over."""


class Unreadable(Undecided):
    """The answer is not what the vendor documents."""


class TooLarge(Unreadable):
    """The answer has more bytes than were allowed; it will not become smaller."""


class Lost(Exception):
    """A result file that cannot be had, and will not be later either."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A whole answer; `headers` are looked up in lower case. Its JSON is read once, as it may have tens of megabytes."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """What its question was asked with, and no excerpt may repeat."""

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> Any:
        """Return the body's JSON; raise `Unreadable`."""
        if self._parsed is _NO_JSON:
            raise Unreadable(f"HTTP {self.status} without JSON: {self.excerpt[:80]!r}")
        return self._parsed

    @cached_property
    def document(self) -> dict[str, Any]:
        """The JSON object of the body, empty where there is none: for error bodies, which may be anything."""
        value = self._parsed
        if isinstance(value, list) and value:  # Google's streaming servers wrap errors in a list
            value = value[0]
        return value if isinstance(value, dict) else {}

    @cached_property
    def _parsed(self) -> Any:
        try:
            return from_json(self.body)
        except ValueError:
            return _NO_JSON

    @property
    def request_id(self) -> str | None:
        """The vendor's own id of the request, for its support."""
        return next((self.headers[name][:_EXCERPT] for name in _REQUEST_IDS if self.headers.get(name)), None)

    @property
    def codes(self) -> tuple[str, ...]:
        """The machine-readable names of what is wrong, in every place where a vendor writes them."""
        document, detail = self.document, self.document.get("detail")
        places = [document, document.get("error"), *(detail if isinstance(detail, list) else ())]
        found = [place.get(name) for place in places if isinstance(place, dict) for name in _CODES]
        return tuple(code for code in (*found, self.headers.get("x-fal-error-type")) if isinstance(code, str))

    @property
    def excerpt(self) -> str:
        """The first words of the body, printable, for the operator."""
        # Scrubbed before it is cut: the first half of a key is not found any more.
        text = scrubbed(self.body[: _EXCERPT * 16].decode(errors="replace"), self.secrets)[:_EXCERPT]
        return "".join(character if character.isprintable() else " " for character in text).strip()


def retry_after(reply: Reply, *, now_s: float) -> float | None:
    """Return the pause in seconds that a vendor asks for, at most 120; None where it names none.

    Read are `retry-after-ms`, `retry-after` (seconds or an HTTP date) and Google's `RetryInfo.retryDelay`.
    """
    for seconds in _hints(reply, now_s):
        if seconds is not None and math.isfinite(seconds):
            return min(max(seconds, 0.0), LONGEST_RETRY_SECONDS)
    return None


def _hints(reply: Reply, now_s: float) -> Iterator[float | None]:
    milliseconds = _number(reply.headers.get("retry-after-ms"))
    yield None if milliseconds is None else milliseconds / 1000
    plain = reply.headers.get("retry-after")
    yield _number(plain)
    yield _date(plain, now_s)
    yield _google(reply.document)


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _date(text: str | None, now_s: float) -> float | None:
    if not text:
        return None
    try:
        return parsedate_to_datetime(text).timestamp() - now_s
    except (ValueError, OverflowError):
        return None


def _google(document: Mapping[str, Any]) -> float | None:
    """Read google.rpc.RetryInfo out of `error.details`."""
    error = document.get("error")
    details = error.get("details") if isinstance(error, dict) else None
    for detail in details if isinstance(details, list) else ():
        match detail:
            case {"@type": str(name), "retryDelay": str(delay)} if name.endswith("google.rpc.RetryInfo"):
                found = _DURATION.fullmatch(delay)
                return float(found[1]) if found else None
    return None
