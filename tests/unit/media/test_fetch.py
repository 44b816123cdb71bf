"""A host is looked up once and called where it was judged; own links and data: URIs need no look-up and no socket."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpcore2
import pytest

from stablestudio.media.addresses import FetchRefused
from stablestudio.media.fetch import MAX_INLINE_BYTES, FetchFailed, MediaFetcher, OwnAssets, read_data_uri
from stablestudio.media.links import LinkSigner
from stablestudio.media.lookups import LookUps
from stablestudio.media.storage import Storage
from tests.contacts import heard

pytestmark = pytest.mark.anyio
PUBLIC_ADDRESS = "93.184.215.14"
ORIGIN = "https://studio.example"
NOW_MS = 1_795_205_641_836
KEY = "jobs/job_abc/0.png"


class FixedClock:
    def now_ms(self) -> int:
        return NOW_MS


@dataclass
class Resolver:
    """Answer from a table; each name takes its next answer, and keeps the last."""

    answers: dict[str, list[list[str]]]
    asked: list[str] = field(default_factory=list)

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        queue = self.answers.get(host, [[]])
        return queue.pop(0) if len(queue) > 1 else queue[0]


class ClosedBackend(httpcore2.AsyncNetworkBackend):
    """A network where every host is down; it remembers who was called."""

    def __init__(self) -> None:
        self.called: list[str] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        self.called.append(f"{host} {port}")
        raise httpcore2.ConnectError


async def test_rebinding_name_is_looked_up_once_and_connected_where_it_was_judged() -> None:
    resolver = Resolver({"rebind.example.com": [[PUBLIC_ADDRESS], ["127.0.0.1"]]})
    backend = ClosedBackend()

    with pytest.raises(FetchFailed, match=r"rebind\.example\.com could not be reached"):
        await MediaFetcher(resolve=resolver, backend=backend).get("https://rebind.example.com/")
    assert (resolver.asked, backend.called) == (["rebind.example.com"], [f"{PUBLIC_ADDRESS} 443"])


async def test_every_address_of_a_host_is_tried_up_to_four() -> None:
    addresses = ["2606:4700::1111", "1.1.1.1", "8.8.8.8", "9.9.9.9", PUBLIC_ADDRESS]
    backend = ClosedBackend()

    with pytest.raises(FetchFailed):
        await MediaFetcher(resolve=Resolver({"example.com": [addresses]}), backend=backend).get("https://example.com/")
    assert backend.called == [f"{address} 443" for address in addresses[:4]]


async def test_public_literal_is_connected_to_without_a_look_up() -> None:
    resolver, backend = Resolver({}), ClosedBackend()

    for host in ("8.8.8.8", "[2606:4700::1111]"):
        with pytest.raises(FetchFailed):
            await MediaFetcher(resolve=resolver, backend=backend).get(f"https://{host}/")
    assert (resolver.asked, backend.called) == ([], ["8.8.8.8 443", "2606:4700::1111 443"])


async def test_name_without_an_address_fails() -> None:
    with pytest.raises(FetchFailed, match="has no address"):
        await MediaFetcher(resolve=Resolver({}), backend=ClosedBackend()).get("https://gone.example.com/")


async def test_system_resolver_gives_plain_addresses() -> None:
    assert set(await LookUps()("localhost")) <= {"127.0.0.1", "::1"}


async def test_name_unknown_to_the_system_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(FetchFailed, match=r"gone\.example\.com has no address"):
        await MediaFetcher(backend=ClosedBackend()).get("https://gone.example.com/")


async def test_name_servers_that_never_answer_hold_none_of_the_service_s_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answered = threading.Event()

    def hang(*_: Any, **__: Any) -> list[Any]:
        answered.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    ask = LookUps(patience=60)
    look_ups = [asyncio.create_task(ask(f"www.example{number}.com")) for number in range(100)]
    try:
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "free"), timeout=30) == "free"
    finally:
        answered.set()
    assert await asyncio.gather(*look_ups) == [[]] * 100


class TlsProbe(httpcore2.AsyncNetworkStream):
    """Note what TLS is asked to check, then fail as a bad certificate does."""

    def __init__(self) -> None:
        self.asked: list[tuple[str | None, bool, ssl.VerifyMode]] = []

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore2.AsyncNetworkStream:
        self.asked.append((server_hostname, ssl_context.check_hostname, ssl_context.verify_mode))
        raise httpcore2.ConnectError(ssl.SSLCertVerificationError("hostname mismatch"))


class OpenBackend(ClosedBackend):
    def __init__(self, stream: httpcore2.AsyncNetworkStream) -> None:
        super().__init__()
        self.stream = stream

    async def connect_tcp(self, *_: Any, **__: Any) -> httpcore2.AsyncNetworkStream:
        return self.stream


async def test_certificate_is_checked_against_the_name_though_the_address_is_pinned() -> None:
    probe = TlsProbe()
    resolver = Resolver({"example.com": [[PUBLIC_ADDRESS]]})

    with pytest.raises(FetchFailed, match=r"example\.com has no valid certificate"):
        await MediaFetcher(resolve=resolver, backend=OpenBackend(probe)).get("https://example.com/")
    assert probe.asked == [("example.com", True, ssl.CERT_REQUIRED)]


@pytest.fixture
async def own(tmp_path: Path) -> OwnAssets:
    storage = Storage.at(str(tmp_path))
    await storage.put_once(KEY, b"picture", content_type="image/png")
    return OwnAssets(links=LinkSigner(b"k" * 32, ORIGIN), storage=storage, clock=FixedClock())


def offline(own: OwnAssets) -> tuple[MediaFetcher, ClosedBackend, Resolver]:
    backend, resolver = ClosedBackend(), Resolver({"studio.example": [[PUBLIC_ADDRESS]]})
    return MediaFetcher(own=own, resolve=resolver, backend=backend), backend, resolver


async def test_own_link_is_read_from_storage_without_network(own: OwnAssets) -> None:
    fetcher, backend, resolver = offline(own)

    with heard() as sockets:
        fetched = await fetcher.get(own.links.url(KEY, now_ms=NOW_MS))
    assert fetched.data == b"picture"
    assert (backend.called, resolver.asked, sockets) == ([], [], [])


async def test_own_link_on_a_loopback_origin_is_read_too(own: OwnAssets) -> None:
    local = OwnAssets(links=LinkSigner(b"k" * 32, "http://127.0.0.1:8402"), storage=own.storage, clock=own.clock)

    assert (await offline(local)[0].get(local.links.url(KEY, now_ms=NOW_MS))).data == b"picture"


async def test_own_link_is_judged_as_of_the_moment_it_was_given(own: OwnAssets) -> None:
    fetcher, *_ = offline(own)
    an_hour_ago = NOW_MS - 3_600_000
    url = own.links.url(KEY, now_ms=an_hour_ago)

    with pytest.raises(FetchRefused, match="expired") as caught:
        await fetcher.get(url)
    assert "fresh link" in caught.value.advice
    assert (await fetcher.get(url, as_of_ms=an_hour_ago)).data == b"picture"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api/jobs",
        "/assets/",
        f"/assets/{KEY}",
        f"/assets/{KEY}?exp=9999999999&sig={'A' * 24}",
        "/assets/../api/jobs?exp=1&sig=a",
        "/assets/%2e%2e/x?exp=9999999999&sig=AAAA",
        "/ASSETS/x",
    ],
)
async def test_other_own_addresses_are_refused_without_network(own: OwnAssets, path: str) -> None:
    fetcher, backend, resolver = offline(own)

    for origin in (ORIGIN, "HTTPS://STUDIO.EXAMPLE", f"{ORIGIN}:443"):
        with pytest.raises(FetchRefused):
            await fetcher.get(origin + path)
    assert (backend.called, resolver.asked) == ([], [])


async def test_own_link_to_a_removed_file_fails(own: OwnAssets) -> None:
    await own.storage.delete(KEY)

    with pytest.raises(FetchFailed, match="not kept"):
        await offline(own)[0].get(own.links.url(KEY, now_ms=NOW_MS))


async def test_cap_holds_for_own_links(own: OwnAssets) -> None:
    with pytest.raises(FetchFailed, match="larger"):
        await offline(own)[0].get(own.links.url(KEY, now_ms=NOW_MS), max_bytes=6)


@pytest.mark.parametrize(
    ("uri", "data", "content_type"),
    [
        ("data:image/png;base64,cGljdHVyZQ==", b"picture", "image/png"),
        ("DATA:Image/PNG;name=a.png;BASE64,cGljdHVyZQ==", b"picture", "image/png"),
        ("data:;base64,", b"", None),
    ],
)
async def test_data_uri_is_decoded_without_network(uri: str, data: bytes, content_type: str | None) -> None:
    with heard() as sockets:
        fetched = await MediaFetcher().get(uri)
    assert (fetched.data, fetched.content_type, fetched.url, sockets) == (data, content_type, "data:", [])


@pytest.mark.parametrize(
    "uri",
    [
        "data:",
        "data:,plain",
        "data:image/png,plain",
        "data:image/png;base64",
        "data:base64,cGljdHVyZQ==",
        "data:image/png;base64,cGljdHVyZQ",
        "data:image/png;base64,cGljdHVyZQ=",
        "data:image/png;base64,cGlj dHVyZQ==",
        "data:image/png;base64,cGlj\ndHVyZQ==",
        "data:image/png;base64,cGljdHVyZQ==cGlj",
        "data:image/png;base64,cGlj-_VyZQ==",
        "data:image/png;base64,cGljdHVyZQ%3D%3D",
        "data:image/png;base64,\u00e4\u00e4\u00e4\u00e4",
        "data:image/png;base64,\ud800AAA",
    ],
)
def test_data_uri_that_is_not_strict_base64_is_refused(uri: str) -> None:
    with pytest.raises(FetchRefused):
        read_data_uri(uri, max_bytes=100)


async def test_data_uri_has_a_cap_of_its_own() -> None:
    text = "A" * (MAX_INLINE_BYTES // 3 * 4)

    assert len((await MediaFetcher().get(f"data:image/png;base64,{text}")).data) == MAX_INLINE_BYTES // 3 * 3
    with pytest.raises(FetchFailed, match="larger than 4 MB"):
        await MediaFetcher().get(f"data:image/png;base64,{text}{'A' * 8}")


@pytest.mark.parametrize(("text", "size"), [("AAAA", 3), ("AAAAAA==", 4), ("AAAAAAA=", 5)])
def test_data_uri_is_capped_to_the_byte(text: str, size: int) -> None:
    uri = f"data:image/png;base64,{text}"

    assert len(read_data_uri(uri, max_bytes=size).data) == size
    with pytest.raises(FetchFailed, match="larger"):
        read_data_uri(uri, max_bytes=size - 1)
