"""Poll tokens: a short right to read one job, so that a wallet signs once and not at every look.

They are bearer tokens (RFC 6750), taken from the Authorization header only: an address ends up in logs and histories.
"""

from __future__ import annotations

import base64
import hmac
import re
from dataclasses import dataclass

from stablestudio.errors import StudioError

_PREFIX = "poll_"
_TOKEN = re.compile(_PREFIX + "[A-Za-z0-9_-]{28}")
_STEP_S = 3600
_TIME_BYTES = 4  # whole seconds, until the year 2106
_MAC_BYTES = 17  # with the time a multiple of three, so that base64 needs no padding


class PollTokenInvalid(StudioError):
    """This poll token is not one of this job."""

    status = 402
    hint = "Sign in as the challenge of this answer says; the answer to a signed read has a token of this job."


class PollTokenExpired(StudioError):
    """This poll token has expired."""

    status = 402
    hint = "Sign in as the challenge of this answer says; the answer to a signed read has a new token."


@dataclass(frozen=True, slots=True, kw_only=True)
class PollToken:
    """A token and its end (milliseconds)."""

    text: str
    until_ms: int


class PollTokens:
    """Issues and checks tokens by an HMAC over job, wallet and end; nothing is remembered, and none can be renewed."""

    def __init__(self, secret: bytes) -> None:
        """Derive a key for tokens alone from `secret`, which may have other purposes."""
        self._key = hmac.digest(secret, b"stablestudio poll tokens", "sha256")

    def issue(self, job_id: str, *, wallet: str, now_ms: int) -> PollToken:
        """Return a token for one to two hours; within an hour it is the same one."""
        until_s = (now_ms // 1000 // _STEP_S + 2) * _STEP_S
        end = until_s.to_bytes(_TIME_BYTES)
        text = _PREFIX + base64.urlsafe_b64encode(end + self._mac(job_id, wallet, end)).decode()
        return PollToken(text=text, until_ms=until_s * 1000)

    def check(self, text: str, job_id: str, *, wallet: str, now_ms: int) -> int:
        """Return the end of a token (ms); raise `PollTokenInvalid` or `PollTokenExpired`."""
        if not _TOKEN.fullmatch(text):
            raise PollTokenInvalid
        data = base64.urlsafe_b64decode(text.removeprefix(_PREFIX))
        end, mac = data[:_TIME_BYTES], data[_TIME_BYTES:]
        if not hmac.compare_digest(mac, self._mac(job_id, wallet, end)):
            raise PollTokenInvalid
        until_ms = int.from_bytes(end) * 1000
        if now_ms >= until_ms:
            raise PollTokenExpired
        return until_ms

    def _mac(self, job_id: str, wallet: str, end: bytes) -> bytes:
        return hmac.digest(self._key, b"\n".join((job_id.encode(), wallet.encode(), end)), "sha256")[:_MAC_BYTES]
