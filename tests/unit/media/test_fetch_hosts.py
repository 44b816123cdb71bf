"""How hosts that answer are dealt with: a loopback server, allowed for the test only, plays those that misbehave."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

import httpcore2
import pytest

from stablestudio.media.addresses import FetchPolicy, FetchRefused
from stablestudio.media.fetch import FetchFailed, MediaFetcher

pytestmark = pytest.mark.anyio

Script = Callable[[str, asyncio.StreamWriter], Awaitable[None]]
ADDRESSES = {"media.example.com": ["127.0.0.1"], "inner.example.com": ["127.0.0.2"]}


async def resolve(host: str) -> Sequence[str]:
    return ADDRESSES[host]


class Recorder(httpcore2.AnyIOBackend):
    """The real network, with a list of who was called."""

    def __init__(self) -> None:
        self.called: list[str] = []

    async def connect_tcp(self, host: str, port: int, *arguments: Any, **options: Any) -> httpcore2.AsyncNetworkStream:
        self.called.append(f"{host} {port}")
        return await super().connect_tcp(host, port, *arguments, **options)


@dataclass
class Host:
    """A loopback server that answers each request line by a script."""

    port: int
    requests: list[str]
    backend: Recorder = field(default_factory=Recorder)

    def url(self, path: str) -> str:
        return f"http://media.example.com:{self.port}{path}"

    def fetcher(
        self, *, total_seconds: float = 30.0, resolve: Callable[[str], Awaitable[Sequence[str]]] = resolve
    ) -> MediaFetcher:
        policy = FetchPolicy(
            schemes=frozenset({"http"}),
            ports=frozenset({self.port}),
            permits=lambda address: address == ip_address("127.0.0.1"),
        )
        return MediaFetcher(policy=policy, resolve=resolve, backend=self.backend, total_seconds=total_seconds)


@asynccontextmanager
async def host(script: Script) -> AsyncIterator[Host]:
    requests: list[str] = []
    serving: list[asyncio.Task[None] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
            await script(requests[-1].split()[1], writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Host(server.sockets[0].getsockname()[1], requests)
    await asyncio.wait_for(asyncio.gather(*filter(None, serving)), timeout=30)


def answering(*lines: str, body: bytes = b"", status: str = "200 OK") -> Script:
    async def script(_: str, writer: asyncio.StreamWriter) -> None:
        head = [f"HTTP/1.1 {status}", "Connection: close", *lines]
        writer.write("\r\n".join([*head, "", ""]).encode() + body)
        await writer.drain()

    return script


async def test_good_fetch_gives_the_bytes_and_the_senders_word() -> None:
    async with host(answering("Content-Type: Image/PNG; x=1", "Content-Length: 7", body=b"picture")) as server:
        fetched = await server.fetcher().get(server.url("/a b.png?q=1#part"), kind="image")

    assert (fetched.data, fetched.content_type) == (b"picture", "image/png")
    assert fetched.url == server.url("/a%20b.png?q=1")
    assert server.backend.called == [f"127.0.0.1 {server.port}"]


async def test_request_tells_no_more_than_it_must() -> None:
    async with host(answering("Content-Length: 1", body=b"x")) as server:
        await server.fetcher().get(server.url("/a.png"), kind="image")

    lines = server.requests[0].split("\r\n")
    assert lines[0] == "GET /a.png HTTP/1.1"
    assert sorted(line.partition(":")[0].lower() for line in lines[1:] if line) == [
        "accept",
        "accept-encoding",
        "host",
        "user-agent",
    ]
    assert f"Host: media.example.com:{server.port}" in lines
    assert "Accept-Encoding: identity" in lines
    assert "Accept: image/*" in lines


async def test_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with host(answering("Content-Length: 1", body=b"x")) as server:
        assert (await server.fetcher().get(server.url("/"))).data == b"x"


@pytest.mark.parametrize("length", ["Content-Length: 100001", f"Content-Length: {10**40}", "X: no length"])
async def test_too_large_body_is_cut_off(length: str) -> None:
    taken: list[int] = []

    async def endless(_path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\n{length}\r\n\r\n".encode())
        for _step in range(1000):
            writer.write(bytes(65536))
            await writer.drain()
            taken.append(65536)

    async with host(endless) as server:
        with pytest.raises(FetchFailed) as caught:
            await server.fetcher().get(server.url("/"), max_bytes=100_000)
    assert caught.value.status == 400
    assert sum(taken) < 32 * 1024 * 1024  # what the sockets' buffers hold, of 64 MB


async def test_body_of_exactly_the_cap_is_taken() -> None:
    async with host(answering("Content-Length: 1000", body=bytes(1000))) as server:
        assert len((await server.fetcher().get(server.url("/"), max_bytes=1000)).data) == 1000
        with pytest.raises(FetchFailed, match="larger than"):
            await server.fetcher().get(server.url("/"), max_bytes=999)


def redirecting(count: int) -> Script:
    async def script(path: str, writer: asyncio.StreamWriter) -> None:
        number = int(path.strip("/"))
        if number < count:
            await answering(f"Location: /{number + 1}", status="302 Found")(path, writer)
        else:
            await answering("Content-Length: 4", body=b"here")(path, writer)

    return script


async def test_three_redirects_are_followed() -> None:
    async with host(redirecting(3)) as server:
        fetched = await server.fetcher().get(server.url("/0"))

    assert (fetched.data, fetched.url) == (b"here", server.url("/3"))


async def test_fourth_redirect_is_not_followed() -> None:
    async with host(redirecting(4)) as server:
        with pytest.raises(FetchFailed, match="redirects"):
            await server.fetcher().get(server.url("/0"))
    assert len(server.requests) == 4


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.2:{port}/",
        "http://169.254.169.254/latest/meta-data",
        "http://169.254.169.254:{port}/latest/meta-data",
        "http://inner.example.com:{port}/",
        "//inner.example.com:{port}/",
        "http://localhost:{port}/",
        "http://2130706434:{port}/",
        "http://media.example.com:1/",
        "http://media.example.com/",
        "https://media.example.com:{port}/",
        "http://user@media.example.com:{port}/",
        "file:///etc/passwd",
        "data:image/png;base64,AAAA",
        "http://[::1]:{port}/",
        "http://\\127.0.0.2:{port}/",
    ],
)
async def test_redirect_to_a_place_not_allowed_is_refused(location: str, status: str) -> None:
    async def script(path: str, writer: asyncio.StreamWriter) -> None:
        await answering(f"Location: {location.format(port=port)}", status=status)(path, writer)

    async with host(script) as server:
        port = server.port
        with pytest.raises(FetchRefused):
            await server.fetcher().get(server.url("/"))
    assert server.backend.called == [f"127.0.0.1 {server.port}"]


async def test_redirect_to_a_name_that_has_turned_private_is_refused() -> None:
    answers = [["127.0.0.1"], ["10.0.0.1"]]

    async def rebinding(_: str) -> Sequence[str]:
        return answers.pop(0)

    async with host(answering("Location: /again", status="302 Found")) as server:
        with pytest.raises(FetchRefused):
            await server.fetcher(resolve=rebinding).get(server.url("/"))
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", ["204 No Content", "206 Partial Content", "302 Found", "404 Not Found", "500 Oops"])
async def test_other_status_than_200_fails(status: str) -> None:
    async with host(answering("Content-Length: 0", status=status)) as server:
        with pytest.raises(FetchFailed, match=f"status {status[:3]}"):
            await server.fetcher().get(server.url("/"))


async def test_gzip_bomb_is_neither_expanded_nor_taken() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    lines = (f"Content-Length: {len(bomb)}", "Content-Type: image/png")
    async with host(answering(*lines, "Content-Encoding: gzip", body=bomb)) as server:
        with pytest.raises(FetchFailed, match="compressed"):
            await server.fetcher().get(server.url("/"), max_bytes=len(bomb))
    async with host(answering(*lines, body=bomb)) as server:
        assert (await server.fetcher().get(server.url("/"), max_bytes=len(bomb))).data == bomb


@pytest.mark.parametrize("content_type", ["text/html; charset=utf-8", "text/plain", "application/json"])
async def test_web_page_in_place_of_media_fails(content_type: str) -> None:
    async with host(answering(f"Content-Type: {content_type}", "Content-Length: 1", body=b"<")) as server:
        with pytest.raises(FetchFailed, match="where image data was expected"):
            await server.fetcher().get(server.url("/"), kind="image")
        assert (await server.fetcher().get(server.url("/"))).data == b"<"


@pytest.mark.parametrize("slow_from", ["look-up", "headers", "body"])
async def test_slow_drip_is_ended_by_the_total_time(slow_from: str) -> None:
    async def drip(_: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + (b"\r\n" if slow_from == "body" else b"X-Slow: "))
        while True:
            writer.write(b"a")
            await writer.drain()
            await asyncio.sleep(0.02)

    async def hang(_: str) -> Sequence[str]:
        await asyncio.sleep(30)
        return []

    async with host(drip) as server:
        fetcher = server.fetcher(total_seconds=0.3, resolve=hang if slow_from == "look-up" else resolve)
        began = time.monotonic()
        with pytest.raises(FetchFailed, match=r"example\.com took longer than 0.3 seconds") as caught:
            await fetcher.get(server.url("/?token=secret"))
    assert time.monotonic() - began < 20
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\na\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 40_000 + b"\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: https://" + b"a" * 200_000 + b".example.com/\r\n\r\n",
        b"HTTP/1.1 101 X\r\n\r\n",
    ],
    ids=lambda answer: answer[:60].decode().encode("unicode_escape").decode(),
)
async def test_broken_answer_fails(answer: bytes) -> None:
    async def script(_: str, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    async with host(script) as server:
        with pytest.raises(FetchFailed):
            await server.fetcher().get(server.url("/"))


async def test_what_follows_the_told_length_is_not_read() -> None:
    async with host(answering("Content-Length: 4", body=b"here" + bytes(100_000))) as server:
        assert (await server.fetcher().get(server.url("/"))).data == b"here"


def chunked(piece: bytes, count: int) -> Script:
    """Answer with equal chunks, as many as are taken."""

    async def script(_: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _step in range(count // 1000):
            writer.write((b"%x\r\n%s\r\n" % (len(piece), piece)) * 1000)
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    return script


async def test_body_in_a_flood_of_tiny_pieces_is_not_read_to_its_end() -> None:
    """Each piece costs the event loop the same, and a body of one-byte chunks would hold it for minutes."""
    async with host(chunked(b"a", 200_000)) as server:
        with pytest.raises(FetchFailed, match="too small pieces"):
            await server.fetcher().get(server.url("/"))


@pytest.mark.parametrize(("size", "count"), [(1, 5000), (512, 20_000)])
async def test_body_in_the_pieces_of_an_honest_host_is_read(size: int, count: int) -> None:
    async with host(chunked(bytes(size), count)) as server:
        assert len((await server.fetcher().get(server.url("/"))).data) == size * count
