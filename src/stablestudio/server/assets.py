"""Serve assets by signed link, whole or in ranges (RFC 9110), in constant memory."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime

import anyio
from starlette.types import Receive, Scope, Send

from stablestudio.clock import Clock
from stablestudio.errors import StudioError
from stablestudio.media.links import PATH, AssetGone, AssetMissing, LinkSigner, link_terms, presentation
from stablestudio.media.storage import Storage
from stablestudio.server.http import Headers, refuse_method

log = logging.getLogger(__name__)
_RANGE = re.compile(rb"bytes=[ \t,]*([0-9]{0,30})-([0-9]{0,30})[ \t,]*", re.IGNORECASE)
_FIXED_HEADERS = (
    (b"accept-ranges", b"bytes"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; sandbox"),
    (b"cross-origin-resource-policy", b"cross-origin"),
    (b"access-control-allow-origin", b"*"),
    (
        b"access-control-expose-headers",
        b"Accept-Ranges, Content-Disposition, Content-Length, Content-Range, Content-Type, ETag, Last-Modified",
    ),
)


class RangeNotSatisfiable(StudioError):
    """The range asked for begins after the end of the file."""

    status = 416
    hint = "Ask for a range within the length given in Content-Range, or for the whole file."


class PreconditionFailed(StudioError):
    """The file is not the one that If-Match or If-Unmodified-Since ask for."""

    status = 412
    hint = "Ask again without the condition."


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetInfo:
    """What the store's record says of a file: size in bytes, sha256 in lower hex, seconds since 1970."""

    content_type: str
    size: int
    sha256: str
    made_at_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetEndpoint:
    """Answer GET and HEAD of `/assets/{key}?exp=...&sig=...`; errors are raised for the server's edge to write."""

    storage: Storage
    links: LinkSigner
    clock: Clock
    describe: Callable[[str], Awaitable[AssetInfo | None]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            raise refuse_method(scope, "GET, HEAD")
        key = scope["path"].partition(PATH)[2]
        exp, sig = link_terms(scope["query_string"].decode("latin-1"))
        now_ms = self.clock.now_ms()
        expiry = self.links.check(key, exp, sig, now_ms)
        info = await self.describe(key)
        if info is None:
            raise AssetGone
        answer = _decide(scope, info)
        headers = _headers(key, info, answer, seconds_left=expiry - now_ms // 1000)
        if scope["method"] == "HEAD" or answer.start == answer.end:
            await _start(send, answer.status, headers)
            await send({"type": "http.response.body"})
            return
        pieces = self.storage.stream(key, answer.start, answer.end)
        try:
            # The first piece is at hand before the status line, so that a missing file can still become an error.
            first = await self._first(key, pieces)
            await _start(send, answer.status, headers)
            await _deliver(first, pieces, receive, send, more=len(first) < answer.end - answer.start)
        finally:
            await pieces.aclose()

    async def _first(self, key: str, pieces: AsyncGenerator[bytes]) -> bytes:
        try:
            return await anext(pieces)
        except AssetGone:
            if await self.describe(key) is None:
                raise  # it was erased a moment ago; else this raised as well
            log.error("file_missing", extra={"key": key, "job": key.split("/")[1]})  # noqa: TRY400 - its trace tells nothing
            raise AssetMissing from None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    status: int
    start: int
    end: int  # exclusive


def _decide(scope: Scope, info: AssetInfo) -> _Answer:
    """Choose between 200, 206 and 304; raise `PreconditionFailed` or `RangeNotSatisfiable`."""
    headers = dict(scope["headers"])
    if not _matches(headers, info):
        raise PreconditionFailed
    if _is_known(headers, info):
        return _Answer(status=304, start=0, end=0)
    whole = _Answer(status=200, start=0, end=info.size)
    # RFC 9110 14.2 defines Range for GET alone; 13.1.5 takes it back where If-Range is not this very file.
    same = (_etag(info), _modified(info))
    if scope["method"] != "GET" or b"range" not in headers or headers.get(b"if-range", same[0]) not in same:
        return whole
    bounds = _bounds(headers[b"range"], info.size)
    return _Answer(status=206, start=bounds[0], end=bounds[1]) if bounds else whole


def _matches(headers: Mapping[bytes, bytes], info: AssetInfo) -> bool:
    """Tell whether the file is the one that If-Match or If-Unmodified-Since ask for (RFC 9110 13.2.2)."""
    if (wanted := headers.get(b"if-match")) is not None:
        return any(tag.strip() in (b"*", _etag(info)) for tag in wanted.split(b","))
    since = _moment(headers.get(b"if-unmodified-since"))
    return since is None or info.made_at_s <= since


def _is_known(headers: Mapping[bytes, bytes], info: AssetInfo) -> bool:
    """Tell whether the client has this very file; its date counts only where no tag is given (RFC 9110 13.1.3)."""
    if (known := headers.get(b"if-none-match")) is not None:
        return _names(known, _etag(info))
    since = _moment(headers.get(b"if-modified-since"))
    return since is not None and info.made_at_s <= since


def _bounds(header: bytes, size: int) -> tuple[int, int] | None:
    """Return start and exclusive end, or None where Range is to be ignored: malformed, or more than one range."""
    match = _RANGE.fullmatch(header.strip())
    if match is None or match.group(1, 2) == (b"", b""):
        return None
    first, last = match.groups()
    if not first:
        start, end = max(size - int(last), 0), size
    else:
        start, end = int(first), min(int(last) + 1 if last else size, size)
        if last and int(last) < start:
            return None
    if start >= size:
        raise RangeNotSatisfiable(headers={"Content-Range": f"bytes */{size}"})
    return start, end


def _headers(key: str, info: AssetInfo, answer: _Answer, *, seconds_left: int) -> Headers:
    headers: Headers = [
        *_FIXED_HEADERS,
        (b"etag", _etag(info)),
        (b"last-modified", _modified(info)),
        (b"cache-control", f"private, max-age={seconds_left}".encode()),
    ]
    if answer.status == 304:
        return headers
    shown, disposition = presentation(key, info.content_type)
    if answer.status == 206:
        headers.append((b"content-range", f"bytes {answer.start}-{answer.end - 1}/{info.size}".encode()))
    return [
        *headers,
        (b"content-type", shown.encode()),
        (b"content-length", str(answer.end - answer.start).encode()),
        (b"content-disposition", disposition.encode()),
    ]


def _etag(info: AssetInfo) -> bytes:
    return f'"{info.sha256}"'.encode()


def _modified(info: AssetInfo) -> bytes:
    return formatdate(info.made_at_s, usegmt=True).encode()


def _moment(date: bytes | None) -> float | None:
    """Return the seconds since 1970 of an HTTP date; None where it is none, which is then ignored."""
    try:
        return None if date is None else parsedate_to_datetime(date.decode("latin-1")).timestamp()
    except (ValueError, OverflowError):
        return None


def _names(header: bytes, etag: bytes) -> bool:
    """Tell whether If-None-Match names the file, compared weakly as RFC 9110 13.1.2 says."""
    return any(tag.strip().removeprefix(b"W/") in (b"*", etag) for tag in header.split(b","))


async def _start(send: Send, status: int, headers: Headers) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _deliver(first: bytes, rest: AsyncGenerator[bytes], receive: Receive, send: Send, *, more: bool) -> None:
    if not more:
        await send({"type": "http.response.body", "body": first})
        return
    # Servers take what is sent after a disconnect without a word, so somebody has to listen for it.
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_stop_at_disconnect, receive, tasks.cancel_scope)
        await send({"type": "http.response.body", "body": first, "more_body": True})
        async for piece in rest:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})
        tasks.cancel_scope.cancel()


async def _stop_at_disconnect(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
