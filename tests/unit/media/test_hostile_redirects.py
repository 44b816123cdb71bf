"""A real host redirects to every hostile address: it alone is contacted, however it redirects."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from ipaddress import ip_address

import httpcore2
import pytest

from stablestudio.media.addresses import FetchPolicy, FetchRefused, is_public
from stablestudio.media.fetch import FetchFailed, MediaFetcher
from tests.contacts import answering, heard
from tests.hostile_targets import ANSWERS, NO_ADDRESS, TARGETS

pytestmark = pytest.mark.anyio

HERE = "127.0.0.77"  # so that 127.0.0.1 stays forbidden; all of 127.0.0.0/8 is this machine
STATUSES = (301, 302, 303, 307, 308)
NO_TLS = ("http://example.com/", "HTTP://example.com/")  # where the first host has none either
LOCATIONS = [
    *(target.url for target in TARGETS if target.told != NO_ADDRESS and target.url not in NO_TLS),
    *(f"https://{name}/" for name in ANSWERS),
    *("//127.0.0.1/", "//localhost/", "//[::1]/", "//2130706433/", "\\\\127.0.0.1\\", "/\\127.0.0.1/"),
    *("javascript:alert(1)", "data:image/png;base64,AAAA", "mailto:a@example.com", "job:job_01", "about:blank"),
    *("https://[", "https://[::1", "https://[zz]/", "//exam\u2100ple.com/", "http://exam\tple.com/"),
]


class Host:
    """A host that redirects a fixed number of times to itself, and then to `location`."""

    def __init__(self) -> None:
        self.port = 0
        self.status = 302
        self.location = ""
        self.steps = 0

    @property
    def url(self) -> str:
        return f"http://{HERE}:{self.port}/0"

    def fetcher(self) -> MediaFetcher:
        here = ip_address(HERE)
        return MediaFetcher(
            policy=FetchPolicy(
                schemes=frozenset({"http", "https"}),
                ports=frozenset({80, 443, self.port}),
                permits=lambda address: address == here or is_public(address),
            )
        )

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1]
        step = int(path.strip(b"/").partition(b"?")[0])
        location = f"/{step + 1}" if step < self.steps else self.location
        head = f"HTTP/1.1 {self.status} x\r\nContent-Length: 0\r\nConnection: close\r\nLocation: {location}\r\n\r\n"
        writer.write(head.encode(errors="surrogatepass"))
        await writer.drain()
        writer.close()


@pytest.fixture(scope="module")
async def host() -> AsyncIterator[Host]:
    host = Host()
    server = await asyncio.start_server(host.serve, HERE, 0)
    host.port = server.sockets[0].getsockname()[1]
    async with server:
        yield host


@pytest.mark.parametrize("number", range(len(LOCATIONS)))
async def test_redirect_to_a_hostile_address_is_not_followed(
    number: int, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", answering(ANSWERS))
    host.location, host.status, host.steps = LOCATIONS[number], STATUSES[number % 5], number % 3

    # A header with a line break or a NUL is no HTTP, which fails before anybody reads it.
    fault = FetchFailed if set(host.location) & set("\0\n") else FetchRefused
    with heard() as contacts, pytest.raises(fault):
        await host.fetcher().get(host.url)
    assert contacts == [f"socket.connect {HERE} {host.port}"] * (host.steps + 1)


@pytest.mark.parametrize("location", ["/0", "", "?a", "#a", "https:/0", "///0"])
async def test_redirects_in_a_circle_end(location: str, host: Host) -> None:
    host.location, host.status, host.steps = location.replace("https", "http"), 307, 0

    with heard() as contacts, pytest.raises(FetchFailed, match="more than 3 redirects"):
        await host.fetcher().get(host.url)
    assert contacts == [f"socket.connect {HERE} {host.port}"] * 4


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("location", [*NO_TLS, "http:/a", "http://studio.example.com:443/"])
async def test_redirect_out_of_tls_is_not_followed(location: str, status: int) -> None:
    answer = f"HTTP/1.1 {status} x\r\nContent-Length: 0\r\nLocation: {location}\r\n\r\n"
    first = httpcore2.AsyncMockBackend([answer.encode()])

    async def resolve(_: str) -> Sequence[str]:
        return ["93.184.215.14"]

    with heard() as contacts, pytest.raises(FetchRefused):
        await MediaFetcher(resolve=resolve, backend=first).get("https://studio.example.com/")
    assert contacts == []
