"""A disk of our own that is full or read-only: nothing is sold, nobody is charged, and what was paid before is made later."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.service import Buyer

from .conftest import FUNDS, PICTURE, Template, World
from .zygote import ForkedService, Zygote

SLOW = replace(PICTURE, body=PICTURE.body | {"prompt": "a boat [sandbox:delay=2]"})
_SIZE, _RESERVE = 64_000_000, 16_000_000


class Disk:
    """A file system of 64 MB."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, *, but: int) -> None:
        """Leave so many bytes free."""
        free = shutil.disk_usage(self.folder).free
        with suppress(OSError):  # the service wrote in between: it is as full as can be
            (self.folder / "ballast").write_bytes(bytes(free - but))

    def empty(self) -> None:
        (self.folder / "ballast").unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    yield Disk(folder)
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def shop(disk: Disk, zygote: Zygote, template: Template) -> Iterator[World]:
    """A running service whose data folder is on that disk."""
    shutil.copytree(template.data, disk.folder / "data")
    environment = {"STABLESTUDIO_SANDBOX_DELAY": "0.05", "STABLESTUDIO_MIN_FREE_BYTES": str(_RESERVE), "HASTE": "1"}
    service = ForkedService(disk.folder / "data", zygote=zygote, environment=environment)
    service.log = disk.folder.parent / "service.log"
    service.start()
    with Buyer(service.url, key=template.key) as buyer:
        yield World(service=service, buyer=buyer, required=template.required)
    service.kill()


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert holds()


def _ready(world: World) -> bool:
    return bool(world.buyer.http.get("/health").json()["ready"])


def _events(world: World, name: str) -> int:
    lines = [line for line in world.service.log.read_text().splitlines() if line.startswith("{")]
    return sum(json.loads(line)["event"] == name for line in lines)


def _expect_nothing_sold(world: World, payment: str) -> None:
    for _ in range(3):
        answer = world.pay(PICTURE, payment)
        told = answer.json()
        assert (answer.status_code, told["code"], told["charged"]) == (503, "no_room", False)
        assert world.buyer.http.post(PICTURE.path, json=PICTURE.body).status_code == 503
    assert world.buyer.balance() == FUNDS


def _expect_the_same_payment_sold(world: World, payment: str) -> None:
    _until(lambda: _ready(world))
    answer = world.pay(PICTURE, payment)
    assert answer.status_code == 200, answer.text
    assert world.buyer.wait(answer.json()["jobId"])["status"] == "complete"
    world.service.wait_for_rest()
    assert world.buyer.balance() == FUNDS - PICTURE.price
    assert (_events(world, "no_room"), _events(world, "room_again")) == (1, 1)


def test_below_the_reserve_nothing_is_sold_until_there_is_room_again(shop: World, disk: Disk) -> None:
    payment = shop.sign()
    disk.fill(but=_RESERVE // 2)
    _until(lambda: not _ready(shop))
    _expect_nothing_sold(shop, payment)
    disk.empty()
    _expect_the_same_payment_sold(shop, payment)


def test_on_a_read_only_disk_nothing_is_sold_until_it_can_be_written_to(shop: World, disk: Disk) -> None:
    payment = shop.sign()
    # A file that is open for writing keeps a disk from being made read-only: the database's would.
    files = shop.service.data / "assets"
    files.mkdir(exist_ok=True)
    subprocess.run(["mount", "--bind", str(files), str(files)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(files)], check=True)
    try:
        _until(lambda: not _ready(shop))
        _expect_nothing_sold(shop, payment)
    finally:
        subprocess.run(["umount", "-l", str(files)], check=True)
    _expect_the_same_payment_sold(shop, payment)


@pytest.mark.parametrize("left", [0, 500_000])
def test_jobs_that_were_paid_before_wait_for_room_and_are_delivered(shop: World, disk: Disk, left: int) -> None:
    sold = [shop.buy(SLOW) for _ in range(4)]
    disk.fill(but=left)
    _until(lambda: not _ready(shop))
    time.sleep(3)  # the vendor is done meanwhile, and nothing can be kept
    disk.empty()
    for job_id in sold:
        assert shop.buyer.wait(job_id, seconds=120)["status"] == "complete"
    shop.service.wait_for_rest(60)
    assert shop.buyer.balance() == FUNDS - 4 * SLOW.price
