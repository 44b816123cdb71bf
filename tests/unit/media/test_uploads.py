"""The desk where files arrive: parts in any order, one file taken, and what is left behind goes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from stablestudio.media.looks import UploadsBusy
from stablestudio.media.probe import Probe, probe
from stablestudio.media.storage import Kept, Storage, TooLarge
from stablestudio.media.uploads import (
    PartEmpty,
    PartMissing,
    UploadDesk,
    UploadExpired,
    UploadMissing,
    UploadNotFound,
    UploadNotMedia,
    UploadTaken,
)
from stablestudio.protocols.blob import BlobTokens
from stablestudio.store import payments
from stablestudio.store import uploads as store
from stablestudio.store.database import Database
from stablestudio.store.uploads import Upload
from tests.doubles import ManualClock, eventually, only_postgres, only_sqlite, order, payment, png

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

    async def reserve(self, filename: str = "cat.png", *, number: int = 1, **changes: Any) -> Upload:
        text = f'{{"filename":"{filename}","contentType":"image/png"}}'
        wanted = order(number, input=text, model="upload", **changes)

        def open_place(connection: sa.Connection) -> None:
            payments.claim(connection, order=wanted, payment=payment(number))
            self.desk.reserve(connection, wanted)

        await self.database.write(open_place)
        ticket = await self.desk.ticket(wanted.id)
        assert ticket is not None
        return ticket.upload

    async def part(self, upload: Upload, number: int, data: bytes, *, session: str = "s1") -> str:
        return await self.desk.put_part(upload, session, number, pieces(data), size=len(data))

    async def now(self, upload: Upload) -> Upload:
        found = await self.desk.find(upload.pathname)
        assert found is not None
        return found

    async def confirm(self, upload: Upload) -> Upload:
        return await self.desk.confirm(upload.id, wallet=upload.wallet, url=self.desk.url(upload.pathname))

    def parts(self) -> int:
        ((count,),) = self.database.fetch("SELECT count(*) FROM upload_parts")
        return int(count)

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
        etag = await desk.part(upload, number, data[number - 1])
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
    etag = await desk.part(upload, 1, b"a")
    with pytest.raises(PartMissing):
        await desk.desk.complete(upload, "s1", [(number, tag or etag) for number, tag in named])
    with pytest.raises(PartMissing):
        await desk.desk.complete(upload, "another", [(1, etag)])
    assert (await desk.now(upload)).state == "reserved"


@pytest.mark.parametrize("left", [b"", b"a" * 299, b"\0" * 300])
async def test_a_part_that_a_power_cut_has_damaged_is_missing(desk: Desk, left: bytes) -> None:
    upload = await desk.reserve()
    etag = await desk.part(upload, 1, b"a" * 300)
    (part,) = (path for path in desk.folder.rglob("*") if path.is_file())
    part.write_bytes(left)
    with pytest.raises(PartMissing):
        await desk.desk.complete(upload, "s1", [(1, etag)])
    again = await desk.part(upload, 1, b"a" * 300)
    assert (await desk.desk.complete(upload, "s1", [(1, again)])).size == 300, "it may be sent again"


async def test_parts_may_not_be_larger_together_than_a_file(desk: Desk) -> None:
    upload = await desk.reserve()
    await desk.part(upload, 1, b"a" * 600)
    with pytest.raises(TooLarge):
        await desk.part(upload, 1, b"b" * 600, session="s2")
    assert len(desk.files()) == 1
    await desk.part(upload, 1, b"c" * 900)
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
    await desk.part(upload, 1, b"a")
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
    named = [(1, await desk.part(upload, 1, b"a" * 500))]
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


class Gate:
    """A look that waits until it is let through, and counts how many look at once."""

    def __init__(self, desk: Desk) -> None:
        self._look = desk.desk._look
        self.open = asyncio.Event()
        self.looks = self.now = self.most = 0
        desk.desk._look = self.look

    async def look(self, key: str) -> Probe:
        self.looks += 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.open.wait()
            return await self._look(key)
        finally:
            self.now -= 1


@pytest.mark.parametrize("data", [png(), b"no picture"])
async def test_all_who_confirm_one_file_at_once_share_one_look_and_its_answer(desk: Desk, data: bytes) -> None:
    upload, gate = await desk.reserve(), Gate(desk)
    await desk.desk.put(upload, pieces(data), max_bytes=_MOST)
    asking = [asyncio.create_task(desk.confirm(upload)) for _ in range(6)]
    await eventually(lambda: gate.looks > 0)
    late = asyncio.create_task(desk.confirm(upload))
    asking.pop().cancel()
    await asyncio.sleep(0.1)
    gate.open.set()
    told = await asyncio.gather(*asking, late, return_exceptions=True)
    assert gate.looks == 1
    assert {type(each) for each in told} == {Upload if data == png() else UploadNotMedia}


async def test_files_are_looked_at_in_turn_and_who_waits_too_long_is_told_when_to_come_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    wallets = ("eip155:0xa", "eip155:0xb", "eip155:0xc")
    places = [await desk.reserve(number=number, wallet=wallet) for number, wallet in enumerate(wallets, 1)]
    for upload in places:
        await desk.desk.put(upload, pieces(png()), max_bytes=_MOST)
    gate = Gate(desk)
    first = asyncio.create_task(desk.confirm(places[0]))
    await eventually(lambda: gate.now == 1)
    with monkeypatch.context() as patch:
        patch.setattr("stablestudio.media.looks._PATIENCE", 0.05)
        with pytest.raises(UploadsBusy) as refused:
            await desk.confirm(places[1])
    assert (refused.value.status, set(dict(refused.value.headers))) == (503, {"Retry-After"})
    rest = [asyncio.create_task(desk.confirm(upload)) for upload in places[1:]]
    await asyncio.sleep(0.05)
    gate.open.set()
    assert {upload.state for upload in await asyncio.gather(first, *rest)} == {"confirmed"}
    assert gate.most == 1


async def test_a_file_that_is_not_there_any_more_is_missing_and_may_be_sent_again(desk: Desk) -> None:
    upload = await desk.reserve()
    await desk.desk.put(upload, pieces(png()), max_bytes=_MOST)
    await desk.storage.delete((await desk.now(upload)).key or "")
    with pytest.raises(UploadMissing):
        await desk.confirm(upload)
    await desk.desk.put(upload, pieces(png()), max_bytes=_MOST)
    assert (await desk.confirm(upload)).state == "confirmed"


async def slow(end: asyncio.Event, data: bytes) -> AsyncIterator[bytes]:
    yield data[:1]
    await end.wait()
    yield data[1:]


@pytest.mark.parametrize("state", ["stored", "confirmed", "abandoned"])
async def test_a_part_that_comes_after_the_end_leaves_nothing(desk: Desk, state: str) -> None:
    upload, end = await desk.reserve(), asyncio.Event()
    late = asyncio.create_task(desk.desk.put_part(upload, "s1", 2, slow(end, b"zz"), size=2))
    await eventually(lambda: desk.parts() == 1)
    if state == "abandoned":
        desk.clock.advance(4 * 3600)
    else:
        await desk.desk.complete(upload, "s1", [(1, await desk.part(upload, 1, png()))])
    if state == "confirmed":
        await desk.confirm(upload)
    await desk.desk.purge()
    assert (await desk.now(upload)).state == state
    end.set()
    with pytest.raises(UploadTaken):
        await late
    assert (desk.parts(), len(desk.files())) == (0, 0 if state == "abandoned" else 1)


async def test_parts_are_counted_from_their_beginning_and_few_come_at_once(desk: Desk) -> None:
    upload, end = await desk.reserve(), asyncio.Event()
    large = asyncio.create_task(desk.desk.put_part(upload, "s1", 1, slow(end, b"a" * 600), size=600))
    await eventually(lambda: desk.parts() == 1)
    with pytest.raises(TooLarge):
        await desk.part(upload, 2, b"b" * 401)
    small = [
        asyncio.create_task(desk.desk.put_part(upload, "s1", number, slow(end, b"cc"), size=2))
        for number in range(2, 9)
    ]
    await eventually(lambda: desk.parts() == 8)
    with pytest.raises(UploadsBusy):
        await desk.part(upload, 9, b"c")
    end.set()
    await asyncio.gather(large, *small)
    assert await desk.part(upload, 9, b"c"), "there is room again"
    assert (desk.parts(), len(desk.files())) == (9, 9)


async def test_a_part_has_bytes_and_no_more_than_it_announced(desk: Desk) -> None:
    upload = await desk.reserve()
    with pytest.raises(PartEmpty):
        await desk.part(upload, 1, b"")
    with pytest.raises(TooLarge):
        await desk.desk.put_part(upload, "s1", 1, pieces(b"abc"), size=2)
    with pytest.raises(PartEmpty):
        await desk.desk.put_part(upload, "s1", 1, pieces(), size=2)
    assert (desk.files(), desk.parts()) == ([], 0)


async def test_no_more_parts_are_kept_than_a_file_can_be_made_of(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stablestudio.media.uploads.MAX_PARTS", 3)
    upload = await desk.reserve()
    for session in ("s1", "s2", "s3"):
        await desk.part(upload, 1, b"a", session=session)
    with pytest.raises(TooLarge):
        await desk.part(upload, 1, b"a", session="s4")
    await desk.part(upload, 1, b"b", session="s3")
    assert len(desk.files()) == 3


@pytest.mark.parametrize("fault", [ConnectionResetError(), TooLarge(), asyncio.CancelledError()])
async def test_a_part_that_ends_early_leaves_nothing(desk: Desk, fault: BaseException) -> None:
    upload = await desk.reserve()
    with pytest.raises(type(fault)):
        await desk.desk.put_part(upload, "s1", 1, pieces(b"a" * 5, then=fault), size=500)
    assert (desk.files(), desk.parts()) == ([], 0)


@only_sqlite
async def test_a_part_that_the_books_refuse_leaves_nothing(desk: Desk) -> None:
    upload = await desk.reserve()
    await desk.sql(
        "CREATE TRIGGER refuse BEFORE UPDATE ON upload_parts WHEN NEW.etag != '' BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    with pytest.raises(sa.exc.SQLAlchemyError):
        await desk.part(upload, 1, b"a")
    assert (desk.files(), desk.parts()) == ([], 0)


async def test_names_of_parts_are_gone_through_once(desk: Desk) -> None:
    class Names(list[tuple[int, str]]):
        rounds = 0

        def __iter__(self) -> Iterator[tuple[int, str]]:
            self.rounds += 1
            return super().__iter__()

    upload = await desk.reserve()
    names = Names([(number, await desk.part(upload, number, b"a")) for number in range(1, 6)])
    await desk.desk.complete(upload, "s1", names)
    assert names.rounds == 1


async def test_what_a_stop_left_of_uploads_goes_with_the_next_purge(desk: Desk) -> None:
    upload = await desk.reserve()
    kept = await desk.part(upload, 1, b"a" * 300)
    for key in ("written", "never-written"):
        note = partial(store.note, upload_id=upload.id, key=f"uploads/{upload.id}/{key}", now=0)
        await desk.database.write(note)
    await desk.storage.put_once(f"uploads/{upload.id}/written", b"x", content_type="image/png")
    await desk.desk.purge()
    assert (desk.parts(), len(desk.files())) == (1, 1), "what may still become a file stays"
    await desk.desk.complete(upload, "s1", [(1, kept)])


@only_postgres
async def test_what_one_process_writes_no_other_one_erases(desk: Desk, database: Database, clock: ManualClock) -> None:
    other = Desk(database, clock, desk.folder)
    upload = await desk.reserve()
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"a"
        begun.set()
        await go.wait()
        yield b"b"

    writing = asyncio.create_task(desk.desk.put_part(upload, "s1", 1, slow(), size=2))
    await begun.wait()
    second = await other.part(upload, 2, b"c")
    await other.desk.purge()
    assert desk.parts() == 2
    go.set()
    kept = await other.desk.complete(upload, "s1", [(1, await writing), (2, second)])
    assert kept.sha256 == hashlib.sha256(b"abc").hexdigest()


@only_postgres
async def test_what_a_killed_process_left_goes_when_nobody_can_want_it(desk: Desk) -> None:
    upload = await desk.reserve()
    note = partial(store.note, upload_id=upload.id, key=f"uploads/{upload.id}/left", now=desk.clock.now_ms())
    await desk.database.write(note)
    await desk.desk.purge()
    assert desk.parts() == 1, "its writer may live"
    desk.clock.advance(2 * 3600 + 1)
    await desk.desk.purge()
    assert desk.parts() == 0


async def test_a_file_that_resists_the_purge_keeps_no_other_and_goes_later(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [await desk.reserve(number=number) for number in (1, 2, 3)]
    for upload in places:
        await desk.desk.put(upload, pieces(png()), max_bytes=_MOST)
    stuck, genuine = (await desk.now(places[0])).key, desk.storage.delete

    async def delete(key: str) -> None:
        if key == stuck:
            raise OSError(5, "Input/output error")
        await genuine(key)

    desk.clock.advance(4 * 3600)
    with monkeypatch.context() as patch:
        patch.setattr(desk.storage, "delete", delete)
        assert await desk.desk.purge() == 3
    assert len(desk.files()) == 1
    assert (await desk.desk.purge(), desk.files()) == (0, [])


@pytest.mark.parametrize(
    ("filename", "plain"),
    [("a b.png", "a-b.png"), ("..hidden", "hidden"), ("ünïcode.png", "n-code.png"), ("?#%", "file")],
)
async def test_names_are_plain_in_paths_and_tokens(desk: Desk, filename: str, plain: str) -> None:
    upload = await desk.reserve(filename)
    assert upload.pathname == f"uploads/{upload.id}/{plain}"
