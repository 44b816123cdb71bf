"""A disk that is full for a while: no sale is half written, nobody pays twice, and all that was paid is finished later."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from .audit import audit
from .conftest import DOOMED, FUNDS, PICTURE, World

SLOW = replace(PICTURE, body=PICTURE.body | {"prompt": "a boat [sandbox:delay=0.5]"})


@pytest.fixture
def hasty(world: World) -> World:
    """The world with quick menders, started."""
    world.service.environment["HASTE"] = "1"
    world.service.start()
    return world


@contextmanager
def _full_disk(world: World, *, room: int) -> Iterator[None]:
    """Let no file grow beyond the database's log and so many bytes."""
    log = world.service.database.with_name("stablestudio.db-wal")
    _limit(world, log.stat().st_size + room)
    yield
    _limit(world, resource.RLIM_INFINITY)


def _limit(world: World, size: int) -> None:
    resource.prlimit(world.service.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.mark.parametrize("room", [0, 10_000, 25_000, 40_000, 55_000])
def test_a_payment_that_meets_a_full_disk_is_good_afterwards(hasty: World, room: int) -> None:
    buyer = hasty.buyer
    payment = hasty.sign()
    with _full_disk(hasty, room=room):
        for _ in range(3):
            answer = hasty.pay(PICTURE, payment)
            told: dict[str, Any] = answer.json()
            assert (answer.status_code, told.get("code")) in ((503, "store_unavailable"), (202, None), (200, None))
            assert audit(hasty.service.database, at_rest=False) == []
    deadline = time.monotonic() + 20
    while (answer := hasty.pay(PICTURE, payment)).status_code == 202 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert answer.status_code == 200, answer.text
    buyer.wait(answer.json()["jobId"])
    hasty.service.wait_for_rest()
    assert (len(buyer.jobs()), buyer.balance()) == (1, FUNDS - PICTURE.price)


@pytest.mark.parametrize("room", [0, 15_000, 30_000, 60_000])
def test_jobs_that_meet_a_full_disk_end_well_without_a_restart(hasty: World, room: int) -> None:
    buyer = hasty.buyer
    wares = [PICTURE, DOOMED, SLOW] * 3
    bought = [hasty.buy(ware) for ware in wares]
    with _full_disk(hasty, room=room):
        time.sleep(1.0)
    for job_id, ware in zip(bought, wares, strict=True):
        job = buyer.wait(job_id, seconds=20)
        assert job["status"] == ("complete" if ware.delivered else "failed")
    hasty.service.wait_for_rest()
    assert buyer.balance() == FUNDS - 6 * PICTURE.price
