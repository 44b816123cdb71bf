"""Leases: one writer among processes, in turn, for a while; a killed one holds the others up no longer than that."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from stablestudio.payments import stored
from stablestudio.payments.evm.gas import NotSent
from stablestudio.payments.stored import StoredLease
from stablestudio.store import leases
from stablestudio.store.database import Database
from tests.doubles import NOW_MS, ManualClock, eventually

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[3]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def rows(database: Database) -> list[tuple[str, str]]:
    return [(name, holder) for name, holder in database.fetch("SELECT name, holder FROM leases ORDER BY name")]


def _lease(database: Database, clock: ManualClock, holder: str = "one", *, lasts: float = 30.0) -> StoredLease:
    return StoredLease(database, "gas", holder, clock, lasts=lasts)


async def _takes(database: Database, holder: str, now: int, *, lasts: int = 1000, waits: int = 100) -> bool:
    return await database.write(
        lambda connection: leases.take(connection, name="gas", holder=holder, now=now, lasts=lasts, waits=waits)
    )


async def test_a_lease_is_one_holders_until_it_ends(database: Database) -> None:
    assert await _takes(database, "a", NOW_MS)
    assert not await _takes(database, "b", NOW_MS + 999)
    assert await _takes(database, "b", NOW_MS + 1000)
    assert not await _takes(database, "a", NOW_MS + 1000), "nobody gets back what has ended meanwhile"


async def test_only_the_holder_gives_a_lease_back(database: Database) -> None:
    async def gives(holder: str) -> bool:
        return await database.write(lambda connection: leases.give_back(connection, name="gas", holder=holder))

    await _takes(database, "a", NOW_MS)
    assert not await gives("b")
    assert not await _takes(database, "b", NOW_MS)
    assert await gives("a")
    assert await _takes(database, "b", NOW_MS)
    assert not await gives("a"), "a late word of the last holder takes nothing from the next"
    assert not await _takes(database, "c", NOW_MS)


async def test_who_waits_goes_before_who_comes_later(database: Database) -> None:
    await _takes(database, "a", NOW_MS)
    assert not await _takes(database, "b", NOW_MS)
    await database.write(lambda connection: leases.give_back(connection, name="gas", holder="a"))
    assert not await _takes(database, "c", NOW_MS + 1)
    assert await _takes(database, "b", NOW_MS + 1)
    assert rows(database) == [("gas", "b")], "and its place in the queue is free"


async def test_a_place_in_the_queue_ends_unless_it_is_asked_for_again(database: Database) -> None:
    await _takes(database, "a", NOW_MS, lasts=200)
    for passed in (0, 80, 160):
        assert not await _takes(database, "asks", NOW_MS + passed, waits=100)
    assert not await _takes(database, "late", NOW_MS + 259), "the place was renewed"
    assert await _takes(database, "late", NOW_MS + 260), "who died in the queue is not waited for"


async def test_leases_of_other_names_are_apart(database: Database) -> None:
    def take(connection: sa.Connection, name: str) -> bool:
        return leases.take(connection, name=name, holder="a", now=NOW_MS, lasts=1000, waits=100)

    assert await database.write(lambda connection: [take(connection, name) for name in ("x", "y", "x")]) == [
        True,
        True,
        False,
    ]


async def test_inside_it_holds_and_afterwards_nothing_is_left(database: Database, clock: ManualClock) -> None:
    async with _lease(database, clock).hold() as holds:
        assert holds()
        [(name, holder)] = rows(database)
        assert (name, holder.partition("/")[0]) == ("gas", "one")
    assert rows(database) == []


async def test_a_fault_inside_gives_the_lease_back(database: Database, clock: ManualClock) -> None:
    with pytest.raises(RuntimeError, match="inside"):
        async with _lease(database, clock).hold():
            raise RuntimeError("inside")
    assert rows(database) == []


async def test_tasks_of_one_process_have_one_writer_and_keep_their_order(
    database: Database, clock: ManualClock
) -> None:
    lease, seen = _lease(database, clock), list[int]()

    async def turn(number: int) -> None:
        async with lease.hold():
            seen.append(number)
            await asyncio.sleep(0)
            seen.append(number)

    await asyncio.gather(*(turn(number) for number in range(20)))
    assert seen == [number for number in range(20) for _ in "io"]


async def test_two_leases_with_one_holders_name_are_still_two(database: Database, clock: ManualClock) -> None:
    async with _lease(database, clock, "same").hold():
        late = asyncio.create_task(_enter(_lease(database, clock, "same")))
        await asyncio.sleep(0.1)
        assert not late.done()
    await late


async def _enter(lease: StoredLease) -> None:
    async with lease.hold() as holds:
        assert holds()


async def test_waiting_has_an_end(database: Database, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "_WAIT_SECONDS", 0.1)
    mine = _lease(database, clock)
    async with _lease(database, clock, "other").hold():
        waiting = await asyncio.gather(*(_enter(mine) for _ in range(3)), return_exceptions=True)
        assert [str(each) for each in waiting] == 3 * ["gas_key_busy"]
        assert all(isinstance(each, NotSent) for each in waiting)
    await _enter(mine)
    assert rows(database) == []


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.01, 0.05])
async def test_who_gives_up_waiting_leaves_nothing_behind(
    database: Database, clock: ManualClock, seconds: float
) -> None:
    """A taking that was on its way when its asker left would keep everybody out until it ends."""
    lease = _lease(database, clock)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds), lease.hold():
            await asyncio.sleep(60)
    await asyncio.wait_for(_enter(lease), 5)
    assert rows(database) == []


async def test_what_takes_too_long_is_cut_off_before_the_lease_ends(database: Database, clock: ManualClock) -> None:
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        async with _lease(database, clock, lasts=0.6).hold():
            await asyncio.sleep(60)
    assert 0.3 < time.monotonic() - started < 0.6
    assert rows(database) == []


@pytest.mark.parametrize(("passed", "told"), [(0, True), (19.9, True), (20, False), (31, False), (-5, False)])
async def test_a_frozen_writer_sees_that_its_time_is_over(
    database: Database, clock: ManualClock, passed: float, *, told: bool
) -> None:
    async with _lease(database, clock).hold() as holds:
        clock.advance(passed)
        assert holds() is told


async def test_a_database_that_fails_at_the_end_does_not_undo_what_was_sent(
    database: Database, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> bool:
        raise sa.exc.OperationalError("", {}, Exception("disk is full"))

    async with _lease(database, clock).hold():
        monkeypatch.setattr(leases, "give_back", broken)
    assert [record.message for record in caplog.records] == ["lease_not_given_back"]


@contextmanager
def _processes(
    database: Database, folder: Path, *names: str, turns: int, lasts: float
) -> Iterator[list[subprocess.Popen[bytes]]]:
    (folder / "count").write_text("0")
    command = [sys.executable, "-m", "tests.unit.store.lease_user", database.url, str(folder)]
    with ExitStack() as stack:
        started = []
        for name in names:
            process = subprocess.Popen([*command, name, str(turns), str(lasts)], cwd=ROOT)
            stack.callback(process.wait)
            stack.callback(process.kill)
            started.append(process)
        yield started


def _log(folder: Path) -> list[str]:
    file = folder / "log"
    return file.read_text().splitlines() if file.exists() else []


async def test_two_processes_write_in_turn(database: Database, tmp_path: Path) -> None:
    turns = 25
    with _processes(database, tmp_path, "one", "two", turns=turns, lasts=30.0) as processes:
        await eventually(lambda: len(_log(tmp_path)) == 2)
        (tmp_path / "go").touch()
        assert [await asyncio.to_thread(process.wait, 60) for process in processes] == [0, 0]
    lines = _log(tmp_path)[2:]
    assert (tmp_path / "count").read_text() == str(2 * turns)
    order = [line.split()[0] for line in lines[::2]]
    assert lines == [f"{name} {way}" for name in order for way in ("in", "out")], "nobody enters before the other left"
    # Between the moment when both are there and the moment when one is through, nobody is passed over again and again.
    first, last = order.index, {name: len(order) - 1 - order[::-1].index(name) for name in ("one", "two")}
    contended = order[max(first("one"), first("two")) : min(last.values())]
    assert len(contended) >= turns
    assert max(len(list(run)) for _, run in itertools.groupby(contended)) <= turns // 2


async def test_after_a_kill_the_lease_passes_on_when_it_ends_and_not_before(database: Database, tmp_path: Path) -> None:
    lasts = 1.5
    with _processes(database, tmp_path, "doomed", turns=1, lasts=lasts) as [doomed]:
        (tmp_path / "go").touch()
        await eventually(lambda: "doomed in" in _log(tmp_path))
        entered = time.monotonic()
        doomed.kill()
        doomed.wait()
    with _processes(database, tmp_path, "heir", turns=2, lasts=lasts) as [heir]:
        await eventually(lambda: "heir in" in _log(tmp_path))
        waited = time.monotonic() - entered
        assert await asyncio.to_thread(heir.wait, 30) == 0
    assert lasts - 0.3 < waited < lasts + 30
    assert (tmp_path / "count").read_text() == "2"
    assert rows(database) == []
