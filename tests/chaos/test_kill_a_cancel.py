"""`kill -9` in the middle of a cancel: the job has ended and its money is back after the next start."""

from __future__ import annotations

import signal
import time
from contextlib import suppress

import httpx2
import pytest

from stablestudio.protocols import siwx

from .audit import audit_files
from .conftest import FUNDS, PICTURE, Ware, World

_SECONDS = 60.0
_SLOW = Ware(path=PICTURE.path, body=PICTURE.body | {"prompt": "a boat [sandbox:delay=3600]"}, price=PICTURE.price)


@pytest.mark.parametrize("place", ["cancel.confirmed", "cancel.ended"])
def test_a_cancel_that_a_kill_cut_off_is_paid_back(world: World, place: str) -> None:
    world.service.start(failpoint=place)
    job_id = world.buy(_SLOW)
    _wait_loading(world, job_id)
    path = f"/api/jobs/{job_id}/cancel"
    extension = world.buyer.http.post(path).json()["extensions"]["sign-in-with-x"]
    proof = siwx.sign(extension, world.buyer.key, origin=world.buyer.url)
    with suppress(httpx2.TransportError):
        world.buyer.http.post(path, headers={"SIGN-IN-WITH-X": proof})
    assert world.service.wait_dead(_SECONDS) == -signal.SIGKILL
    world.service.start()
    job = world.buyer.wait(job_id, seconds=_SECONDS)
    assert (job["status"], job["payment"]["state"]) == ("failed", "refunded")
    assert world.buyer.balance() == FUNDS
    world.service.wait_for_rest()
    assert audit_files(world.service.data) == []


def _wait_loading(world: World, job_id: str) -> None:
    deadline = time.monotonic() + _SECONDS
    while world.buyer.job(job_id)["status"] != "loading":
        assert time.monotonic() < deadline
        time.sleep(0.05)
