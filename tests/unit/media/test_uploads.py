"""The desk where files arrive: parts in any order, one file taken, and what is left behind goes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from stablestudio.media.probe import Probe, probe
from stablestudio.media.storage import Kept, Storage, TooLarge
from stablestudio.media.uploads import (
    PartMissing,
    UploadDesk,
    UploadExpired,
    UploadMissing,
    UploadNotFound,
    UploadTaken,
)
from stablestudio.protocols.blob import BlobTokens, Grant, TokenInvalid
from stablestudio.store import payments
from stablestudio.store.database import Database
from stablestudio.store.uploads import Upload
from tests.doubles import ManualClock, order, payment, png

pytestmark = pytest.mark.anyio
_MOST = 1000
_DAY_MS = 24 * 3600 * 1000
_SECRET = b"s" * 32


class Desk:
    """A desk on a folder, and the place of order 1."""

    def __init__(self, database: Database, clock: ManualClock, folder: Path) -> None:
        self.database = database
        self.clock = clock
        self.folder = folder
        self.storage = Storage.at(str(folder))
        self.desk = UploadDesk(
            database,
            storage=self.storage,
            tokens=BlobTokens(_SECRET),
            clock=clock,
            origin="https://studio.example",
            max_bytes=_MOST,
            look=self._look,
            kept_ms=30 * _DAY_MS,
        )

    async def _look(self, key: str) -> Probe:
        return probe(await self.storage.read(key))

    async def reserve(self, filename: str = "cat.png") -> Upload:
        wanted = order(1, input=f'{{"filename":"{filename}","contentType":"image/png"}}', model="upload")

        def open_place(connection: sa.Connection) -> None:
            payments.claim(connection, order=wanted, payment=payment(1))
            self.desk.reserve(connection, wanted)

        await self.database.write(open_place)
        ticket = await self.desk.ticket(wanted.id)
        assert ticket is not None
        return ticket.upload

    async def now(self, upload: Upload) -> Upload:
        found = await self.desk.find(upload.pathname)
        assert found is not None
        return found

    async def sql(self, statement: str) -> None:
        await self.database.write(lambda connection: connection.exec_driver_sql(statement).close())

    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.rglob("*") if path.is_file())


@pytest.fixture
def desk(database: Database, clock: ManualClock, tmp_path: Path) -> Desk:
    return Desk(database, clock, tmp_path / "assets")


async def pieces(*given: bytes, then: BaseException | None = None) -> AsyncIterator[bytes]:
    for piece in given:
        await asyncio.sleep(0)
        yield piece
    if then is not None:
        raise then


async def test_parts_named_in_any_order_make_the_file(desk: Desk) -> None:
    upload = await desk.reserve()
    data = [b"a" * 300, b"b" * 300, b"c" * 100]
    named = []
    for number in (3, 1, 2):
        etag = await desk.desk.put_part(upload, "s1", number, pieces(data[number - 1]))
        named.append((number, etag))
    kept = await desk.desk.complete(upload, "s1", named)
    assert (kept.size, kept.sha256) == (700, hashlib.sha256(b"".join(data)).hexdigest())
    stored = await desk.now(upload)
    assert await desk.storage.read(stored.key or "") == b"".join(data)
    assert len(desk.files()) == 1, "the parts are gone"
    assert await desk.desk.complete(stored, "s1", named) == kept, "a lost answer is given again"


@pytest.mark.parametrize("named", [[], [(1, "x")], [(1, None), (2, None)]])
async def test_a_file_of_parts_that_did_not_arrive_is_not_made(desk: Desk, named: list[tuple[int, str | None]]) -> None:
    upload = await desk.reserve()
    etag = await desk.desk.put_part(upload, "s1", 1, pieces(b"a"))
    with pytest.raises(PartMissing):
        await desk.desk.complete(upload, "s1", [(number, tag or etag) for number, tag in named])
    with pytest.raises(PartMissing):
        await desk.desk.complete(upload, "another", [(1, etag)])
    assert (await desk.now(upload)).state == "reserved"


@pytest.mark.parametrize("left", [b"", b"a" * 299, b"\0" * 300])
async def test_a_part_that_a_power_cut_has_damaged_is_missing(desk: Desk, left: bytes) -> None:
    upload = await desk.reserve()
    etag = await desk.desk.put_part(upload, "s1", 1, pieces(b"a" * 300))
    (part,) = (path for path in desk.folder.rglob("*") if path.is_file())
    part.write_bytes(left)
    with pytest.raises(PartMissing):
        await desk.desk.complete(upload, "s1", [(1, etag)])
    again = await desk.desk.put_part(upload, "s1", 1, pieces(b"a" * 300))
    assert (await desk.desk.complete(upload, "s1", [(1, again)])).size == 300, "it may be sent again"


async def test_parts_may_not_be_larger_together_than_a_file(desk: Desk) -> None:
    upload = await desk.reserve()
    await desk.desk.put_part(upload, "s1", 1, pieces(b"a" * 600))
    with pytest.raises(TooLarge):
        await desk.desk.put_part(upload, "s2", 1, pieces(b"b" * 600))
    assert len(desk.files()) == 1
    await desk.desk.put_part(upload, "s1", 1, pieces(b"c" * 900))
    assert len(desk.files()) == 1, "a part that comes again replaces the first"


@pytest.mark.parametrize("fault", [ConnectionResetError(), TooLarge(), asyncio.CancelledError()])
async def test_what_ends_early_leaves_nothing_and_may_be_sent_again(desk: Desk, fault: BaseException) -> None:
    upload = await desk.reserve()
    with pytest.raises(type(fault)):
        await desk.desk.put(upload, pieces(b"a" * 500, then=fault), max_bytes=_MOST)
    assert desk.files() == []
    await desk.desk.put(upload, pieces(png()), max_bytes=_MOST)
    assert (await desk.now(upload)).state == "stored"


async def test_one_byte_too_many_is_refused(desk: Desk) -> None:
    upload = await desk.reserve()
    with pytest.raises(TooLarge):
        await desk.desk.put(upload, pieces(b"a" * _MOST, b"b"), max_bytes=10 * _MOST)
    assert desk.files() == []


async def test_two_writers_at_once_are_one(desk: Desk) -> None:
    upload = await desk.reserve()
    outcomes = await asyncio.gather(
        *(desk.desk.put(upload, pieces(bytes((number,)) * 10), max_bytes=_MOST) for number in range(5)),
        return_exceptions=True,
    )
    assert sum(isinstance(each, UploadTaken) for each in outcomes) == 4
    assert len(desk.files()) == 1


async def test_what_is_never_confirmed_goes_some_time_after_nobody_can_confirm_it(desk: Desk) -> None:
    upload = await desk.reserve()
    await desk.desk.put_part(upload, "s1", 1, pieces(b"a"))
    await desk.desk.put(upload, pieces(png()), max_bytes=_MOST)
    desk.clock.advance(7210)
    with pytest.raises(UploadNotFound):
        await desk.desk.confirm(upload.id, wallet=upload.wallet, url=desk.desk.url(upload.pathname))
    assert await desk.desk.purge() == 0, "somebody may still look at it"
    desk.clock.advance(3600)
    assert await desk.desk.purge() == 1
    assert (desk.files(), (await desk.now(upload)).state) == ([], "abandoned")
    assert await desk.desk.purge() == 0


async def test_a_file_that_two_look_at_is_confirmed_once_and_both_hear_so(desk: Desk) -> None:
    upload = await desk.reserve()
    url = desk.desk.url(upload.pathname)
    await desk.desk.put(upload, pieces(png()), max_bytes=_MOST)
    told = await asyncio.gather(*(desk.desk.confirm(upload.id, wallet=upload.wallet, url=url) for _ in range(5)))
    assert {each.id for each in told} == {upload.id}
    assert (await desk.now(upload)).state == "confirmed"


async def test_who_confirms_a_file_that_another_look_has_dropped_hears_that_it_is_missing(desk: Desk) -> None:
    upload = await desk.reserve()
    url = desk.desk.url(upload.pathname)
    await desk.desk.put(upload, pieces(png()), max_bytes=_MOST)
    looked = desk.desk._look

    async def dropped_meanwhile(key: str) -> Probe:
        await desk.sql("UPDATE uploads SET state = 'reserved', key = NULL")
        return await looked(key)

    desk.desk._look = dropped_meanwhile
    with pytest.raises(UploadMissing):
        await desk.desk.confirm(upload.id, wallet=upload.wallet, url=url)


async def test_a_file_of_parts_is_joined_by_one_at_a_time(desk: Desk) -> None:
    upload = await desk.reserve()
    named = [(1, await desk.desk.put_part(upload, "s1", 1, pieces(b"a" * 500)))]
    ends = await asyncio.gather(*(desk.desk.complete(upload, "s1", named) for _ in range(5)), return_exceptions=True)
    # Whoever looks after the parts were joined finds none; whoever had them in hand joined the same file for nothing.
    assert all(isinstance(each, Kept | UploadTaken | PartMissing) for each in ends), ends
    assert any(isinstance(each, Kept) for each in ends)
    assert len(desk.files()) == 1


async def test_a_confirmed_upload_is_kept_for_its_time_and_no_order_counts_on_its_last_day(desk: Desk) -> None:
    upload = await desk.reserve()
    url = desk.desk.url(upload.pathname)
    await desk.desk.put(upload, pieces(png()), max_bytes=_MOST)
    await desk.desk.confirm(upload.id, wallet=upload.wallet, url=url)
    desk.clock.advance(28.9 * 86_400)
    assert await desk.desk.purge() == 0
    assert (await desk.desk.resolve(url, wallet=upload.wallet, new=True)) is not None
    desk.clock.advance(0.2 * 86_400)
    with pytest.raises(UploadExpired):
        await desk.desk.resolve(url, wallet=upload.wallet, new=True)
    assert (await desk.desk.resolve(url, wallet=upload.wallet)) is not None, "an order of yesterday is still made"
    assert (await desk.desk.purge(), len(desk.files())) == (0, 1)
    desk.clock.advance(86_400)
    assert (await desk.desk.purge(), desk.files()) == (1, [])
    with pytest.raises(UploadExpired):
        await desk.desk.resolve(url, wallet=upload.wallet)


@pytest.mark.parametrize(
    ("filename", "plain"),
    [("a b.png", "a-b.png"), ("..hidden", "hidden"), ("ünïcode.png", "n-code.png"), ("?#%", "file")],
)
async def test_names_are_plain_in_paths_and_tokens(desk: Desk, filename: str, plain: str) -> None:
    upload = await desk.reserve(filename)
    assert upload.pathname == f"uploads/{upload.id}/{plain}"


def test_a_token_says_what_was_granted_and_nobody_else_can_write_one() -> None:
    tokens = BlobTokens(_SECRET)
    grant = Grant(pathname="uploads/a/b.png", valid_until_ms=5, content_types=("image/png",), max_bytes=9)
    token = tokens.issue(grant)
    assert tokens.read(token) == grant
    assert token.split("_")[3] == tokens.store_id, "clients find the store's id between underscores"
    for wrong in (token[:-4] + "AAAA", token.replace("vercel", "versel"), BlobTokens(b"t" * 32).issue(grant), "", "é"):
        with pytest.raises(TokenInvalid):
            tokens.read(wrong)
