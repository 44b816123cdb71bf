"""Estimates: from the history where there is enough of it, else from the catalog, and asked for once a minute."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stablestudio.catalog import OFFERINGS, find
from stablestudio.server.eta import Etas, estimate
from stablestudio.store import history, migrate
from stablestudio.store.database import Database, connect
from tests.doubles import ManualClock

VEO = find("veo-3.1", "generate")
assert VEO is not None


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    migrate.upgrade(url)
    database = connect(url)
    yield database
    database.close()


async def finish(
    database: Database, number: int, *, took: int, type_: str = "veo-3.1", state: str = "complete"
) -> None:
    order = (f"job_{number:05d}", "eip155:0x1", "veo-3.1", "generate", "{}", 1, 0, 0)
    job = (order[0], "eip155:0x1", type_, state, 100, number, number, number + took)
    await database.write(
        lambda connection: (
            connection.exec_driver_sql(
                "INSERT INTO orders (id, wallet, model, operation, input, price_micros, revision, created_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                order,
            ),
            connection.exec_driver_sql(
                "INSERT INTO jobs (id, wallet, type, state, progress, created_at, updated_at, finished_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                job,
            ),
        )
    )


def test_the_catalog_speaks_until_there_is_history() -> None:
    assert VEO is not None
    assert estimate(VEO, [1, 1, 1, 1]).body() == {"seconds": 90.0, "p90Seconds": 120.0, "basis": "catalog", "jobs": 0}


def test_history_is_the_median_and_what_nine_of_ten_stay_below() -> None:
    assert VEO is not None
    took = [*range(1000, 11_001, 1000)]  # 1 to 11 seconds
    assert estimate(VEO, took).body() == {"seconds": 6.0, "p90Seconds": 10.0, "basis": "history", "jobs": 11}


@pytest.mark.anyio
async def test_only_the_last_complete_jobs_of_the_offering_count(database: Database) -> None:
    for number in range(10):
        await finish(database, number, took=1000 * number)
    await finish(database, 90, took=99_000, state="failed")
    await finish(database, 91, took=99_000, type_="sora-2")

    took = await database.read(lambda connection: history.durations(connection, ["veo-3.1", "grok-edit"], last=3))

    assert took == {"veo-3.1": [9000, 8000, 7000], "grok-edit": []}


@pytest.mark.anyio
async def test_the_question_is_one_short_look_at_an_index(database: Database) -> None:
    asked = history.LAST.params(type="veo-3.1", last=100).compile(
        dialect=database.engine.dialect, compile_kwargs={"literal_binds": True}
    )
    plan = await database.read(
        lambda connection: [str(row) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {asked}")]
    )
    assert "USING INDEX ix_jobs_complete" in "".join(plan)
    assert "TEMP B-TREE" not in "".join(plan)


@pytest.mark.anyio
async def test_estimates_are_made_once_a_minute(database: Database) -> None:
    clock = ManualClock()
    etas = Etas(database, clock=clock)
    assert set(await etas.now()) == {offering.key for offering in OFFERINGS}
    for number in range(6):
        await finish(database, number, took=2000)

    assert (await etas.now())["veo-3.1/generate"].jobs == 0
    clock.advance(60)
    assert (await etas.now())["veo-3.1/generate"].body()["seconds"] == 2.0
