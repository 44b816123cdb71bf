"""A service is lost and put back from a backup that was made while it sold: what the books knew ends once, for everybody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.service import Buyer

from .audit import audit, audit_files, rows
from .conftest import DOOMED, PICTURE, World
from .zygote import ForkedService, Zygote

SLOW = replace(PICTURE, body=PICTURE.body | {"prompt": "a boat [sandbox:delay=2]"})
_WARES = (PICTURE, SLOW, DOOMED)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STABLESTUDIO_")}
    command = [sys.executable, "-m", "stablestudio", *arguments]
    return subprocess.run(command, env=clean | environment, capture_output=True, text=True, timeout=120, check=False)


@contextmanager
def _stream_of_sales(world: World) -> Iterator[list[str]]:
    """Sell again and again until the block ends; what was sold is in the list."""
    sold: list[str] = []
    over = threading.Event()

    def sell() -> None:
        with Buyer(world.service.url, key=world.buyer.key) as buyer:
            while not over.is_set():
                ware = _WARES[len(sold) % len(_WARES)]
                sold.append(buyer.buy(ware.path, ware.body))

    thread = threading.Thread(target=sell)
    thread.start()
    try:
        yield sold
    finally:
        over.set()
        thread.join()


def _until(sold: list[str], count: int) -> None:
    deadline = time.monotonic() + 60
    while len(sold) < count and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(sold) >= count


@pytest.mark.parametrize("name", ["backup", "backup.tar"])
def test_a_backup_made_amid_sales_comes_back_and_every_order_in_it_ends_once(
    world: World, zygote: Zygote, tmp_path: Path, name: str
) -> None:
    world.service.start()
    target, place = tmp_path / name, tmp_path / "place"
    with _stream_of_sales(world) as sold:
        _until(sold, 6)
        done = run("backup", str(target), "--data", str(world.service.data))
        assert done.returncode == 0, done.stdout + done.stderr
        _until(sold, len(sold) + 3)
    world.service.kill()
    assert run("restore", str(target), "--data", str(place)).returncode == 0
    known = {job_id for (job_id,) in rows(place / "stablestudio.db", "SELECT id FROM orders")}
    unfinished = rows(place / "stablestudio.db", "SELECT id FROM jobs WHERE state IN ('pending', 'loading')")
    assert unfinished
    assert known < set(sold)
    with ForkedService(place, zygote=zygote, environment={"HASTE": "1"}) as service:
        service.wait_for_rest()  # each asked its vendor once, was paid once, and is delivered or refunded
        assert audit_files(place) == []
        with Buyer(service.url, key=world.buyer.key) as buyer:
            job_id = buyer.buy(PICTURE.path, PICTURE.body)
            assert buyer.wait(job_id)["status"] == "complete"
        service.wait_for_rest()
    assert run("audit", "--chain", "--data", str(place)).returncode == 0


def test_links_of_before_hold_after_a_restore(world: World, zygote: Zygote, tmp_path: Path) -> None:
    world.service.start()
    link = world.buyer.wait(world.buy(PICTURE))["result"]["imageUrl"]
    data = world.buyer.http.get(link).content
    assert run("backup", str(tmp_path / "b.tar"), "--data", str(world.service.data)).returncode == 0
    world.service.kill()
    place = tmp_path / "place"
    assert run("restore", str(tmp_path / "b.tar"), "--data", str(place)).returncode == 0
    origin = {"STABLESTUDIO_PUBLIC_URL": world.service.url}
    with ForkedService(place, zygote=zygote, environment=origin) as service, Buyer(service.url) as buyer:
        assert buyer.http.get(link.removeprefix(world.service.url)).content == data


@pytest.mark.parametrize("failpoint", ["restore.checked", "restore.half", "restore.loaded", "restore.noted"])
def test_a_restore_that_is_killed_is_no_service_and_the_next_one_ends_it(
    world: World, zygote: Zygote, tmp_path: Path, failpoint: str
) -> None:
    world.service.start()
    job_id = world.buy(PICTURE)
    world.buyer.wait(job_id)
    world.service.wait_for_rest()
    target, place = tmp_path / "backup", tmp_path / "place"
    assert run("backup", str(target), "--data", str(world.service.data)).returncode == 0
    world.service.kill()
    killed = run("restore", str(target), "--data", str(place), STABLESTUDIO_FAILPOINT=failpoint)
    assert killed.returncode == -signal.SIGKILL
    refused = run("serve", "--port", "0", "--data", str(place))
    assert (refused.returncode, "was cut off" in refused.stderr) == (2, True), refused.stderr
    done = run("restore", str(target), "--data", str(place))
    assert done.returncode == 0, done.stdout
    with ForkedService(place, zygote=zygote) as service:
        service.wait_for_rest()
    assert rows(place / "stablestudio.db", "SELECT id, state FROM jobs") == [(job_id, "complete")]
    assert (audit(place / "stablestudio.db"), audit_files(place)) == ([], [])
