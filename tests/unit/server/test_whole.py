"""Answers in one write against uvicorn's own, over real sockets: whatever is sent, a client sees no difference."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from stablestudio.server import limits
from stablestudio.server.http import Headers, Receive, Scope, Send, read_body, respond_whole
from stablestudio.server.limits import LimitedHttp

pytestmark = pytest.mark.anyio
HEADERS: Headers = [(b"content-type", b"text/plain"), (b"www-authenticate", b"one"), (b"www-authenticate", b'a="b\t"')]
POST = b"POST / HTTP/1.1\r\nhost: here\r\ncontent-length: 2\r\n%b\r\nhi"
PLAIN = POST % b""
Answer = tuple[bytes, list[bytes], bytes]


@dataclass(slots=True)
class Studio:
    """An application that answers alike, and notes whether the answer went out in one write."""

    headers: Headers = field(default_factory=lambda: HEADERS)
    body: bytes = b"{}"
    whole: list[bool] = field(default_factory=list)
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive, limit=10)
        sent: list[str] = []

        async def plainly(message: dict[str, object]) -> None:
            sent.append(str(message["type"]))
            await send(message)

        await respond_whole(scope, plainly, 402, self.body, self.headers)  # type: ignore[arg-type]
        self.whole.append(not sent)
        self.answered.set()


@asynccontextmanager
async def connected(
    app: Studio, protocol: type[HttpToolsProtocol]
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    config = uvicorn.Config(app, http=protocol, ws="none", lifespan="off", access_log=False, log_config=None)
    config.load()
    state = ServerState()
    state.default_headers = [(b"date", b"Sat, 21 Nov 2026 07:11:21 GMT")]
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: protocol(config, state, {}), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        yield reader, writer
    finally:
        writer.close()
        server.close()
        await server.wait_closed()


async def read_answer(reader: asyncio.StreamReader, *, body: bool = True) -> Answer:
    async with asyncio.timeout(30):
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
        [length] = [int(line.removeprefix(b"content-length: ")) for line in lines if line.startswith(b"content-length")]
        return first, sorted(lines), await reader.readexactly(length if body else 0)


async def answers(app: Studio, protocol: type[HttpToolsProtocol], sent: bytes, *, count: int) -> list[Answer]:
    async with connected(app, protocol) as (reader, writer):
        writer.write(sent)
        got = [await read_answer(reader, body=not sent.startswith(b"HEAD")) for _ in range(count)]
        if b"connection: close" in got[-1][1]:
            async with asyncio.timeout(30):
                assert await reader.read() == b""
    return got


@pytest.mark.parametrize(
    ("sent", "whole"),
    [
        (PLAIN, [True]),
        (POST % b"connection: keep-alive\r\n", [True]),
        (POST % b"connection: close\r\n", [False]),
        (PLAIN.replace(b"1.1", b"1.0"), [False]),
        (PLAIN.replace(b"POST", b"HEAD"), [False]),
        (PLAIN * 3, [False, False, True]),
        (PLAIN + POST % b"connection: close\r\n", [False, False]),
    ],
    ids=["plain", "keep-alive", "close", "HTTP/1.0", "HEAD", "pipelined", "pipelined and closed"],
)
async def test_an_answer_in_one_write_is_the_same_answer(sent: bytes, whole: list[bool]) -> None:
    ours, theirs = Studio(), Studio()

    got = await answers(ours, LimitedHttp, sent, count=len(whole))

    assert got == await answers(theirs, HttpToolsProtocol, sent, count=len(whole))
    assert got[0][1].count(b"www-authenticate: one") == 1
    assert (ours.whole, theirs.whole) == (whole, [False] * len(whole))


async def test_a_connection_is_used_again_after_an_answer_in_one_write() -> None:
    app = Studio()
    async with connected(app, LimitedHttp) as (reader, writer):
        for _ in range(3):
            writer.write(PLAIN)
            assert (await read_answer(reader))[0] == b"HTTP/1.1 402 Payment Required"
    assert app.whole == [True] * 3


async def test_a_buyer_that_asks_before_sending_its_body_is_told_to_go_on() -> None:
    async with connected(Studio(), LimitedHttp) as (reader, writer):
        writer.write((POST % b"expect: 100-continue\r\n").removesuffix(b"hi"))
        async with asyncio.timeout(30):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hi")
        assert (await read_answer(reader))[2] == b"{}"


async def test_nothing_is_written_beyond_what_a_slow_reader_takes() -> None:
    app = Studio(body=b"a" * 32_000_000)
    async with connected(app, LimitedHttp) as (reader, writer):
        writer.write(PLAIN)
        async with asyncio.timeout(30):
            await app.answered.wait()
        writer.write(PLAIN)
        for _ in range(2):
            assert (await read_answer(reader))[2] == app.body
    assert app.whole == [True, False]


@pytest.mark.parametrize("value", [b"a\r\nx-evil: 1", b"a\nx-evil: 1", b"a\rb", b"a\0b"])
@pytest.mark.parametrize("protocol", [LimitedHttp, HttpToolsProtocol])
async def test_no_header_ends_early_and_begins_another(value: bytes, protocol: type[HttpToolsProtocol]) -> None:
    app = Studio(headers=[(b"x-fine", b"a"), (b"x-broken", value)])
    async with connected(app, protocol) as (reader, writer):
        writer.write(PLAIN)
        async with asyncio.timeout(30):
            assert await reader.read() == b""


@pytest.mark.parametrize(
    "sent", [b"", b"POST / HTT", b"POST / HTTP/1.1\r\nhost: here\r\n", PLAIN + b"POST / HTTP/1.1\r\na: "]
)
async def test_a_head_that_does_not_end_in_time_ends_the_connection(
    sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HEAD_SECONDS", 0.2)
    async with connected(Studio(), LimitedHttp) as (reader, writer), asyncio.timeout(30):
        writer.write(sent)
        got = await reader.read()
    assert got.count(b"HTTP/1.1 402") == sent.count(b"hi")
    assert b"HTTP/1.1 408 Request Timeout" in got
    assert b'"code":"request_too_slow"' in got


async def test_a_slow_body_and_a_slow_answer_are_not_cut_off_by_the_limit_of_heads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "HEAD_SECONDS", 0.2)
    async with connected(Studio(), LimitedHttp) as (reader, writer):
        writer.write(PLAIN[:-1])
        await asyncio.sleep(0.5)
        writer.write(PLAIN[-1:])
        assert (await read_answer(reader))[2] == b"{}"
