"""The files of an order to be: looked at once, measured, and kept as they were, whatever their addresses say later."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from stablestudio import catalog
from stablestudio.catalog import OfferingInput
from stablestudio.errors import InvalidInput, StudioError
from stablestudio.media import intake as intake_module
from stablestudio.media.copies import Copies
from stablestudio.media.decoding import DOOR
from stablestudio.media.inputs import MAX_OWN_BYTES, InputReader, MediaTooLarge
from stablestudio.media.intake import Checked, Faults, Intake, IntakeBusy, TooManyBadFiles
from stablestudio.media.probe import Probe, probe
from stablestudio.media.storage import Storage
from stablestudio.store import copies as store
from stablestudio.store import jobs, payments
from stablestudio.store.database import Database
from stablestudio.store.jobs import Asset
from tests import media_samples
from tests.doubles import BUYER, NOW_MS, ManualClock, order, payment, png, sell
from tests.providers.loopback import Answer, Loopback, Request, serving
from tests.providers.troubles import public_loopback

pytestmark = pytest.mark.anyio
WALLET = f"eip155:{BUYER.address.lower()}"
_HOUR_S = 3600


class Door:
    """An intake on an empty database, and a stranger's server whose files a test may change."""

    def __init__(self, database: Database, clock: ManualClock, folder: Path, server: Loopback) -> None:
        self.database, self.clock, self.folder, self.server = database, clock, folder, server
        storage = Storage.at(str(folder))
        self.copies = Copies(database, storage=storage, clock=clock)
        self.reader = InputReader(database, fetcher=public_loopback(), storage=storage, copies=self.copies)
        self.intake = Intake(self.reader, self.copies, clock=clock)

    def input(self, key: str, **fields: Any) -> OfferingInput:
        """Return an input; `/cat.png` in it stands for that file of the stranger's."""
        model, operation = key.split("/")
        offering = catalog.find(model, operation)
        assert offering is not None
        body = json.dumps(offering.input.example | fields).replace('"/', f'"{self.server.url}/')
        return offering.read(body.encode())

    async def check(self, key: str, **fields: Any) -> Checked:
        return await self.intake.check(self.input(key, **fields), wallet=WALLET)

    async def refused(self, key: str, **fields: Any) -> list[tuple[tuple[str | int, ...], str]]:
        with pytest.raises(InvalidInput) as refusal:
            await self.check(key, **fields)
        return [(issue.path, issue.code) for issue in refusal.value.issues]

    async def place(self, number: int, checked: Checked, *, job: bool = True) -> str:
        """Write down the order that was checked; without `job` its payment is claimed, no more."""

        def write(connection: sa.Connection) -> str:
            if job:
                sell(connection, number)
            else:
                payments.claim(connection, order=order(number), payment=payment(number))
            assert checked.intake is not None
            store.link(connection, intake=checked.intake, order_id=order(number).id)
            return order(number).id

        return await self.database.write(write)

    async def read(self, path: str, order_id: str) -> bytes:
        return await self.reader.read(self.server.url + path, wallet=WALLET, order_id=order_id, as_of_ms=NOW_MS)

    def files(self) -> list[bytes]:
        return [path.read_bytes() for path in sorted(self.folder.rglob("*")) if path.is_file()]


@cache
def _files() -> dict[str, bytes]:
    clip = media_samples.clip(size=(320, 320), seconds=3)
    return {
        "/cat.png": png((400, 400)),
        "/dog.png": png((400, 400), "blue"),
        "/tiny.png": png((40, 40)),
        "/wide.png": png((3000, 400)),
        "/clip.mp4": clip,
        "/clip": clip,
        "/page": b"<html></html>",
        "/beat.mp3": media_samples.sound("mp3", "libmp3lame", seconds=2),
        "/long.mp3": media_samples.sound("mp3", "libmp3lame", seconds=10),
        "/song.mp3": media_samples.sound("mp3", "libmp3lame", seconds=31),
    }


@pytest.fixture
def shelf() -> dict[str, bytes]:
    """What the stranger's server answers with, by path."""
    return dict(_files())


@pytest.fixture
async def door(database: Database, clock: ManualClock, tmp_path: Path, shelf: dict[str, bytes]) -> AsyncIterator[Door]:
    def answer(request: Request) -> Answer:
        path = request.path.partition("?")[0]
        return Answer(body=shelf[path]) if path in shelf else Answer(status=404)

    async with serving(answer) as server:
        yield Door(database, clock, tmp_path / "files", server)


async def test_an_order_is_made_from_the_very_bytes_that_were_checked(door: Door, shelf: dict[str, bytes]) -> None:
    seen = shelf["/cat.png"]
    order_id = await door.place(1, await door.check("nano-banana/edit", images=["/cat.png"]))
    shelf["/cat.png"] = png((400, 400), "black")
    assert await door.read("/cat.png", order_id) == seen
    assert len(door.server.asked) == 1


async def test_a_file_that_is_named_twice_is_fetched_and_kept_once(door: Door) -> None:
    await door.check("nano-banana/edit", images=["/cat.png", "/dog.png", "/cat.png"])
    assert (len(door.server.asked), len(door.files())) == (2, 2)


async def test_one_orders_copies_are_not_anothers(door: Door, shelf: dict[str, bytes]) -> None:
    await door.place(1, await door.check("nano-banana/edit", images=["/cat.png"]))
    other = shelf["/cat.png"] = png((400, 400), "black")
    second = await door.place(2, await door.check("nano-banana/edit", images=["/cat.png"]))
    assert await door.read("/cat.png", second) == other


async def test_a_data_uri_is_in_the_order_itself_and_not_kept_beside_it(door: Door) -> None:
    checked = await door.check(
        "nano-banana/edit",
        images=[
            "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
        ],
    )
    assert (checked.intake, door.files()) == (None, [])


async def test_each_field_at_fault_is_named_and_nothing_is_kept(door: Door) -> None:
    issues = await door.refused("nano-banana/edit", images=["/cat.png", "/page", "/gone.png", "/clip.mp4"])
    assert [path for path, _ in issues] == [("images", 1), ("images", 2)]
    assert door.files() == []


async def test_copies_go_when_their_order_has_come_to_its_end(door: Door) -> None:
    order_id = await door.place(1, await door.check("nano-banana/edit", images=["/cat.png"]))
    other = await door.place(2, await door.check("nano-banana/edit", images=["/dog.png"]))
    await door.copies.drop(order_id)
    assert len(door.files()) == 1
    assert await door.copies.find(door.server.url + "/dog.png", order_id=other) is not None


async def test_the_purge_takes_what_no_open_order_needs_and_nothing_else(door: Door) -> None:
    await door.check("nano-banana/edit", images=["/tiny.png"])  # never claimed
    making = await door.place(1, await door.check("nano-banana/edit", images=["/cat.png"]))
    await door.place(2, await door.check("nano-banana/edit", images=["/dog.png"]), job=False)
    assert await door.copies.purge() == 0
    door.clock.advance(2 * _HOUR_S)
    assert (await door.copies.purge(), len(door.files())) == (1, 2)
    await door.database.write(lambda c: jobs.fail(c, job_id=making, code="x", message="x", now=NOW_MS))
    assert (await door.copies.purge(), len(door.files())) == (1, 1)


async def test_a_copy_that_resists_keeps_no_other(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stablestudio.media.copies._BATCH", 1)
    for number in range(3):
        await door.copies.keep(f"https://x/{number}", b"x", content_type="image/png", intake="i1")
    stuck = min(key for (key,) in door.database.fetch("SELECT key FROM copies"))
    storage = door.copies._storage
    genuine = storage.delete

    async def delete(key: str) -> None:
        if key == stuck:
            raise OSError(5, "Input/output error")
        await genuine(key)

    door.clock.advance(2 * _HOUR_S)
    with monkeypatch.context() as patch:
        patch.setattr(storage, "delete", delete)
        assert (await door.copies.purge(), len(door.files())) == (2, 1)
    assert (await door.copies.purge(), door.files()) == (1, [])


async def test_a_row_whose_bytes_a_stop_has_prevented_goes_as_well(door: Door) -> None:
    lost = store.Copy(
        key="inputs/i1/0", intake="i1", url="https://x", content_type="image/png", size=1, sha256="", created_at=NOW_MS
    )
    await door.database.write(lambda connection: store.insert(connection, lost))
    door.clock.advance(2 * _HOUR_S)
    assert (await door.copies.purge(), await door.copies.purge()) == (1, 0)


async def test_a_file_kept_here_that_is_too_large_for_work_is_refused_before_it_is_read(
    door: Door, database: Database
) -> None:
    await database.write(lambda connection: sell(connection, 1, wallet=WALLET))
    large = Asset(
        key="jobs/job_1/result.mp4",
        job_id=order(1).id,
        role="result",
        content_type="video/mp4",
        size=MAX_OWN_BYTES + 1,
        sha256="",
        width=1,
        height=1,
        milliseconds=1,
        created_at=NOW_MS,
    )
    await database.write(lambda connection: jobs.insert_asset(connection, large))
    await database.write(lambda connection: jobs.complete(connection, job_id=large.job_id, now=NOW_MS))
    path = door.folder / large.key
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(large.size)
    with pytest.raises(MediaTooLarge):
        await door.reader.open(f"job:{large.job_id}", wallet=WALLET)
    storage = Storage.at(str(door.folder))
    wider = InputReader(database, fetcher=public_loopback(), storage=storage, max_bytes=large.size)
    assert (await wider.open(f"job:{large.job_id}", wallet=WALLET)).media == path


async def test_what_urls_are_is_found_out_from_the_files_and_written_into_the_order(door: Door) -> None:
    checked = await door.check(
        "seedance/i2v",
        prompt="@image1",
        mode="reference",
        urls=["/cat.png", "/clip"],
        urlMediaTypes=None,
        audioUrls=None,
    )
    kept = json.loads(checked.input.model_dump_json(exclude_unset=True, by_alias=True))
    assert kept["urlMediaTypes"] == ["image", "video"]
    assert [each.kind for each in checked.input.media()] == ["image", "video"]


async def test_a_reference_to_what_a_file_turns_out_not_to_be_is_refused(door: Door) -> None:
    fields = {"mode": "reference", "urls": ["/clip", "/cat.png"], "urlMediaTypes": None, "audioUrls": None}
    assert await door.refused("seedance/i2v", prompt="@image2", **fields) == [(("prompt",), "unknown_reference")]


async def test_a_stated_type_that_the_file_is_not_is_refused(door: Door) -> None:
    fields = {"prompt": "x", "mode": "reference", "audioUrls": None}
    wrong = await door.refused("seedance/i2v", urls=["/cat.png", "/clip"], urlMediaTypes=["image", "image"], **fields)
    assert wrong == [(("urls", 1), "wrong_kind_of_media")]


@pytest.mark.parametrize(
    ("key", "fields", "path"),
    [
        ("seedance/i2v", {"urls": ["/tiny.png"], "mode": "keyframe"}, ("urls", 0)),
        ("seedance/i2v", {"urls": ["/wide.png"], "mode": "keyframe"}, ("urls", 0)),
        ("seedance/i2v", {"urls": ["/cat.png"], "mode": "reference", "audioUrls": ["/song.mp3"]}, ("audioUrls", 0)),
        (
            "seedance/i2v",
            {"urls": ["/cat.png"], "mode": "reference", "audioUrls": ["/beat.mp3", "/long.mp3", "/long.mp3"]},
            ("audioUrls", 2),
        ),
        ("wan-2.6/i2v", {"image": "/cat.png", "audioUrl": "/beat.mp3"}, ("audioUrl",)),
        ("wan-2.6/i2v", {"image": "/cat.png", "audioUrl": "/song.mp3"}, ("audioUrl",)),
        ("wan-2.6/i2v", {"image": "/tiny.png"}, ("image",)),
    ],
)
async def test_a_file_that_measures_what_the_route_does_not_take_is_refused(
    door: Door, key: str, fields: dict[str, Any], path: tuple[str | int, ...]
) -> None:
    base = {"prompt": "x", "urlMediaTypes": None, "audioUrls": None} if key == "seedance/i2v" else {}
    assert await door.refused(key, **(base | fields)) == [(path, "file_out_of_limits")]


async def test_a_frame_of_another_size_is_refused_where_it_may_not_be_cropped(door: Door) -> None:
    fields = {"input_reference": "/cat.png", "size": "1280x720"}
    assert await door.refused("sora-2/generate", autoCrop=False, **fields) == [(("input_reference",), "conflict")]
    assert (await door.check("sora-2/generate", autoCrop=True, **fields)).intake is not None


async def test_whoever_names_bad_files_again_and_again_is_told_to_wait(door: Door) -> None:
    for _ in range(20):
        await door.refused("nano-banana/edit", images=["/gone.png"])
    asked = len(door.server.asked)
    with pytest.raises(TooManyBadFiles) as refusal:
        await door.check("nano-banana/edit", images=["/cat.png"])
    assert int(dict(refusal.value.headers)["Retry-After"]) <= 601
    assert len(door.server.asked) == asked
    await door.intake.check(door.input("nano-banana/edit", images=["/cat.png"]), wallet="eip155:0xother")
    door.clock.advance(601)
    await door.check("nano-banana/edit", images=["/cat.png"])


async def test_what_is_decoded_in_vain_counts_and_what_is_refused_unseen_does_not(door: Door) -> None:
    broken = "data:image/png;base64,iVBORw0KGgo="
    for _ in range(30):
        await door.refused("nano-banana/edit", images=["https://10.0.0.1/a.png"])
    for _ in range(20):
        await door.refused("nano-banana/edit", images=[broken])
    with pytest.raises(TooManyBadFiles):
        await door.check("nano-banana/edit", images=["/cat.png"])


async def test_each_file_in_vain_counts_and_so_does_a_payment_that_was_not_taken(door: Door) -> None:
    await door.refused("nano-banana/edit", images=[f"/gone{number}.png" for number in range(14)])
    for _ in range(6):
        checked = await door.check("nano-banana/edit", images=["/cat.png"])
        await door.intake.forget(checked, wallet=WALLET)
    assert door.files() == []
    with pytest.raises(TooManyBadFiles):
        await door.check("nano-banana/edit", images=["/cat.png"])


async def test_an_order_whose_payment_is_under_way_keeps_its_copies_when_a_twin_lets_go(door: Door) -> None:
    checked = await door.check("nano-banana/edit", images=["/cat.png"])
    await door.place(1, checked, job=False)
    await door.intake.forget(checked, wallet=WALLET)
    assert len(door.files()) == 1


async def test_whoever_finds_no_room_is_told_to_come_back_and_is_not_to_blame(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy, free = asyncio.Barrier(3), asyncio.Event()

    async def hold(*_: object) -> Probe:
        await busy.wait()
        await free.wait()
        return probe(png((400, 400)))

    monkeypatch.setattr(intake_module, "_PATIENCE", 0.2)
    monkeypatch.setattr(DOOR, "probe", hold)
    others = [door.input("nano-banana/edit", images=["/cat.png"]) for _ in range(2)]
    looks = [asyncio.create_task(door.intake.check(each, wallet=f"w{n}")) for n, each in enumerate(others)]
    await busy.wait()
    with pytest.raises(IntakeBusy) as refusal:
        await door.check("nano-banana/edit", images=["/dog.png"])
    assert dict(refusal.value.headers)["Retry-After"] == "5"
    free.set()
    await asyncio.gather(*looks)
    assert len(door.files()) == 2


async def test_faults_of_long_ago_are_forgotten(clock: ManualClock) -> None:
    faults = Faults(clock, most=2, window_ms=1000)
    for wallet in ("a", "b", "b"):
        faults.note(wallet)
    clock.advance(0.999)
    with pytest.raises(TooManyBadFiles):
        faults.require_few("b")
    faults.require_few("a")
    clock.advance(0.002)
    faults.require_few("b")


async def test_one_wallet_has_four_files_fetched_at_a_time(
    database: Database, clock: ManualClock, tmp_path: Path
) -> None:
    now, most = 0, 0
    arrived = asyncio.Event()

    async def answer(_: Request) -> Answer:
        nonlocal now, most
        now += 1
        most = max(most, now)
        if now >= 4:
            arrived.set()
        await arrived.wait()
        await asyncio.sleep(0.05)  # a fifth would come in this time
        now -= 1
        return Answer(body=png())

    async with serving(answer) as server:
        door = Door(database, clock, tmp_path / "files", server)
        images = [f"/{number}.png" for number in range(6)]
        await asyncio.gather(*(door.check("nano-banana/edit", images=images[half::2]) for half in range(2)))
    assert most == 4


async def test_our_own_trouble_is_no_fault_of_the_buyers(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    class Away(StudioError):
        """Away."""

        status = 503
        retryable = True

    async def fail(*_: object, **__: object) -> None:
        raise Away

    monkeypatch.setattr(door.reader, "open", fail)
    with pytest.raises(Away):
        await door.check("nano-banana/edit", images=["/cat.png"])
