"""`kill -9` around the purge: what was due is gone after the next start, the rest is there, and the books say so."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from .audit import audit, audit_files, rows
from .conftest import CLIP, PICTURE, World

_SECONDS = 30.0


@pytest.mark.parametrize("place", ["purge.marked", "purge.erased", "purge.noted"])
@pytest.mark.parametrize("by", ["service", "command"])
def test_a_purge_that_is_killed_is_finished_by_the_next(world: World, place: str, by: str) -> None:
    world.service.start()
    due, kept = world.buy(CLIP), world.buy(PICTURE)
    links = [world.buyer.wait(job_id)["result"] for job_id in (due, kept)]
    world.service.wait_for_rest()
    world.service.kill()
    _expire(world, due)
    if by == "service":
        world.service.start(failpoint=place, wait=False)
        assert world.service.wait_dead(_SECONDS) == -signal.SIGKILL
    else:
        assert _purge(world, STABLESTUDIO_FAILPOINT=place).returncode == -signal.SIGKILL
    _expect_known(world, due)
    world.service.start()
    _expect_gone(world, due)
    assert world.buyer.http.get(links[0]["videoUrl"]).json()["code"] == "asset_expired"
    assert world.buyer.http.get(links[1]["imageUrl"]).status_code == 200
    assert world.buyer.job(due)["result"]["expired"] is True
    assert audit(world.service.database) == []


def _purge(world: World, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STABLESTUDIO_")}
    command = [sys.executable, "-m", "stablestudio", "purge", "--data", str(world.service.data)]
    return subprocess.run(command, env=clean | environment, capture_output=True, text=True, timeout=120, check=False)


def _expire(world: World, job_id: str) -> None:
    with closing(sqlite3.connect(world.service.database)) as connection, connection:
        connection.execute("UPDATE assets SET expires_at = 60000 WHERE job_id = ?", (job_id,))


def _expect_known(world: World, job_id: str) -> None:
    """A row whose file is gone says so: only files that are marked may be missing."""
    found = audit_files(world.service.data)
    marked = {key for (key,) in rows(world.service.database, "SELECT key FROM assets WHERE gone_at IS NOT NULL")}
    assert all(line.rpartition(" ")[2] in marked for line in found)
    assert all(job_id in line for line in found)


def _expect_gone(world: World, job_id: str) -> None:
    """The service purges as it starts; the command, run beside it, does what is left or nothing."""
    done = _purge(world)
    assert done.returncode == 0, done.stdout + done.stderr
    told = rows(world.service.database, "SELECT gone, erased_at IS NULL FROM assets WHERE job_id = ?", job_id)
    assert told == [("expired", 0)] * 3
    folder = world.service.data / "assets" / "jobs" / job_id
    assert not [path for path in folder.glob("*") if path.is_file()]
