"""The one thin HTTP client of all vendors: one request where money is at stake, patience where a question may be repeated."""

from __future__ import annotations

import asyncio
import inspect
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import TypedDict
from urllib.parse import quote

import httpx2

from stablestudio.media.fetch import MediaFetcher
from stablestudio.providers import leaving
from stablestudio.providers.answers import (
    TRANSIENT,
    Ambiguous,
    Lost,
    Reply,
    TooLarge,
    Unanswered,
    Unreadable,
    retry_after,
)
from stablestudio.providers.files import PATIENCE, ForeignFiles
from stablestudio.providers.home import Home
from stablestudio.providers.lines import Lines
from stablestudio.providers.patience import Patience
from stablestudio.providers.provider import FailureKind, NotAccepted
from stablestudio.providers.scrub import scrubbed_bytes, secrets_of

__all__ = [
    "Ambiguous",
    "Auth",
    "Lost",
    "Reply",
    "TimeOuts",
    "TooLarge",
    "Unanswered",
    "Unreadable",
    "VendorHttp",
    "segment",
]

Headers = Mapping[str, str]
Auth = Headers | Callable[[], Headers | Awaitable[Headers]]
Refused = Callable[[Reply], FailureKind]

MAX_ANSWER_BYTES = 128 * 1024 * 1024
MAX_STATUS_BYTES = 4 * 1024 * 1024  # of an answer that holds no result
MAX_CLIP_BYTES = 512 * 1024 * 1024
_TRY_SECONDS = 30.0
_LONGEST_TASK = 512  # characters
_NEVER_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.InvalidURL,
    httpx2.LocalProtocolError,
    httpx2.PoolTimeout,
    httpx2.UnsupportedProtocol,
)
# These alone say that nothing was taken. Any other is doubt: 409, 424 and 499 may be about work that has begun, and a
# redirect may follow success.
_NOT_TAKEN = frozenset({400, 401, 402, 403, 404, 410, 413, 415, 422})
_TIME_OUT = re.compile(r"time[-_ ]?(?:d[-_ ]?)?out|deadline.?exceeded", re.IGNORECASE)
_OF_THE_OPERATOR = frozenset({401, 402, 403})
_ELSEWHERE = frozenset({301, 302, 303, 307, 308})


class TimeOuts(TypedDict, total=False):
    """How long a vendor is waited for, in seconds: its answer to a submission, a connection, a file."""

    timeout_seconds: float
    connect_seconds: float
    download_seconds: float


class VendorHttp:
    """Speaks to one vendor at `base_url` (https; http on the loopback only), with the operator's key in `auth`.

    The key goes to the base's origin, and to `own_hosts` over https (`api.example`, or `*.example` for all below), and
    nowhere else; redirects are never followed with it. Each running event loop has connections of its own.
    """

    def __init__(
        self,
        *,
        name: str,
        base_url: str,
        auth: Auth,
        timeout_seconds: float = 600.0,
        connect_seconds: float = 10.0,
        download_seconds: float = 300.0,
        transport: httpx2.AsyncBaseTransport | None = None,
        own_hosts: Iterable[str] = (),
        fetcher: MediaFetcher | None = None,
        first_pause: float = 0.5,
        longest_pause: float = 15.0,
    ) -> None:
        """Take the address and the key; `timeout_seconds` is for the answer to a submission, `download_seconds` for a file.

        `auth` is the headers, or a function that returns (or awaits) them for each request; where it cannot, it raises
        `NotAccepted`. The pauses between repeated questions grow from `first_pause` to `longest_pause` seconds.
        """
        self.name = name
        self.base_url = base_url.rstrip("/")
        self._home = Home.read(name, self.base_url, own_hosts)
        self._auth = auth
        self._timeout = timeout_seconds
        self._connect = connect_seconds
        self._patience = Patience(name=name, first=first_pause, longest=longest_pause)
        self._download = download_seconds
        self._files = ForeignFiles(name, self._home, patience=self._patience, seconds=download_seconds, fetcher=fetcher)
        self._lines = Lines(transport)

    def is_own(self, url: str) -> bool:
        """Tell whether the key may go to this absolute URL."""
        return self._home.owns(url)

    async def submit(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        content: bytes | None = None,
        headers: Headers | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the answer's, inside
        refused: Refused | None = None,
    ) -> Reply:
        """Send exactly one request that may cost money; return a 2xx, or a refusal, which the vendor's adapter judges.

        Raise `NotAccepted` where the vendor certainly did not take it: no connection, or 429, whose kind `refused` tells
        (rate limited if not given). Raise `Ambiguous` where nobody knows: no answer, a status that does not prove a
        refusal, or a refusal because the vendor's own time ran out.
        """
        seconds = min(timeout or self._timeout, self._timeout)  # an adapter knows its vendor; the operator knows better
        question = _Question(method=method, url=self._url(path), json=json, content=content, headers=headers or {})
        try:
            # Not more than one second per second: a trickle of bytes renews the read time-out for ever.
            async with asyncio.timeout(seconds + self._connect):
                reply = await self._send(self._lines.fresh(), question, seconds=seconds, max_bytes=MAX_ANSWER_BYTES)
        except _NEVER_SENT as error:
            raise NotAccepted(f"{self.name} could not be reached: {type(error).__name__}") from error
        except (httpx2.HTTPError, TimeoutError, Unreadable) as error:
            raise Ambiguous(f"{self.name} gave no answer: {type(error).__name__} {error}".rstrip()) from error
        return self._judged(reply, refused)

    async def ask(
        self,
        method: str,
        path_or_url: str,
        *,
        json: object = None,
        headers: Headers | None = None,
        deadline_seconds: float = 60.0,
        try_seconds: float = _TRY_SECONDS,
        max_bytes: int = MAX_STATUS_BYTES,
    ) -> Reply:
        """Ask what may be asked again: everything transient is repeated until the deadline.

        A try that has not ended after `try_seconds`, however much of its answer came, is transient too. Return any other
        answer, whatever its status. Raise `Unanswered` at the deadline, `Unreadable` for a URL that is not the vendor's
        own, `TooLarge`.
        """
        question = _Question(method=method, url=self._url(path_or_url), json=json, content=None, headers=headers or {})
        ends = time.monotonic() + deadline_seconds
        return await self._asked(question, ends=ends, try_seconds=try_seconds, max_bytes=max_bytes)

    async def download(
        self, url: str, *, max_bytes: int = MAX_CLIP_BYTES, deadline_seconds: float | None = None
    ) -> bytes:
        """Return a result file: a path or URL of the vendor's own with the key, any other public https URL without.

        Where the vendor redirects to its store, the guarded fetch goes there, without the key. Raise `Lost` where the file
        is not to be had, `Unanswered` where that may change.
        """
        ends = time.monotonic() + (deadline_seconds or self._download)
        place = self._url(url) if url.startswith("/") or self.is_own(url) else None
        if place is None:
            return await self._files.fetch(url, max_bytes=max_bytes, ends=ends)
        for attempt in count():
            reply = await self._own_file(place, max_bytes=max_bytes, ends=ends)
            if reply.ok:
                return reply.body
            if reply.status in _ELSEWHERE and reply.headers.get("location"):
                return await self._files.follow(place, reply.headers["location"], max_bytes=max_bytes, ends=ends)
            told = f"{self.name} answered with status {reply.status}: {reply.excerpt}"
            if reply.status in _OF_THE_OPERATOR:
                raise Unanswered(told, reply=reply)  # a key or an account can be mended while the file is still there
            if attempt + 1 >= PATIENCE:
                raise Lost(told)
            await self._patience.pause(attempt, ends=ends, why=told)
        raise AssertionError("the patience ends the loop")

    async def close(self) -> None:
        """Close every connection."""
        await self._lines.close()

    def _url(self, path_or_url: str) -> str:
        if not path_or_url.startswith("/"):
            if not self.is_own(path_or_url):
                raise Unreadable(f"{self.name} named an address that is not its own: {path_or_url[:200]!r}")
            return path_or_url
        if any(part in {".", ".."} for part in path_or_url.partition("?")[0].split("/")):
            raise Unreadable(f"not a path: {path_or_url[:200]!r}")
        return self.base_url + path_or_url

    async def _keys(self) -> Headers:
        if not callable(self._auth):
            return self._auth
        given = self._auth()
        return await given if inspect.isawaitable(given) else given

    async def _send(self, client: httpx2.AsyncClient, question: _Question, *, seconds: float, max_bytes: int) -> Reply:
        """Send one request; every URL that comes here is the vendor's own."""
        keys = await self._keys()
        plain = client.build_request(
            question.method,
            question.url,
            json=question.json,
            content=question.content,
            headers={"Accept-Encoding": "identity", **question.headers, **keys},
            timeout=httpx2.Timeout(seconds, connect=self._connect, pool=self._connect),
        )
        response = await client.send(leaving.guarded(plain), stream=True)
        try:
            body = await _read(response, max_bytes)
        finally:
            await response.aclose()
        secrets = secrets_of(keys)
        if not response.is_success:
            body = scrubbed_bytes(body, secrets)
        return Reply(status=response.status_code, headers=response.headers, body=body, secrets=secrets)

    def _judged(self, reply: Reply, refused: Refused | None) -> Reply:
        told = f"{self.name} answered with status {reply.status}: {reply.excerpt}"
        if reply.status == 429:
            kind = refused(reply) if refused else FailureKind.RATE_LIMITED
            pause = retry_after(reply, now_s=time.time())
            raise NotAccepted(told, kind=kind, retry_after=pause, request_id=reply.request_id)
        if reply.ok or (reply.status in _NOT_TAKEN and not any(map(_TIME_OUT.search, reply.codes))):
            return reply
        raise Ambiguous(told, reply=reply)

    async def _asked(self, question: _Question, *, ends: float, try_seconds: float, max_bytes: int) -> Reply:
        for attempt in count():
            answer = await self._try(question, seconds=min(try_seconds, ends - time.monotonic()), max_bytes=max_bytes)
            if isinstance(answer, Reply) and not _is_transient(answer):
                return answer
            hint = retry_after(answer, now_s=time.time()) if isinstance(answer, Reply) else None
            await self._patience.pause(attempt, ends=ends, why=_why(answer), hint=hint)
        raise AssertionError("the deadline ends the loop")

    async def _own_file(self, place: str, *, max_bytes: int, ends: float) -> Reply:
        question = _Question(method="GET", url=place, json=None, content=None, headers={})
        try:
            return await self._asked(question, ends=ends, try_seconds=ends - time.monotonic(), max_bytes=max_bytes)
        except TooLarge as error:
            raise Lost(str(error)) from None

    async def _try(self, question: _Question, *, seconds: float, max_bytes: int) -> Reply | Exception:
        seconds = max(0.1, seconds)
        silent = min(_TRY_SECONDS, seconds)
        try:
            # A trickle of bytes renews the read time-out for ever.
            async with asyncio.timeout(seconds):
                return await self._send(self._lines.pooled(), question, seconds=silent, max_bytes=max_bytes)
        except (httpx2.TransportError, httpx2.DecodingError, TimeoutError) as error:
            return error


def segment(text: str) -> str:
    """Return one segment of a path, such as a vendor's task id; raise `Unreadable` for what cannot be one."""
    if not is_segment(text):
        raise Unreadable(f"not an id: {text[:80]!r}")
    return quote(text, safe="")


def is_segment(text: str) -> bool:
    """Tell whether a text can be an id in an address: neither empty, nor endless, nor a step to another place."""
    return 0 < len(text) <= _LONGEST_TASK and text not in {".", ".."}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    method: str
    url: str
    json: object
    content: bytes | None
    headers: Headers


async def _read(response: httpx2.Response, max_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > max_bytes:
            raise TooLarge(f"the answer is larger than {max_bytes / 1024 / 1024:.3g} MB")
    return bytes(body)


def _is_transient(reply: Reply) -> bool:
    return reply.status in TRANSIENT or reply.status >= 500


def _why(answer: Reply | Exception) -> str:
    if isinstance(answer, Reply):
        return f"status {answer.status}"
    return "time-out" if isinstance(answer, TimeoutError | httpx2.TimeoutException) else type(answer).__name__
