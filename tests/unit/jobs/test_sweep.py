"""The sweep: who is stranded is set going again, who is being worked on is left alone."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
import sqlalchemy as sa

from stablestudio.jobs.engine import EngineState
from stablestudio.jobs.sweep import Sweep
from stablestudio.store import jobs
from stablestudio.store.database import Database
from tests.doubles import FakeEngine, ManualClock, eventually, fail, sell

pytestmark = pytest.mark.anyio

_LOOKS = 3  # a sweep may want to see a job twice before it believes it


class FakeMaker:
    """Writes down which jobs it was told to fail."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.kept: set[str] = set()

    async def is_kept(self, job_id: str) -> bool:
        return job_id in self.kept

    async def fail(self, job_id: str, *, code: str, message: str) -> None:
        self.failed.append(job_id)


def _sweep(database: Database, engine: FakeEngine, clock: ManualClock, maker: FakeMaker | None = None) -> Sweep:
    return Sweep(database, engine=engine, maker=maker or FakeMaker(), clock=clock)  # type: ignore[arg-type]


async def test_a_stranded_job_is_given_up_after_a_day_and_refunded(database: Database, clock: ManualClock) -> None:
    engine, maker = FakeEngine(), FakeMaker()
    job_id = await database.write(lambda connection: sell(connection, 1))
    clock.advance(24 * 3600)
    await _sweep(database, engine, clock, maker).work_once()
    assert (maker.failed, engine.restarted) == ([job_id], [])


async def test_a_stranded_job_whose_result_is_kept_is_never_given_up(database: Database, clock: ManualClock) -> None:
    engine, maker = FakeEngine(), FakeMaker()
    maker.kept.add(job_id := await database.write(lambda connection: sell(connection, 1)))
    clock.advance(24 * 3600)
    await _sweep(database, engine, clock, maker).work_once()
    assert (maker.failed, engine.restarted) == ([], [job_id])


async def _look(database: Database, engine: FakeEngine, clock: ManualClock, *, times: int = _LOOKS) -> None:
    sweep = _sweep(database, engine, clock)
    for _ in range(times):
        await sweep.work_once()


async def test_only_old_unfinished_jobs_that_the_engine_dropped_are_restarted(
    database: Database, clock: ManualClock
) -> None:
    engine = FakeEngine()
    dropped, known, done, failed = [await database.write(partial(sell, number=number)) for number in range(1, 5)]
    engine.known = {dropped: EngineState.ENDED, known: EngineState.RUNNING, done: EngineState.ENDED}
    await database.write(lambda connection: jobs.complete(connection, job_id=done, now=clock.now_ms()))
    await database.write(
        lambda connection: jobs.fail(connection, job_id=failed, code="x", message="x", now=clock.now_ms())
    )
    await _look(database, engine, clock)
    assert engine.restarted == []
    clock.advance(61)
    young = await database.write(lambda connection: sell(connection, 9, now=clock.now_ms()))
    await _look(database, engine, clock)
    assert set(engine.restarted) == {dropped}
    clock.advance(61)
    await _look(database, engine, clock)
    assert set(engine.restarted) == {dropped, young}


async def test_a_stranded_job_is_found_behind_many_older_ones_that_are_well(
    database: Database, clock: ManualClock
) -> None:
    engine, healthy = FakeEngine(), 300

    def fill(connection: sa.Connection) -> list[str]:
        return [sell(connection, number, now=clock.now_ms()) for number in range(1, healthy + 1)]

    well = await database.write(fill)
    engine.known = dict.fromkeys(well, EngineState.RUNNING)
    clock.advance(1)
    stranded = await database.write(lambda connection: sell(connection, healthy + 1, now=clock.now_ms()))
    clock.advance(61)
    await _look(database, engine, clock)
    assert engine.restarted == [stranded]


async def test_a_job_that_looked_lost_for_a_moment_is_left_alone(database: Database, clock: ManualClock) -> None:
    """Between the queue and the first step of a workflow, and after its last, the engine and the process disagree."""
    engine = FakeEngine()
    job_id = await database.write(lambda connection: sell(connection, 1))
    clock.advance(61)
    sweep = _sweep(database, engine, clock)
    for state in (EngineState.LOST, EngineState.RUNNING, EngineState.LOST, EngineState.RUNNING):
        engine.known = {job_id: state}
        await sweep.work_once()
    assert engine.restarted == []
    engine.known = {job_id: EngineState.LOST}
    for _ in range(_LOOKS):
        await sweep.work_once()
    assert set(engine.restarted) == {job_id}


async def test_a_job_that_cannot_be_restarted_holds_no_other_up(database: Database, clock: ManualClock) -> None:
    engine = FakeEngine()
    stuck, other = [await database.write(partial(sell, number=number)) for number in (1, 2)]
    engine.faults[stuck] = RuntimeError("the engine does not like it")
    clock.advance(61)
    sweep = _sweep(database, engine, clock)
    for _ in range(_LOOKS):
        await asyncio.gather(sweep.work_once(), return_exceptions=True)
    assert set(engine.restarted) == {other}


async def test_a_finished_job_is_nobodys_business(database: Database, clock: ManualClock) -> None:
    engine = FakeEngine()
    await database.write(lambda connection: fail(connection, 1))
    clock.advance(10_000)
    await _look(database, engine, clock)
    assert engine.restarted == []


async def test_what_the_engine_dropped_is_taken_up_whatever_keeps_the_sweep_from_its_work(
    database: Database, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FakeEngine()
    engine.dropped = ["job_1"]
    job_id = await database.write(lambda connection: sell(connection, 1))
    clock.advance(120)

    async def fault(_: object) -> dict[str, EngineState]:
        raise ConnectionResetError(job_id)

    monkeypatch.setattr(engine, "states", fault)
    sweep = asyncio.ensure_future(_sweep(database, engine, clock).run())

    async def taken() -> bool:
        return engine.dropped == []

    await eventually(taken)
    sweep.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sweep
