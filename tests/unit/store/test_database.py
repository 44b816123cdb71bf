"""The database: commits in groups, callers apart from each other, and no answer before the commit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from stablestudio.store import migrate
from stablestudio.store.database import Database, connect
from stablestudio.store.tables import jobs, used_nonces
from tests.doubles import only_sqlite

pytestmark = pytest.mark.anyio

Work = Callable[[sa.Connection], Any]


class Broken(Exception):
    """What a caller's own work raises."""


def note(text: str) -> Work:
    def work(connection: sa.Connection) -> str:
        connection.execute(sa.insert(used_nonces).values(nonce=text, expires_at=0))
        return text

    return work


def note_and_break(text: str) -> Work:
    def work(connection: sa.Connection) -> None:
        note(text)(connection)
        raise Broken(text)

    return work


def notes(database: Database) -> list[str]:
    """Look from outside: what another process would see."""
    engine = migrate.bare_engine(database.url)
    with engine.connect() as connection:
        return list(connection.scalars(sa.select(used_nonces.c.nonce)))


@contextmanager
def _held_writer(database: Database) -> Iterator[None]:
    """Keep the writer busy, so that what is written meanwhile becomes one group."""
    busy, free = threading.Event(), threading.Event()

    def hold(_: sa.Connection) -> None:
        busy.set()
        assert free.wait(10)

    held = asyncio.ensure_future(database.write(hold))
    held.add_done_callback(lambda done: done.exception())
    try:
        yield
    finally:
        free.set()


async def _group(database: Database, *works: Work) -> list[Any]:
    """Run these works in one commit; return results and exceptions."""
    with _held_writer(database):
        pending = [asyncio.ensure_future(database.write(work)) for work in works]
        await asyncio.sleep(0.05)
    return list(await asyncio.gather(*pending, return_exceptions=True))


async def test_a_result_is_there_only_after_its_commit(database: Database) -> None:
    seen_inside: list[list[str]] = []

    def work(connection: sa.Connection) -> str:
        note("a")(connection)
        seen_inside.append(notes(database))
        return "done"

    assert await database.write(work) == "done"
    assert (seen_inside, notes(database)) == ([[]], ["a"])


@only_sqlite
async def test_a_group_shares_one_commit_and_nobody_is_answered_before_it(database: Database) -> None:
    inside: list[list[str]] = []

    def look(_: sa.Connection) -> None:
        inside.append(notes(database))

    assert await _group(database, note("a"), note("b"), look) == ["a", "b", None]
    assert (inside, notes(database)) == ([[]], ["a", "b"])


@only_sqlite
async def test_a_failing_caller_of_a_group_undoes_its_own_work_alone(database: Database) -> None:
    results = await _group(database, note("a"), note_and_break("b"), note("c"), note("a"), note("d"))
    assert [type(result) for result in results] == [str, Broken, str, sa.exc.IntegrityError, str]
    assert notes(database) == ["a", "c", "d"]


async def test_a_failing_caller_alone_undoes_its_work(database: Database) -> None:
    with pytest.raises(Broken):
        await database.write(note_and_break("a"))
    assert notes(database) == []
    assert await database.write(note("a")) == "a"


@pytest.mark.parametrize("grouped", [False, True])
async def test_a_nested_transaction_that_fails_keeps_the_rest(database: Database, *, grouped: bool) -> None:
    def work(connection: sa.Connection) -> str:
        note("kept")(connection)
        with pytest.raises(sa.exc.IntegrityError), connection.begin_nested():
            note("kept")(connection)
        note("later")(connection)
        return "done"

    results = await _group(database, work, note("x")) if grouped else [await database.write(work)]
    assert results[0] == "done"
    assert {"kept", "later"} <= set(notes(database))


def _break_the_commit(connection: sa.Connection) -> None:
    """Insert a job without an order and have it found at the commit only."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
    else:
        connection.exec_driver_sql("ALTER TABLE jobs ALTER CONSTRAINT fk_jobs_id DEFERRABLE INITIALLY DEFERRED")
    orphan = {
        "id": "x",
        "wallet": "w",
        "type": "t",
        "state": "pending",
        "progress": 0,
        "created_at": 0,
        "updated_at": 0,
    }
    connection.execute(sa.insert(jobs), orphan)


@only_sqlite
async def test_a_failing_commit_fails_everybody_and_the_writer_goes_on(database: Database) -> None:
    results = await _group(database, note("a"), _break_the_commit, note("b"))
    assert all(isinstance(result, sa.exc.SQLAlchemyError) for result in results), results
    assert notes(database) == []
    assert await database.write(note("c")) == "c"
    assert notes(database) == ["c"]


async def test_a_failing_commit_of_one_fails_it(database: Database) -> None:
    with pytest.raises(sa.exc.SQLAlchemyError):
        await database.write(_break_the_commit)
    assert await database.write(note("a")) == "a"


@only_sqlite
async def test_writes_happen_in_the_order_of_their_calls(database: Database) -> None:
    wanted = [f"{number:03}" for number in range(200)]
    await asyncio.gather(*(database.write(note(text)) for text in wanted))
    assert notes(database) == wanted


@only_sqlite
async def test_a_caller_that_left_hurts_nobody_and_its_work_stands(database: Database) -> None:
    with _held_writer(database):
        leaver = asyncio.ensure_future(database.write(note("left")))
        stayer = asyncio.ensure_future(database.write(note("stayed")))
        await asyncio.sleep(0.05)
        leaver.cancel()
    assert await stayer == "stayed"
    assert notes(database) == ["left", "stayed"]
    assert leaver.cancelled()


async def test_callers_of_several_loops_each_get_their_answers(database: Database) -> None:
    with _held_writer(database):
        elsewhere = asyncio.ensure_future(asyncio.to_thread(asyncio.run, database.write(note("there"))))
        here = asyncio.ensure_future(database.write(note("here")))
        await asyncio.sleep(0.1)
    assert (await elsewhere, await here) == ("there", "here")


async def test_reading_does_not_wait_for_the_writer(database: Database) -> None:
    await database.write(note("a"))
    count = sa.select(sa.func.count()).select_from(used_nonces)
    with _held_writer(database):
        await asyncio.sleep(0.02)
        seen = await asyncio.wait_for(database.read(lambda connection: connection.execute(count).scalar()), 5)
        fetched = database.fetch("SELECT count(*) FROM used_nonces")
    assert (seen, fetched) == (1, [(1,)])


async def test_readers_see_what_was_just_committed(database: Database) -> None:
    for number in range(20):
        await database.write(note(str(number)))
        assert database.fetch("SELECT count(*) FROM used_nonces") == [(number + 1,)]


async def test_the_polling_reader_cannot_write(database: Database) -> None:
    with pytest.raises(Exception, match=r"read-?only"):
        database.fetch("INSERT INTO used_nonces VALUES ('a', 0)")


@only_sqlite
async def test_what_is_acknowledged_survives_a_power_cut(database: Database) -> None:
    def settings(connection: sa.Connection) -> list[Any]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

    full = 2
    assert await database.write(settings) == ["wal", full, 1]


async def test_closing_finishes_what_is_queued(store_url: str) -> None:
    database = connect(store_url)
    pending = [asyncio.ensure_future(database.write(note(str(number)))) for number in range(100)]
    await asyncio.sleep(0)
    await asyncio.to_thread(database.close)
    assert await asyncio.gather(*pending) == [str(number) for number in range(100)]
    assert len(notes(database)) == 100
