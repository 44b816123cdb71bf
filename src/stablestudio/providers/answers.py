"""What vendors answer over HTTP: a reply, its retry hints, and the ways in which there is none."""

from __future__ import annotations

import binascii
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from pydantic_core import from_json

LONGEST_RETRY_SECONDS = 120.0
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
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")


class Ambiguous(Exception):
    """The request was sent and nobody knows what became of it. `reply` is there where a server answered at all."""

    def __init__(self, detail: str, *, reply: Reply | None = None) -> None:
        self.detail = detail
        self.reply = reply
        super().__init__(detail)


class Unanswered(Exception):
    """A question that may be repeated was repeated until its time was over. Ask again later."""


class Unreadable(Exception):
    """The answer is not what the vendor documents."""


class TooLarge(Unreadable):
    """The answer has more bytes than were allowed; it will not become smaller."""


class Lost(Exception):
    """A result file that cannot be had, and will not be later either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A whole answer; `headers` are looked up in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> Any:
        """Return the body's JSON; raise `Unreadable`."""
        try:
            return from_json(self.body)
        except ValueError:
            raise Unreadable(f"HTTP {self.status} without JSON: {self.excerpt[:80]!r}") from None

    @property
    def document(self) -> dict[str, Any]:
        """The JSON object of the body, empty where there is none: for error bodies, which may be anything."""
        try:
            value = self.json()
        except Unreadable:
            return {}
        if isinstance(value, list) and value:  # Google's streaming servers wrap errors in a list
            value = value[0]
        return value if isinstance(value, dict) else {}

    @property
    def request_id(self) -> str | None:
        """The vendor's own id of the request, for its support."""
        return next((self.headers[name][:_EXCERPT] for name in _REQUEST_IDS if self.headers.get(name)), None)

    @property
    def excerpt(self) -> str:
        """The first words of the body, printable, for the operator."""
        text = self.body[: _EXCERPT * 4].decode(errors="replace")[:_EXCERPT]
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


def base64_bytes(text: object) -> bytes:
    """Decode base64, with or without a `data:` head; raise `Unreadable`."""
    if not isinstance(text, str):
        raise Unreadable(f"base64 was expected, {type(text).__name__} came")
    if text[:5].lower() == "data:":
        text = text.partition(",")[2]
    try:
        return binascii.a2b_base64(text)
    except ValueError:
        raise Unreadable(f"no base64: {text[:40]!r}") from None
