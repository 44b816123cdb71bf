"""The one thin HTTP client of all vendors: one request where money is at stake, patience where a question may be repeated."""

from __future__ import annotations

import asyncio
import inspect
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from urllib.parse import quote, urljoin

import httpx2

from stablestudio.media.addresses import FetchPolicy, FetchRefused
from stablestudio.media.fetch import FetchFailed, MediaFetcher
from stablestudio.providers.answers import Ambiguous, Lost, Reply, TooLarge, Unanswered, Unreadable, retry_after
from stablestudio.providers.home import Home
from stablestudio.providers.lines import Lines
from stablestudio.providers.provider import FailureKind, NotAccepted

__all__ = ["Ambiguous", "Auth", "Lost", "Reply", "TooLarge", "Unanswered", "Unreadable", "VendorHttp", "segment"]

Headers = Mapping[str, str]
Auth = Headers | Callable[[], Headers | Awaitable[Headers]]
Refused = Callable[[Reply], FailureKind]

MAX_ANSWER_BYTES = 128 * 1024 * 1024
MAX_CLIP_BYTES = 512 * 1024 * 1024
_ASK_READ_SECONDS = 30.0
_DOWNLOAD_SECONDS = 300.0
_PATIENCE = 3  # answers with an error status until a result file counts as lost
_NEVER_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.InvalidURL,
    httpx2.LocalProtocolError,
    httpx2.PoolTimeout,
    httpx2.UnsupportedProtocol,
)
_FINAL = ("is larger than", "compressed body", "redirects")  # said by the guarded fetch, and no better later
_TRANSIENT = frozenset({408, 425, 429})
_ELSEWHERE = frozenset({301, 302, 303, 307, 308})


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
        transport: httpx2.AsyncBaseTransport | None = None,
        own_hosts: Iterable[str] = (),
        fetcher: MediaFetcher | None = None,
        first_pause: float = 0.5,
        longest_pause: float = 15.0,
    ) -> None:
        """Take the address and the key; `timeout_seconds` is for the answer to a submission.

        `auth` is the headers, or a function that returns (or awaits) them for each request; where it cannot, it raises
        `NotAccepted`. The pauses between repeated questions grow from `first_pause` to `longest_pause` seconds.
        """
        self.name = name
        self.base_url = base_url.rstrip("/")
        self._home = Home.read(name, self.base_url, own_hosts)
        self._auth = auth
        self._timeout = timeout_seconds
        self._connect = connect_seconds
        self._fetcher = fetcher or MediaFetcher(total_seconds=_DOWNLOAD_SECONDS)
        self._first_pause = first_pause
        self._longest_pause = longest_pause
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
        """Send exactly one request that may cost money; return a 2xx, or a 4xx, which the vendor's adapter judges.

        Raise `NotAccepted` where the vendor certainly did not take it: no connection, or 429, whose kind `refused` tells
        (rate limited if not given). Raise `Ambiguous` where nobody knows: no answer, 408, 5xx.
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
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> Reply:
        """Ask what may be asked again: everything transient is repeated until the deadline.

        Return any other answer, whatever its status. Raise `Unanswered` at the deadline, `Unreadable` for a URL that is
        not the vendor's own, `TooLarge`.
        """
        question = _Question(method=method, url=self._url(path_or_url), json=json, content=None, headers=headers or {})
        ends = time.monotonic() + deadline_seconds
        for attempt in count():
            answer = await self._try(question, ends=ends, max_bytes=max_bytes)
            if isinstance(answer, Reply) and not _is_transient(answer):
                return answer
            hint = retry_after(answer, now_s=time.time()) if isinstance(answer, Reply) else None
            await self._pause(attempt, ends=ends, hint=hint, why=_why(answer))
        raise AssertionError("the deadline ends the loop")

    async def download(self, url: str, *, max_bytes: int = MAX_CLIP_BYTES, deadline_seconds: float = 300.0) -> bytes:
        """Return a result file: a path or URL of the vendor's own with the key, any other public https URL without.

        Where the vendor redirects to its store, the guarded fetch goes there, without the key. Raise `Lost` where the file
        is not to be had, `Unanswered` where that may change.
        """
        ends = time.monotonic() + deadline_seconds
        place = self._url(url) if url.startswith("/") or self.is_own(url) else None
        if place is None:
            return await self._fetch(url, max_bytes=max_bytes, ends=ends)
        try:
            reply = await self.ask("GET", place, deadline_seconds=deadline_seconds, max_bytes=max_bytes)
        except TooLarge as error:
            raise Lost(str(error)) from None
        if reply.ok:
            return reply.body
        if reply.status in _ELSEWHERE and reply.headers.get("location"):
            return await self._fetch(urljoin(place, reply.headers["location"]), max_bytes=max_bytes, ends=ends)
        raise Lost(f"{self.name} answered with status {reply.status}: {reply.excerpt}")

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
        request = client.build_request(
            question.method,
            question.url,
            json=question.json,
            content=question.content,
            headers={"Accept-Encoding": "identity", **question.headers, **await self._keys()},
            timeout=httpx2.Timeout(seconds, connect=self._connect, pool=self._connect),
        )
        response = await client.send(request, stream=True)
        try:
            body = await _read(response, max_bytes)
        finally:
            await response.aclose()
        return Reply(status=response.status_code, headers=response.headers, body=body)

    def _judged(self, reply: Reply, refused: Refused | None) -> Reply:
        if reply.ok or (400 <= reply.status < 500 and reply.status not in _TRANSIENT):
            return reply
        told = f"{self.name} answered with status {reply.status}: {reply.excerpt}"
        if reply.status == 429:
            kind = refused(reply) if refused else FailureKind.RATE_LIMITED
            pause = retry_after(reply, now_s=time.time())
            raise NotAccepted(told, kind=kind, retry_after=pause, request_id=reply.request_id)
        if reply.status in {301, 307, 308, 425}:
            # These alone say that the request was not processed (RFC 9110, RFC 8470); 302 and 303 may follow success.
            raise NotAccepted(told, request_id=reply.request_id)
        raise Ambiguous(told, reply=reply)

    async def _try(self, question: _Question, *, ends: float, max_bytes: int) -> Reply | Exception:
        seconds = max(0.1, min(_ASK_READ_SECONDS, ends - time.monotonic()))
        try:
            return await self._send(self._lines.pooled(), question, seconds=seconds, max_bytes=max_bytes)
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            return error

    async def _pause(self, attempt: int, *, ends: float, hint: float | None, why: str) -> None:
        backed_off = min(self._longest_pause, self._first_pause * 2 ** min(attempt, 16))
        pause = max(backed_off * random.uniform(0.5, 1.0), hint or 0.0)  # noqa: S311 - spreads load, keeps no secret
        if time.monotonic() + pause >= ends:
            raise Unanswered(f"{self.name} did not answer in time: {why}")
        await asyncio.sleep(pause)

    async def _fetch(self, url: str, *, max_bytes: int, ends: float) -> bytes:
        """Fetch without the key, under the guard that is set against our own network."""
        for attempt in count():
            try:
                return (await self._guarded(url).get(url, max_bytes=max_bytes)).data
            except FetchRefused as error:
                raise Lost(f"{self.name}'s result: {error.message}") from error
            except FetchFailed as error:
                if not _may_change(error.message, attempt):
                    raise Lost(f"{self.name}'s result: {error.message}") from error
                await self._pause(attempt, ends=ends, hint=None, why=error.message)
        raise AssertionError("the deadline ends the loop")

    def _guarded(self, url: str) -> MediaFetcher:
        """Return the fetcher of public files; one for a loopback file where the vendor itself is on the loopback."""
        if url[:5].lower() == "data:":
            raise Lost(f"{self.name}'s result is a data: URI where an address was expected")
        port = self._home.loopback_port(url)
        if port is None:
            return self._fetcher
        policy = FetchPolicy(
            schemes=frozenset({"http", "https"}), ports=frozenset({port}), permits=lambda each: each.is_loopback
        )
        return MediaFetcher(policy=policy, total_seconds=_DOWNLOAD_SECONDS)


def segment(text: str) -> str:
    """Return one segment of a path, such as a vendor's task id."""
    return quote(text, safe="")


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
    return reply.status in _TRANSIENT or reply.status >= 500


def _why(answer: Reply | Exception) -> str:
    return f"status {answer.status}" if isinstance(answer, Reply) else type(answer).__name__


def _may_change(message: str, attempt: int) -> bool:
    """Tell whether a failed fetch is worth repeating; a store may need a moment before it shows a new file."""
    if any(words in message for words in _FINAL):
        return False
    status = re.search(r"answered with status (\d{3})", message)
    if status is None or int(status[1]) >= 500 or int(status[1]) in _TRANSIENT:
        return True
    return attempt + 1 < _PATIENCE
