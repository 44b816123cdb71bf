"""The door of uploads: numbers as they are written, sizes said before, and bodies that do not come for ever."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from stablestudio.media.probe import Probe, probe
from stablestudio.media.storage import Storage
from stablestudio.media.uploads import MAX_PARTS, Ticket, UploadDesk
from stablestudio.protocols.blob import BlobTokens
from stablestudio.server.blob import PATH, BlobRoutes
from stablestudio.store import payments
from stablestudio.store.database import Database
from tests.doubles import ManualClock, eventually, order, payment

pytestmark = pytest.mark.anyio
_SECRET = b"s" * 32


class Door:
    """The routes on a folder, and a place that was paid."""

    def __init__(self, database: Database, clock: ManualClock, folder: Path) -> None:
        self.database, self.clock, self.folder = database, clock, folder
        self._storage, tokens = Storage.at(str(folder)), BlobTokens(_SECRET)
        self.desk = UploadDesk(
            database,
            storage=self._storage,
            tokens=tokens,
            clock=clock,
            origin="https://studio.example",
            max_bytes=1_000_000,
            look=self._look,
        )
        self._routes = BlobRoutes(self.desk, tokens=tokens, clock=clock)
        self.ticket: Ticket

    async def _look(self, key: str) -> Probe:
        return probe(await self._storage.read(key))

    async def open(self) -> None:
        wanted = order(1, input='{"filename":"cat.png","contentType":"image/png"}', model="upload")

        def open_place(connection: sa.Connection) -> None:
            payments.claim(connection, order=wanted, payment=payment(1))
            self.desk.reserve(connection, wanted)

        await self.database.write(open_place)
        ticket = await self.desk.ticket(wanted.id)
        assert ticket is not None
        self.ticket = ticket

    async def send(self, body: AsyncIterator[bytes], **headers: str) -> tuple[int, dict[str, Any]]:
        """Send a part, with headers that may be changed or, where they are empty, left out."""
        pathname = self.ticket.upload.pathname
        given = {
            "authorization": f"Bearer {self.ticket.token}",
            "x-mpu-action": "upload",
            "x-mpu-key": quote(pathname, safe=""),
            "x-mpu-upload-id": "s1",
            "x-mpu-part-number": "1",
        } | {name.replace("_", "-"): value for name, value in headers.items()}
        scope = {
            "type": "http",
            "method": "POST",
            "path": f"{PATH}/mpu",
            "query_string": f"pathname={quote(pathname)}".encode(),
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        }
        sent: list[MutableMapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            piece = await anext(body, None)
            return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        await self._routes(scope, receive, send)
        return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent))

    def files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]


@pytest.fixture
async def door(database: Database, clock: ManualClock, tmp_path: Path) -> Door:
    made = Door(database, clock, tmp_path / "assets")
    await made.open()
    return made


async def body(*pieces: bytes, wait: float = 0.0) -> AsyncIterator[bytes]:
    for piece in pieces:
        await asyncio.sleep(wait)
        yield piece


@pytest.mark.parametrize(
    "number",
    [
        "0",
        "01",
        "00000000150000",
        "000000001" + "9" * 20,
        "000000001" + "9" * 5000,
        "10001",
        "-1",
        "1.0",
        " 1",
        "\u0661",
        "",
    ],
)
async def test_a_part_number_is_a_number_up_to_the_most(door: Door, number: str) -> None:
    status, told = await door.send(body(b"a"), content_length="1", x_mpu_part_number=number)
    assert (status, told["error"]["code"], door.files()) == (400, "bad_request", [])


@pytest.mark.parametrize("number", ["1", "10000"])
@pytest.mark.parametrize("name", ["content_length", "x_content_length"])
async def test_a_part_that_says_how_large_it_is_is_taken(door: Door, number: str, name: str) -> None:
    status, told = await door.send(body(b"ab", b"c"), x_mpu_part_number=number, **{name: "3"})
    assert (status, len(told["etag"]), len(door.files())) == (200, 32, 1)


@pytest.mark.parametrize(
    ("length", "status"), [("", 411), ("x", 411), ("-1", 411), ("9" * 5000, 411), ("0", 400), ("9" * 12, 413)]
)
async def test_a_part_says_how_large_it_is(door: Door, length: str, status: int) -> None:
    assert (await door.send(body(), x_content_length=length))[0] == status
    assert door.files() == []


async def test_no_more_parts_are_named_than_there_may_be(door: Door) -> None:
    names = json.dumps([{"partNumber": 1, "etag": ""}] * (MAX_PARTS + 1)).encode()
    asked: list[str] = []
    door.desk.complete = lambda *_: asked.append("joined")  # type: ignore[assignment]
    assert (await door.send(body(names), x_mpu_action="complete"))[0] == 400
    assert asked == []


async def test_a_body_that_trickles_is_ended(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stablestudio.server.blob._STRIDE_SECONDS", 0.3)
    trickle = body(*[b"a"] * 10_000, wait=0.02)
    async with asyncio.timeout(60):
        status, _ = await door.send(trickle, content_length="10000")
    assert (status, door.files()) == (408, [])


async def test_nothing_is_taken_when_nobody_could_confirm_it(door: Door) -> None:
    async def late() -> AsyncIterator[bytes]:
        yield b"a"
        door.clock.advance(7201)
        yield b"b"

    status, told = await door.send(late(), content_length="2")
    assert (status, told["error"]["code"], door.files()) == (403, "client_token_expired", [])


async def test_who_sends_too_many_parts_at_once_is_told_when_to_come_again(door: Door) -> None:
    end = asyncio.Event()

    async def waiting() -> AsyncIterator[bytes]:
        await end.wait()
        yield b"a"

    parts = [
        asyncio.create_task(door.send(waiting(), content_length="1", x_mpu_part_number=str(number)))
        for number in range(1, 12)
    ]
    # All three, or one that comes late would find a place.
    await eventually(lambda: sum(part.done() for part in parts) == 3)
    refused = [part.result() for part in parts if part.done()]
    assert [(status, told["error"]["code"]) for status, told in refused] == [(503, "service_unavailable")] * 3
    end.set()
    assert sorted(status for status, _ in await asyncio.gather(*parts)) == [200] * 8 + [503] * 3
