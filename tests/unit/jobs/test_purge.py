"""The purge erases what is due and nothing else, once, wherever it was stopped before."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from stablestudio.jobs.purge import GRACE_MS, Purger
from stablestudio.media.buckets import Bucket, Keys
from stablestudio.media.storage import Storage
from stablestudio.store import assets, jobs, payments
from stablestudio.store.database import Database
from tests.doubles import NOW_MS, ManualClock, order, payment, sell
from tests.fakes.s3 import BUCKET, KEY_ID, REGION, SECRET

pytestmark = pytest.mark.anyio
DUE = NOW_MS - GRACE_MS


class Store:
    """Jobs with files, and a purger of them."""

    def __init__(self, database: Database, storage: Storage, clock: ManualClock) -> None:
        self.database = database
        self.storage = storage
        self.purger = Purger(database, storage=storage, clock=clock)

    async def job(self, number: int, *, expires_at: int | None = DUE, ended: str = "complete", files: int = 2) -> str:
        """Sell, make and end a job with files of 10, 20, ... bytes."""
        job_id = await self.database.write(lambda connection: sell(connection, number))
        for index in range(files):
            await self._keep(job_id, index)
        await self.database.write(lambda connection: _end(connection, job_id, ended, expires_at))
        return job_id

    async def order_with(self, number: int, image: str) -> str:
        """Sell an order that works with an image; it is not ended."""
        text = f'{{"prompt":"x","images":["{image}"]}}'
        return await self.database.write(lambda connection: sell(connection, number, input=text))

    async def keys(self) -> set[str]:
        """Return the keys whose bytes are there."""
        rows = self.database.fetch("SELECT key FROM assets")
        return {key for (key,) in rows if await self.storage.size(key) is not None}

    def column(self, name: str) -> list[Any]:
        return [value for (value,) in self.database.fetch(f"SELECT {name} FROM assets ORDER BY key")]

    async def _keep(self, job_id: str, index: int) -> None:
        key = f"jobs/{job_id}/{index}.png"
        data = bytes(10 * (index + 1))
        await self.storage.put_once(key, data, content_type="image/png")
        role = "thumbnail" if index else "result"
        asset = jobs.Asset(
            key=key,
            job_id=job_id,
            role=role,
            content_type="image/png",
            size=len(data),
            sha256="0" * 64,
            width=1,
            height=1,
            milliseconds=None,
            created_at=NOW_MS - index,
            blurhash="hash" if index else None,
        )
        await self.database.write(lambda connection: jobs.insert_asset(connection, asset))


def _end(connection: sa.Connection, job_id: str, state: str, expires_at: int | None) -> None:
    if state == "complete":
        jobs.complete(connection, job_id=job_id, now=NOW_MS, expires_at=expires_at)
    elif state == "failed":
        jobs.fail(connection, job_id=job_id, code="upstream_error", message="no", now=expires_at or NOW_MS)


@pytest.fixture(params=["directory", "memory", "s3"])
def store(request: pytest.FixtureRequest, database: Database, clock: ManualClock, tmp_path: Path) -> Store:
    return Store(database, _storage(request, tmp_path), clock)


@pytest.fixture
def local(database: Database, clock: ManualClock, tmp_path: Path) -> Store:
    return Store(database, Storage.at(str(tmp_path / "assets")), clock)


def _storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param != "s3":
        return Storage.at("memory:///" if request.param == "memory" else str(tmp_path / "assets"))
    keys, endpoint = Keys(key_id=KEY_ID, secret=SECRET), request.getfixturevalue("s3").endpoint
    return Storage(
        Bucket.at(f"s3://{BUCKET}/{secrets.token_hex(8)}", region=REGION, endpoint=endpoint, keys=keys).open()
    )


async def test_what_has_expired_goes_and_a_dry_run_says_so_before(store: Store) -> None:
    await store.job(1)
    kept = await store.job(2, expires_at=DUE + 1)
    forever = await store.job(3, expires_at=None)
    told = await store.purger.look()
    assert (told.files, told.size, told.oldest) == (2, 30, NOW_MS - 1)
    assert len(await store.keys()) == 6
    assert await store.purger.purge() == told
    assert await store.keys() == {f"jobs/{job_id}/{index}.png" for job_id in (kept, forever) for index in range(2)}
    assert (await store.purger.look()).files == 0
    assert (await store.purger.purge()).files == 0


async def test_a_download_that_began_with_the_last_link_has_time_to_end(local: Store, clock: ManualClock) -> None:
    await local.job(1, expires_at=NOW_MS)
    clock.advance(GRACE_MS / 1000 - 1)
    assert (await local.purger.purge()).files == 0
    clock.advance(1)
    assert (await local.purger.purge()).files == 2


@pytest.mark.parametrize("ended", ["pending", "failed"])
async def test_files_of_a_job_under_way_stay_and_those_of_a_failed_one_go(local: Store, ended: str) -> None:
    job_id = await local.job(1, ended=ended)
    if ended == "pending":
        await local.database.write(lambda c: c.execute(sa.text("UPDATE assets SET expires_at = 1")))
    gone = await local.purger.purge()
    assert gone.files == (0 if ended == "pending" else 2), job_id


@pytest.mark.parametrize("image", ["job:{id}", "http://127.0.0.1:8402/assets/jobs/{id}/0.png?exp=1&sig=x"])
async def test_what_an_open_order_is_made_from_stays_until_it_has_ended(local: Store, image: str) -> None:
    job_id = await local.job(1)
    other = await local.order_with(2, image.format(id=job_id))
    assert ((await local.purger.look()).files, (await local.purger.purge()).files) == (0, 0)
    await local.database.write(lambda c: jobs.complete(c, job_id=other, now=NOW_MS))
    assert (await local.purger.purge()).files == 2


async def test_an_order_whose_payment_is_open_keeps_its_inputs_too(local: Store) -> None:
    job_id = await local.job(1)
    made = order(2, input=f'{{"images":["job:{job_id}"]}}')
    await local.database.write(lambda c: payments.claim(c, order=made, payment=payment(2)))
    assert (await local.purger.purge()).files == 0
    await local.database.write(lambda c: payments.reject(c, payment=payment(2), reason="no", now=NOW_MS))
    assert (await local.purger.purge()).files == 2


async def test_a_run_that_stopped_after_marking_is_finished_by_the_next(store: Store) -> None:
    await store.job(1)
    await store.database.write(lambda c: assets.mark_expired(c, before=DUE, now=NOW_MS, limit=100))
    assert (await store.purger.look()).files == 2
    assert (await store.purger.purge()).files == 2
    assert await store.keys() == set()


async def test_a_run_that_stopped_after_erasing_is_noted_by_the_next(store: Store) -> None:
    job_id = await store.job(1)
    await store.database.write(lambda c: assets.mark_expired(c, before=DUE, now=NOW_MS, limit=100))
    await store.storage.delete(f"jobs/{job_id}/0.png")
    assert (await store.purger.purge()).files == 2
    assert store.column("erased_at") == [NOW_MS, NOW_MS]


async def test_of_many_purges_at_once_each_file_is_counted_by_one(store: Store) -> None:
    for number in range(1, 6):
        await store.job(number)
    done = await asyncio.gather(*(store.purger.purge() for _ in range(8)))
    assert sum(each.files for each in done) == 10
    assert await store.keys() == set()


async def test_more_than_a_batch_goes_in_one_run(local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stablestudio.jobs.purge._BATCH", 3)
    for number in range(1, 6):
        await local.job(number)
    assert (await local.purger.purge()).files == 10


async def test_a_file_that_resists_keeps_no_other_and_stays_in_line(
    local: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, free = f"jobs/{await local.job(1)}/0.png", await local.job(2)
    with monkeypatch.context() as patch:
        patch.setattr(local.storage, "delete", _resisting(local.storage, stuck))
        assert (await local.purger.purge()).files == 3
    assert await local.keys() == {stuck}
    assert free not in stuck
    assert (await local.purger.look()).files == 1
    assert (await local.purger.purge()).files == 1


def _resisting(storage: Storage, stuck: str) -> Any:
    genuine = storage.delete

    async def delete(key: str) -> None:
        if key == stuck:
            raise OSError(5, "Input/output error")
        await genuine(key)

    return delete


async def test_expiry_keeps_the_record_and_tells_the_poller(local: Store) -> None:
    job_id = await local.job(1)
    before = _revision(local, job_id)
    await local.purger.purge()
    assert local.column("gone") == ["expired", "expired"]
    assert local.column("blurhash") == [None, "hash"]
    assert _revision(local, job_id) > before


async def test_deletion_forgets_what_the_picture_looked_like(local: Store) -> None:
    job_id = await local.job(1, expires_at=None)
    other = await local.job(2, expires_at=None)
    await local.database.write(lambda c: assets.mark_deleted(c, job_id=job_id, now=NOW_MS))
    await local.purger.erase_job(job_id)
    assert local.column("gone") == ["deleted", "deleted", None, None]
    assert local.column("blurhash") == [None, None, None, "hash"]
    assert await local.keys() == {f"jobs/{other}/{index}.png" for index in range(2)}


async def test_a_file_goes_for_one_reason_only(local: Store) -> None:
    job_id = await local.job(1)
    marks: Sequence[Any] = [
        lambda c: assets.mark_expired(c, before=DUE, now=NOW_MS, limit=100),
        lambda c: assets.mark_deleted(c, job_id=job_id, now=NOW_MS + 1),
    ]
    done = await asyncio.gather(*(local.database.write(mark) for mark in marks))
    assert sorted(done) == [0, 2]
    assert len(set(local.column("gone"))) == 1


def _revision(store: Store, job_id: str) -> int:
    return int(store.database.fetch("SELECT revision FROM orders WHERE id = ?", (job_id,))[0][0])
