from __future__ import annotations

import asyncio
import hashlib
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from stablestudio.errors import StudioError
from stablestudio.media.links import LinkSigner
from stablestudio.media.storage import CHUNK, Storage
from stablestudio.server.assets import AssetEndpoint, AssetInfo

pytestmark = pytest.mark.anyio
ORIGIN = "https://studio.example"
NOW_MS = 1_795_205_641_836
KEY = "jobs/job_abc/0.png"
DATA = bytes(range(256)) * 4  # 1024 bytes
MADE, BEFORE, AFTER = (formatdate(NOW_MS // 1000 + seconds, usegmt=True) for seconds in (0, -1, 1))
ETAG = f'"{hashlib.sha256(DATA).hexdigest()}"'


class HandClock:
    def __init__(self) -> None:
        self.ms = NOW_MS

    def now_ms(self) -> int:
        return self.ms


class Shelf:
    """One endpoint with its storage, links, clock and records."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.links = LinkSigner(b"k" * 32, ORIGIN)
        self.clock = HandClock()
        self.records: dict[str, AssetInfo] = {}
        self.endpoint = AssetEndpoint(storage=storage, links=self.links, clock=self.clock, describe=self.describe)

    async def describe(self, key: str) -> AssetInfo | None:
        return self.records.get(key)

    async def keep(self, key: str, data: bytes, *, content_type: str = "image/png") -> str:
        await self.storage.put_once(key, data, content_type=content_type)
        sha256 = hashlib.sha256(data).hexdigest()
        self.records[key] = AssetInfo(
            content_type=content_type, size=len(data), sha256=sha256, made_at_s=NOW_MS // 1000
        )
        return self.links.url(key, now_ms=self.clock.now_ms())

    async def ask(self, url: str, *, method: str = "GET", **headers: str) -> httpx2.Response:
        transport = httpx2.ASGITransport(app=edge(self.endpoint))
        async with httpx2.AsyncClient(transport=transport) as client:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return await client.request(method, url, headers=named)


def edge(app: ASGIApp) -> ASGIApp:
    """Write errors as the server's edge does, in short."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except StudioError as error:
            headers = [(name.lower().encode(), value.encode()) for name, value in error.headers]
            await send({"type": "http.response.start", "status": error.status, "headers": headers})
            await send({"type": "http.response.body", "body": json.dumps(error.body()).encode()})

    return wrapped


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(Storage.at(str(tmp_path)))


@pytest.fixture
async def url(shelf: Shelf) -> str:
    return await shelf.keep(KEY, DATA)


async def test_whole_file_is_served_with_everything_a_browser_needs(shelf: Shelf, url: str) -> None:
    response = await shelf.ask(url)

    assert (response.status_code, response.content) == (200, DATA)
    seconds_left = int(response.headers["cache-control"].removeprefix("private, max-age="))
    assert 1200 <= seconds_left <= 1260
    del response.headers["cache-control"]
    assert dict(response.headers) == {
        "accept-ranges": "bytes",
        "access-control-allow-origin": "*",
        "access-control-expose-headers": (
            "Accept-Ranges, Content-Disposition, Content-Length, Content-Range, Content-Type, ETag, Last-Modified"
        ),
        "content-disposition": 'inline; filename="job_abc-0.png"',
        "content-length": "1024",
        "content-security-policy": "default-src 'none'; sandbox",
        "content-type": "image/png",
        "cross-origin-resource-policy": "cross-origin",
        "etag": ETAG,
        "last-modified": MADE,
        "x-content-type-options": "nosniff",
    }


async def test_head_answers_as_get_without_a_body(shelf: Shelf, url: str) -> None:
    get, head = await shelf.ask(url), await shelf.ask(url, method="HEAD", range="bytes=0-1")

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers == get.headers


@pytest.mark.parametrize(
    ("content_type", "served", "disposition"),
    [
        ("image/png", "image/png", "inline"),
        ("image/jpeg", "image/jpeg", "inline"),
        ("image/webp", "image/webp", "inline"),
        ("video/mp4", "video/mp4", "inline"),
        ("image/svg+xml", "application/octet-stream", "attachment"),
        ("text/html", "application/octet-stream", "attachment"),
        ("application/pdf", "application/octet-stream", "attachment"),
        ("image/png\r\nX: 1", "application/octet-stream", "attachment"),
    ],
)
async def test_only_a_closed_list_of_types_is_shown_in_place(
    shelf: Shelf, content_type: str, served: str, disposition: str
) -> None:
    response = await shelf.ask(await shelf.keep(KEY, DATA, content_type=content_type))

    assert response.headers["content-type"] == served
    assert response.headers["content-disposition"] == f'{disposition}; filename="job_abc-0.png"'


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-1023", 0, 1024),
        ("bytes=100-199", 100, 200),
        ("bytes=100-", 100, 1024),
        ("bytes=1023-", 1023, 1024),
        ("bytes=0-99999", 0, 1024),
        ("bytes=1000-999999999999999999999999999999", 1000, 1024),
        ("bytes=-1", 1023, 1024),
        ("bytes=-1024", 0, 1024),
        ("bytes=-4096", 0, 1024),
        ("BYTES=5-9", 5, 10),
        ("bytes=  5-9 ,", 5, 10),
    ],
)
async def test_single_range_is_served_as_partial_content(
    shelf: Shelf, url: str, header: str, start: int, end: int
) -> None:
    response = await shelf.ask(url, range=header)

    assert (response.status_code, response.content) == (206, DATA[start:end])
    assert response.headers["content-range"] == f"bytes {start}-{end - 1}/1024"
    assert response.headers["content-length"] == str(end - start)
    assert response.headers["content-type"] == "image/png"
    assert response.headers["etag"] == ETAG


@pytest.mark.parametrize("header", ["bytes=1024-", "bytes=1024-2000", "bytes=99999999999-", "bytes=-0"])
async def test_range_beyond_the_end_is_not_satisfiable(shelf: Shelf, url: str, header: str) -> None:
    response = await shelf.ask(url, range=header)

    assert response.status_code == 416
    assert response.headers["content-range"] == "bytes */1024"
    assert response.json()["code"] == "range_not_satisfiable"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=5",
        "bytes=9-5",
        "bytes=2000-1500",
        "bytes=a-b",
        "bytes=0x1-0x5",
        "bytes=1.5-3",
        "bytes=--5",
        "bytes=+1-5",
        "bytes=1 -5",
        "bytes: 0-5",
        "items=0-5",
        "bytes=0-0,5-9",
        "bytes=0-0, -1",
        f"bytes={'9' * 5000}-",
    ],
)
async def test_malformed_or_multiple_range_is_ignored(shelf: Shelf, url: str, header: str) -> None:
    response = await shelf.ask(url, range=header)

    assert (response.status_code, response.content) == (200, DATA)
    assert "content-range" not in response.headers


@pytest.mark.parametrize(
    ("if_range", "status"),
    [
        (ETAG, 206),
        (f"W/{ETAG}", 200),
        ('"other"', 200),
        (MADE, 206),
        (BEFORE, 200),
        (AFTER, 200),
        ("yesterday", 200),
    ],
)
async def test_range_holds_only_for_the_very_file_of_if_range(
    shelf: Shelf, url: str, if_range: str, status: int
) -> None:
    assert (await shelf.ask(url, range="bytes=0-1", if_range=if_range)).status_code == status


async def test_if_range_for_another_file_makes_no_range_unsatisfiable(shelf: Shelf, url: str) -> None:
    assert (await shelf.ask(url, range="bytes=5000-", if_range='"other"')).content == DATA


@pytest.mark.parametrize("header", [ETAG, f"W/{ETAG}", f'"other", {ETAG}', "*", f'"a",W/{ETAG} '])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_known_file_is_not_sent_again(shelf: Shelf, url: str, header: str, method: str) -> None:
    response = await shelf.ask(url, method=method, if_none_match=header, range="bytes=5000-")

    assert (response.status_code, response.content) == (304, b"")
    assert response.headers["etag"] == ETAG
    assert "max-age" in response.headers["cache-control"]
    assert "content-length" not in response.headers


@pytest.mark.parametrize("header", ["", '"other"', 'W/"other"', ETAG.strip('"')])
async def test_other_file_than_the_known_one_is_sent(shelf: Shelf, url: str, header: str) -> None:
    assert (await shelf.ask(url, if_none_match=header)).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"if_modified_since": MADE}, 304),
        ({"if_modified_since": AFTER}, 304),
        ({"if_modified_since": BEFORE}, 200),
        ({"if_modified_since": "yesterday"}, 200),
        ({"if_modified_since": "Mon, 99 Foo 99999 99:99:99 GMT"}, 200),
        ({"if_modified_since": MADE, "if_none_match": '"other"'}, 200),
        ({"if_modified_since": BEFORE, "if_none_match": ETAG}, 304),
        ({"if_match": ETAG}, 200),
        ({"if_match": "*"}, 200),
        ({"if_match": f'"other", {ETAG}'}, 200),
        ({"if_match": '"other"'}, 412),
        ({"if_match": f"W/{ETAG}"}, 412),
        ({"if_match": '"other"', "if_none_match": ETAG}, 412),
        ({"if_unmodified_since": MADE}, 200),
        ({"if_unmodified_since": BEFORE}, 412),
        ({"if_unmodified_since": BEFORE, "if_match": ETAG}, 200),
        ({"if_match": '"other"', "range": "bytes=0-1"}, 412),
        ({"if_match": ETAG, "range": "bytes=0-1"}, 206),
    ],
)
async def test_conditions_are_weighed_in_their_order(
    shelf: Shelf, url: str, headers: dict[str, str], status: int
) -> None:
    assert (await shelf.ask(url, **headers)).status_code == status


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_other_method_is_not_allowed(shelf: Shelf, url: str, method: str) -> None:
    response = await shelf.ask(url, method=method)

    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD")
    assert response.json()["code"] == "method_not_allowed"


async def test_expired_link_says_how_to_get_a_fresh_one(shelf: Shelf, url: str) -> None:
    shelf.clock.ms += 1_260_000
    response = await shelf.ask(url)

    assert (response.status_code, response.json()["code"]) == (410, "link_expired")
    assert "job again" in response.json()["hint"]


async def test_caching_ends_with_the_link(shelf: Shelf, url: str) -> None:
    expiry = int(httpx2.URL(url).params["exp"])
    shelf.clock.ms = expiry * 1000 - 1500

    assert (await shelf.ask(url)).headers["cache-control"] == "private, max-age=2"


@pytest.mark.parametrize(
    "path",
    [
        "/assets/jobs/job_abc/1.png",
        "/assets/jobs/job_abc/0.png/",
        "/assets//jobs/job_abc/0.png",
        "/assets/../jobs/job_abc/0.png",
        "/assets/jobs/job_abc/..%2f..%2f..%2fetc%2fpasswd",
        "/assets/",
        "/assets",
        "/elsewhere",
    ],
)
async def test_signature_opens_its_own_file_only(shelf: Shelf, url: str, path: str) -> None:
    response = await shelf.ask(f"{ORIGIN}{path}?{url.partition('?')[2]}")

    assert (response.status_code, response.json()["code"]) == (403, "link_invalid")


@pytest.mark.parametrize(
    "query", ["", "?exp=9999999999", "?sig=AAAA", "?exp=9999999999&sig=%FF%FE", "?exp=%0A&sig=%0A"]
)
async def test_link_without_its_terms_is_invalid(shelf: Shelf, url: str, query: str) -> None:
    assert (await shelf.ask(url.partition("?")[0] + query)).status_code == 403


async def test_percent_encoded_path_is_the_same_link(shelf: Shelf, url: str) -> None:
    assert (await shelf.ask(url.replace("job_abc", "job%5Fabc"))).status_code == 200


async def test_file_without_a_record_is_gone(shelf: Shelf, url: str) -> None:
    shelf.records.clear()

    assert (await shelf.ask(url)).json()["code"] == "asset_gone"


@pytest.mark.parametrize("size", [1, CHUNK, CHUNK + 1, 3 * CHUNK])
async def test_a_record_without_a_file_is_our_fault_and_told_as_that(shelf: Shelf, size: int) -> None:
    url = await shelf.keep("jobs/job_abc/0.mp4", bytes(size))
    await shelf.storage.delete("jobs/job_abc/0.mp4")
    response = await shelf.ask(url)

    assert (response.status_code, response.json()["code"]) == (500, "asset_missing")


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 3])
async def test_every_size_arrives_whole(shelf: Shelf, size: int) -> None:
    data = bytes(number * 7 % 256 for number in range(1000)) * (size // 1000 + 1)
    url = await shelf.keep("jobs/job_abc/0.mp4", data[:size], content_type="video/mp4")

    assert (await shelf.ask(url)).content == data[:size]
    if size > 2:
        assert (await shelf.ask(url, range="bytes=1-")).content == data[1:size]


class CountingStorage(Storage):
    """Count the bytes that are read for a stream, and tell when one was closed."""

    taken = 0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.closed = asyncio.Event()

    async def stream(self, key: str, start: int, end: int, *, step: int = CHUNK) -> AsyncGenerator[bytes]:
        try:
            async for piece in super().stream(key, start, end, step=step):
                self.taken += len(piece)
                yield piece
        finally:
            self.closed.set()


@pytest.fixture
def counted(tmp_path: Path) -> tuple[Shelf, CountingStorage]:
    storage = CountingStorage.at(str(tmp_path))
    assert isinstance(storage, CountingStorage)
    return Shelf(storage), storage


async def test_no_more_is_read_than_was_sent(counted: tuple[Shelf, CountingStorage]) -> None:
    shelf, storage = counted
    url = httpx2.URL(await shelf.keep("jobs/job_abc/0.mp4", bytes(20 * CHUNK)))
    sent = 0

    async def send(message: Any) -> None:
        nonlocal sent
        sent += len(message.get("body", b""))
        assert storage.taken - sent <= CHUNK

    async def receive() -> Any:
        await asyncio.sleep(60)

    scope = {"type": "http", "method": "GET", "path": url.path, "query_string": url.query, "headers": []}
    await shelf.endpoint(scope, receive, send)
    assert sent == 20 * CHUNK
    assert storage.closed.is_set()


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[int]:
    config = uvicorn.Config(app, log_level="warning", lifespan="off", access_log=False, timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    running = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:  # noqa: ASYNC110 (it has no event to wait for)
        await asyncio.sleep(0.01)
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await running
        listener.close()


async def test_real_server_serves_ranges_on_one_connection(shelf: Shelf) -> None:
    data = bytes(range(256)) * 4096  # 1 MB
    link = await shelf.keep("jobs/job_abc/0.mp4", data, content_type="video/mp4")

    async with served(edge(shelf.endpoint)) as port, httpx2.AsyncClient(trust_env=False) as client:
        url = link.replace(ORIGIN, f"http://127.0.0.1:{port}")
        assert (await client.get(url)).content == data
        head = await client.head(url)
        assert (head.content, head.headers["content-length"]) == (b"", str(len(data)))
        pieces = [
            (await client.get(url, headers={"range": f"bytes={start}-{start + 399_999}"})).content
            for start in range(0, len(data), 400_000)
        ]
        assert b"".join(pieces) == data
        assert (await client.get(url, headers={"if-none-match": head.headers["etag"]})).status_code == 304


async def test_reading_stops_when_the_client_has_gone(counted: tuple[Shelf, CountingStorage]) -> None:
    shelf, storage = counted
    size = 64 * 1024 * 1024
    link = await shelf.keep("jobs/job_abc/0.mp4", bytes(size), content_type="video/mp4")

    async with served(edge(shelf.endpoint)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {link.removeprefix(ORIGIN)} HTTP/1.1\r\nHost: studio.example\r\n\r\n".encode())
        await reader.readexactly(CHUNK)
        writer.transport.abort()
        await storage.closed.wait()

    assert storage.taken < size // 2


async def test_a_client_that_reads_slowly_holds_little_in_memory(counted: tuple[Shelf, CountingStorage]) -> None:
    shelf, storage = counted
    data = bytes(range(256)) * 256 * 1024  # 64 MB
    link = await shelf.keep("jobs/job_abc/0.mp4", data, content_type="video/mp4")

    async with served(edge(shelf.endpoint)) as port:
        client = socket.create_connection(("127.0.0.1", port))
        client.setblocking(False)  # noqa: FBT003 - the standard library's own
        loop = asyncio.get_running_loop()
        asked = f"GET {link.removeprefix(ORIGIN)} HTTP/1.1\r\nHost: studio.example\r\nConnection: close\r\n\r\n"
        await loop.sock_sendall(client, asked.encode())
        held = await _standstill(storage)
        got = bytearray()
        while piece := await loop.sock_recv(client, 1024 * 1024):
            got += piece
        client.close()

    assert held < 16 * 1024 * 1024, "the kernel's buffers and two pieces, not the file"
    assert bytes(got).partition(b"\r\n\r\n")[2] == data


async def _standstill(storage: CountingStorage) -> int:
    """Wait until nothing more is read for a while; return how many bytes were."""
    seen = -1
    while seen != storage.taken or seen <= 0:
        seen = storage.taken
        await asyncio.sleep(0.5)
    return seen
