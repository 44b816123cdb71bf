from __future__ import annotations

import hashlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import anyio
import obstore
import pytest

from stablestudio.media.buckets import Bucket, Keys
from stablestudio.media.links import AssetGone
from stablestudio.media.storage import CHUNK, AssetExists, Storage, StorageRefused, StorageUnavailable
from tests.doubles import eventually
from tests.fakes.s3 import BUCKET, KEY_ID, REGION, S3, SECRET

pytestmark = pytest.mark.anyio
KEY = "jobs/job_abc/0.png"


def bucket_of(s3: S3, prefix: str) -> Bucket:
    keys = Keys(key_id=KEY_ID, secret=SECRET)
    return Bucket.at(f"s3://{BUCKET}/{prefix}", region=REGION, endpoint=s3.endpoint, keys=keys)


@pytest.fixture(params=["directory", "file url", "memory", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "s3":
        return Storage(bucket_of(request.getfixturevalue("s3"), secrets.token_hex(8)).open())
    locations = {
        "directory": str(tmp_path / "assets"),
        "file url": f"file://{tmp_path}/with%20space",
        "memory": "memory:///",
    }
    return Storage.at(locations[request.param])


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def left(folder: Path) -> list[Path]:
    """Return what is in a folder, empty folders included."""
    return list(folder.iterdir())


async def stream(storage: Storage, key: str, start: int, end: int) -> list[bytes]:
    return [piece async for piece in storage.stream(key, start, end)]


async def test_what_was_put_is_read_back(storage: Storage) -> None:
    assert await storage.put_once(KEY, b"picture", content_type="image/png")

    assert await storage.read(KEY) == b"picture"
    assert await storage.size(KEY) == 7


async def test_second_put_of_the_same_bytes_creates_nothing(storage: Storage) -> None:
    await storage.put_once(KEY, b"picture", content_type="image/png")

    assert not await storage.put_once(KEY, b"picture", content_type="image/png")


@pytest.mark.parametrize("other", [b"pictura", b"longer picture", b""])
async def test_second_put_of_other_bytes_is_refused_and_changes_nothing(storage: Storage, other: bytes) -> None:
    await storage.put_once(KEY, b"picture", content_type="image/png")

    with pytest.raises(AssetExists):
        await storage.put_once(KEY, other, content_type="image/png")
    assert await storage.read(KEY) == b"picture"


async def test_of_many_writers_at_once_one_wins_whole(storage: Storage) -> None:
    outcomes: list[int | None] = []

    async def put(number: int) -> None:
        try:
            created = await storage.put_once(KEY, bytes([number]) * 100_000, content_type="image/png")
        except AssetExists:
            outcomes.append(None)
        else:
            assert created
            outcomes.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(put, number)

    assert len(outcomes) == 20
    (winner,) = [number for number in outcomes if number is not None]
    assert await storage.read(KEY) == bytes([winner]) * 100_000


async def test_large_file_is_created_only_once(storage: Storage) -> None:
    data = os.urandom(6 * 1024 * 1024)  # above the size at which obstore would upload in parts

    assert await storage.put_once("jobs/job_abc/0.mp4", data, content_type="video/mp4")
    with pytest.raises(AssetExists):
        await storage.put_once("jobs/job_abc/0.mp4", data[:-1], content_type="video/mp4")
    assert await storage.read("jobs/job_abc/0.mp4") == data


@pytest.mark.parametrize(
    ("start", "end"),
    [(0, 600_000), (0, 1), (599_999, 600_000), (CHUNK - 1, CHUNK + 1), (5, 2 * CHUNK + 5), (0, CHUNK)],
)
async def test_stream_gives_exactly_the_range(storage: Storage, start: int, end: int) -> None:
    data = os.urandom(600_000)
    await storage.put_once(KEY, data, content_type="image/png")

    assert b"".join(await stream(storage, KEY, start, end)) == data[start:end]


async def test_empty_range_yields_nothing(storage: Storage) -> None:
    await storage.put_once(KEY, b"", content_type="image/png")

    assert await stream(storage, KEY, 0, 0) == []
    assert await storage.read(KEY) == b""


async def test_a_bucket_is_told_how_a_file_may_be_shown(s3: S3) -> None:
    """Whoever makes the bucket public by mistake still serves no HTML from it."""
    opened = bucket_of(s3, secrets.token_hex(8)).open()
    storage = Storage(opened)
    await storage.put_once("jobs/a/0.png", b"x", content_type="image/png")
    await storage.put_once("jobs/a/0.bin", b"<html>", content_type="text/html")
    told = [(await obstore.get_async(opened, f"jobs/a/0.{end}")).attributes for end in ("png", "bin")]
    assert [(one["Content-Type"], one["Content-Disposition"]) for one in told] == [
        ("image/png", 'inline; filename="a-0.png"'),
        ("application/octet-stream", 'attachment; filename="a-0.bin"'),
    ]


async def test_a_place_that_can_be_used_passes_the_check(storage: Storage) -> None:
    await storage.check()


async def test_a_bucket_that_does_not_exist_is_refused_by_name(s3: S3) -> None:
    place = Bucket.at("s3://nobody", region=REGION, endpoint=s3.endpoint, keys=Keys(key_id=KEY_ID, secret=SECRET))
    with pytest.raises(StorageRefused, match="specified bucket does not exist"):
        await Storage(place.open()).check()


async def test_a_bucket_that_does_not_answer_is_neither_refused_nor_empty(free_port: int) -> None:
    endpoint = f"http://127.0.0.1:{free_port}"
    place = Bucket.at("s3://studio", region=REGION, endpoint=endpoint, keys=Keys(key_id=KEY_ID, secret=SECRET))
    storage = Storage(place.open())
    for ask in (storage.check(), storage.size(KEY), storage.read(KEY), storage.delete(KEY), stream(storage, KEY, 0, 1)):
        with pytest.raises(StorageUnavailable) as caught:
            await ask
        assert (caught.value.status, caught.value.retryable) == (503, True)


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_directory_streams_in_small_pieces(tmp_path: Path) -> None:
    storage = Storage.at(str(tmp_path))
    await storage.put_once(KEY, bytes(3 * CHUNK + 7), content_type="image/png")

    assert [len(piece) for piece in await stream(storage, KEY, 0, 3 * CHUNK + 7)] == [CHUNK, CHUNK, CHUNK, 7]


async def test_a_long_stream_is_kept_whole_and_hashed(tmp_path: Path) -> None:
    storage, piece, count = Storage.at(str(tmp_path)), os.urandom(300_007), 130  # 39 MB

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(count):
            yield piece

    kept = await storage.put_stream(KEY, pieces(), content_type="video/mp4", max_bytes=count * len(piece))

    whole = await storage.read(KEY)
    assert (kept.size, kept.sha256) == (len(whole), hashlib.sha256(whole).hexdigest())
    assert whole == piece * count


async def test_only_a_file_on_this_machine_has_a_path(tmp_path: Path) -> None:
    here = Storage.at(str(tmp_path / "assets"))
    await here.put_once(KEY, b"picture", content_type="image/png")
    path = here.path(KEY)

    assert path is not None
    assert await anyio.Path(path).read_bytes() == b"picture"
    assert Storage.at("memory:///").path(KEY) is None


async def test_missing_file_is_told_apart(storage: Storage) -> None:
    assert await storage.size(KEY) is None
    with pytest.raises(AssetGone) as caught:
        await storage.read(KEY)
    assert caught.value.status == 404
    with pytest.raises(AssetGone):
        await stream(storage, KEY, 0, 1)


async def test_deleted_file_is_gone_and_deleting_again_is_no_error(storage: Storage) -> None:
    await storage.put_once(KEY, b"picture", content_type="image/png")

    await storage.delete(KEY)
    await storage.delete(KEY)
    assert await storage.size(KEY) is None


@pytest.mark.parametrize(
    "key",
    [
        "",
        "0.png",
        "/etc/passwd",
        "jobs/../../etc/passwd",
        "jobs/..",
        "jobs/./0.png",
        "jobs//0.png",
        "jobs/job_abc/",
        "jobs/.hidden",
        "jobs/-rf/-x",
        "jobs/JOB/0.png",
        "jobs/a b/0.png",
        "jobs/a\\b/0.png",
        "jobs/a%2f/0.png",
        "jobs/a/0.png\n",
        "jobs/a/0.png#1",
        "jobs/ä/0.png",
        "jobs/a/0.png\x00",
        "jobs/" + "a" * 200,
        "file:///etc/passwd",
    ],
)
async def test_key_outside_the_pattern_is_refused_by_every_verb(storage: Storage, key: str) -> None:
    with pytest.raises(ValueError, match="Not a key"):
        await storage.put_once(key, b"x", content_type="image/png")
    with pytest.raises(ValueError, match="Not a key"):
        await storage.size(key)
    with pytest.raises(ValueError, match="Not a key"):
        await storage.read(key)
    with pytest.raises(ValueError, match="Not a key"):
        await stream(storage, key, 0, 1)
    with pytest.raises(ValueError, match="Not a key"):
        await storage.delete(key)


@pytest.mark.parametrize("key", ["jobs/job_01k9x/0.png", "jobs/job_01k9x/0.thumb.jpg", "uploads/2026/upl-1_a/file"])
async def test_key_within_the_pattern_is_taken(storage: Storage, key: str) -> None:
    assert await storage.put_once(key, b"x", content_type="image/png")


async def test_folders_go_with_their_last_file(tmp_path: Path) -> None:
    storage = Storage.at(str(tmp_path / "assets"))
    await storage.put_once(KEY, b"x", content_type="image/png")
    await storage.put_once("jobs/job_abc/1.png", b"x", content_type="image/png")
    await storage.delete(KEY)
    assert (tmp_path / "assets" / KEY).parent.is_dir(), "another file is there"
    await storage.delete("jobs/job_abc/1.png")
    assert left(tmp_path / "assets") == [], "the storage itself stays"


async def test_a_folder_that_goes_as_a_file_comes_loses_no_file(tmp_path: Path) -> None:
    storage = Storage.at(str(tmp_path))

    async def put_and_delete(number: int) -> None:
        for _ in range(100):
            assert await storage.put_once(f"jobs/a/b/{number}.png", b"x", content_type="image/png")
            assert await storage.size(f"jobs/a/b/{number}.png") == 1
            await storage.delete(f"jobs/a/b/{number}.png")

    async with anyio.create_task_group() as tasks:
        for number in range(8):
            tasks.start_soon(put_and_delete, number)
    assert left(tmp_path) == []


async def test_a_sweep_takes_what_an_earlier_process_left_half_written_and_nothing_else(tmp_path: Path) -> None:
    half, named = tmp_path / "uploads" / "u1" / ".abc.part", tmp_path / "jobs" / "a" / "0.png"
    for path in (half, named):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
        os.utime(path, (1, 1))
    storage, end = Storage.at(str(tmp_path)), anyio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"x"
        await end.wait()

    async with anyio.create_task_group() as tasks:
        put = partial(storage.put_stream, "uploads/u2/0", pieces(), content_type="image/png", max_bytes=9)
        tasks.start_soon(put)
        await eventually(lambda: len(files(tmp_path)) == 3)
        await storage.sweep()
        assert len(files(tmp_path)) == 2
        end.set()
    assert {path.name for path in files(tmp_path)} == {"0", "0.png"}
    assert not half.parent.exists()


async def test_a_file_that_resists_keeps_no_other(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [f"jobs/a/{number}.png" for number in range(3)]
    for key in keys:
        await storage.put_once(key, b"x", content_type="image/png")
    genuine = storage.delete

    async def delete(key: str) -> None:
        if key == keys[0]:
            raise OSError(5, "Input/output error")
        await genuine(key)

    monkeypatch.setattr(storage, "delete", delete)
    assert await storage.erase(keys) == keys[1:]
    assert [await storage.size(key) for key in keys] == [1, None, None]


async def test_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    storage = Storage.at(str(tmp_path))
    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(StorageUnavailable):
        await storage.put_once(KEY, b"picture", content_type="image/png")
    assert left(tmp_path) == []


async def test_file_is_on_disk_before_its_name_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[bool] = []
    sizes: list[int] = []
    sync = os.fsync

    def watch(descriptor: int) -> None:
        shown.append((tmp_path / KEY).exists())
        sizes.append(os.fstat(descriptor).st_size)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    await Storage.at(str(tmp_path)).put_once(KEY, b"picture", content_type="image/png")

    # The file before the link, then the folders that hold the new names: job_abc, jobs and the root.
    assert shown == [False, True, True, True]
    assert sizes[0] == len(b"picture")


WRITER = """
import sys, anyio
from stablestudio.media.storage import Storage

async def main():
    storage, data = Storage.at(sys.argv[1]), b"z" * int(sys.argv[2])
    print("ready", flush=True)
    for number in range(1000):
        await storage.put_once(f"jobs/job_abc/{number}.mp4", data, content_type="video/mp4")
        if number:
            await storage.delete(f"jobs/job_abc/{number - 1}.mp4")

anyio.run(main)
"""


def kill_a_writer(folder: Path, *, size: int, after_seconds: float) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, folder, str(size)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(after_seconds)
        writer.kill()


@pytest.mark.parametrize("after_seconds", [0.01, 0.03, 0.07])
async def test_killed_writer_leaves_no_half_file_and_hinders_nobody(tmp_path: Path, after_seconds: float) -> None:
    size = 32 * 1024 * 1024
    kill_a_writer(tmp_path, size=size, after_seconds=after_seconds)

    assert {path.stat().st_size for path in files(tmp_path) if path.suffix == ".mp4"} <= {size}
    storage = Storage.at(str(tmp_path))
    for number in range(3):
        key = f"jobs/job_abc/{number}.mp4"
        await storage.delete(key)
        assert await storage.put_once(key, b"clip", content_type="video/mp4")
