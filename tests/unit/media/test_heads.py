"""Answers that never begin: whoever sends interim answers or a head without end is hung up on."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpcore2
import pytest

from stablestudio.media.addresses import FetchFailed, FetchPolicy
from stablestudio.media.fetch import MediaFetcher
from stablestudio.media.heads import MOST_BYTES, HeadStream
from stablestudio.media.post import Poster

pytestmark = pytest.mark.anyio
POLICY = FetchPolicy(schemes=frozenset({"http"}), ports=range(1, 65_536), permits=lambda _: True)
ENDLESS = {
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 200),
    "early hints": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 100),
    "a head": (b"HTTP/1.1 200 OK\r\n", b"X-A: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 100),
    "a header": (b"HTTP/1.1 200 OK\r\nX: ", b"a" * 4096),
}


async def _post(url: str) -> object:
    return await Poster(policy=POLICY, total_seconds=60).post(url, body=b"{}", headers={})


async def _fetch(url: str) -> object:
    return await MediaFetcher(policy=POLICY, total_seconds=60).get(url)


@asynccontextmanager
async def _host(first: bytes, rest: bytes, *, times: int | None = None) -> AsyncIterator[str]:
    """A server that answers anything with `first`, and then with `rest` so many times or for ever."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(first)
            while times is None:
                writer.write(rest)
                await writer.drain()
            writer.write(rest * times)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


@pytest.mark.parametrize("ask", [_post, _fetch])
@pytest.mark.parametrize("what", ENDLESS)
async def test_an_answer_that_never_begins_is_hung_up_on_after_64_kib(
    ask: Callable[[str], Awaitable[object]], what: str
) -> None:
    async with _host(*ENDLESS[what]) as url:
        with pytest.raises(FetchFailed, match="sent 64 KiB before its answer"):
            await ask(url)


async def test_a_body_may_be_longer_than_any_head_and_interim_answers_may_come_first() -> None:
    size = 4 * MOST_BYTES
    head = b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
    async with _host(head, b"x" * size, times=1) as url:
        fetched = await MediaFetcher(policy=POLICY, total_seconds=60).get(url)
    assert len(fetched.data) == size


class Endless(httpcore2.AsyncNetworkStream):
    """Sends for ever, in the clear and through TLS."""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's
        return b"x" * max_bytes

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        pass

    async def start_tls(self, ssl_context: ssl.SSLContext, *_: Any, **__: Any) -> httpcore2.AsyncNetworkStream:
        return self


async def test_what_comes_through_tls_is_counted_and_a_new_request_counts_anew() -> None:
    stream = await HeadStream(Endless(), host="a.example").start_tls(ssl.create_default_context())
    for _ in range(2):
        await stream.write(b"GET / HTTP/1.1")
        read = 0
        while read < MOST_BYTES:
            read += len(await stream.read(MOST_BYTES))
        with pytest.raises(FetchFailed):
            await stream.read(MOST_BYTES)
