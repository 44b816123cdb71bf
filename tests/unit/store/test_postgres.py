"""What PostgreSQL adds to the rules of every database: transactions side by side, retries, and servers that go away."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from functools import partial

import pytest
import sqlalchemy as sa

from stablestudio.store import migrate
from stablestudio.store.database import Database, connect
from stablestudio.store.place import Place
from stablestudio.store.postgres import PostgresDatabase
from stablestudio.store.tables import used_nonces
from tests.doubles import only_postgres
from tests.postgres import PostgresServer, require_binaries

pytestmark = [pytest.mark.anyio, only_postgres]


def note(connection: sa.Connection, text: str) -> None:
    connection.execute(sa.insert(used_nonces).values(nonce=text, expires_at=0))


def touch(connection: sa.Connection, text: str) -> None:
    mine = sa.update(used_nonces).where(used_nonces.c.nonce == text)
    connection.execute(mine.values(expires_at=used_nonces.c.expires_at + 1))


def notes(database: Database) -> list[tuple[str, int]]:
    return database.fetch("SELECT nonce, expires_at FROM used_nonces ORDER BY nonce")


async def test_two_that_wait_for_each_other_both_come_through(database: Database) -> None:
    await database.write(lambda connection: note(connection, "a"))
    await database.write(lambda connection: note(connection, "b"))
    both = threading.Barrier(2, timeout=30)
    runs: list[str] = []

    def work(connection: sa.Connection, names: str) -> None:
        runs.append(names)
        touch(connection, names[0])
        if len(runs) <= 2:
            both.wait()
        touch(connection, names[1])

    await asyncio.gather(*(database.write(partial(work, names=names)) for names in ("ab", "ba")))
    assert len(runs) == 3, "one of them was undone, and ran once more"
    assert notes(database) == [("a", 2), ("b", 2)]


async def test_what_a_lost_connection_undid_is_done_again(database: Database) -> None:
    runs = 0

    def work(connection: sa.Connection) -> None:
        nonlocal runs
        runs += 1
        note(connection, "a")
        if runs == 1:
            connection.execute(sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))

    await database.write(work)
    assert (runs, notes(database)) == (2, [("a", 0)])


async def test_a_fault_that_was_swallowed_is_not_committed_as_nothing(database: Database) -> None:
    """PostgreSQL answers COMMIT with ROLLBACK there, and the driver says nothing."""

    def work(connection: sa.Connection) -> None:
        note(connection, "a")
        with pytest.raises(sa.exc.IntegrityError):
            note(connection, "a")

    with pytest.raises(RuntimeError, match="outside of a savepoint"):
        await database.write(work)
    assert notes(database) == []


async def test_a_caller_that_leaves_writes_nothing_before_its_last_write_has_ended(database: Database) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(connection: sa.Connection) -> None:
        begun.set()
        assert go_on.wait(30)
        note(connection, "a")

    async def caller() -> None:
        try:
            await database.write(slow)
        finally:
            await database.write(lambda connection: touch(connection, "a"))

    leaving = asyncio.create_task(caller())
    await asyncio.to_thread(begun.wait, 30)
    leaving.cancel()
    await asyncio.sleep(0.1)
    go_on.set()
    await asyncio.wait((leaving,))
    assert leaving.cancelled()
    assert notes(database) == [("a", 1)]


async def test_text_that_postgresql_cannot_hold_is_kept_with_a_sign_in_its_place(database: Database) -> None:
    await database.write(lambda connection: note(connection, "a\0b"))
    assert notes(database) == [("a\ufffdb", 0)]
    assert database.fetch("SELECT 1 FROM used_nonces WHERE nonce = ?", ("x\0",)) == []


async def test_readers_see_one_moment(database: Database) -> None:
    count = sa.select(sa.func.count()).select_from(used_nonces)
    looked, written = threading.Event(), threading.Event()

    def look_twice(connection: sa.Connection) -> tuple[object, object]:
        first = connection.execute(count).scalar()
        looked.set()
        assert written.wait(30)
        return first, connection.execute(count).scalar()

    reading = asyncio.create_task(database.read(look_twice))
    await asyncio.to_thread(looked.wait, 30)
    await database.write(lambda connection: note(connection, "a"))
    written.set()
    assert await reading == (0, 0)


async def test_a_place_is_one_sessions_until_it_ends(store_url: str) -> None:
    one, two, other = Place(store_url, "worker"), Place(store_url, "worker"), Place(store_url, "other")
    assert [place.take() for place in (one, two, other)] == [True, False, True]
    assert [place.keep() for place in (one, other)] == [True, True]
    one.give_back()
    assert two.take()
    assert (one.taken, two.taken) == (False, True)
    for place in (two, other):
        place.give_back()


async def test_a_place_whose_session_was_cut_off_is_taken_again_or_lost(store_url: str) -> None:
    one, two = Place(store_url, "worker"), Place(store_url, "worker")
    assert one.take()
    _cut_off_all_others(store_url)
    assert one.keep(), "nobody took it meanwhile"
    _cut_off_all_others(store_url)
    assert two.take()
    assert not one.keep()
    two.give_back()


def _cut_off_all_others(url: str) -> None:
    with migrate.bare_engine(url).connect() as connection:
        others = "datname = current_database() AND pid <> pg_backend_pid()"
        connection.execute(sa.text(f"SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE {others}"))


@pytest.fixture
def mortal() -> Iterator[PostgresServer]:
    """A server that may be killed."""
    with PostgresServer(require_binaries()) as server:
        yield server


async def test_after_a_restart_of_the_server_everything_goes_on(mortal: PostgresServer, store_url: str) -> None:
    url = mortal.create_upgraded()
    database = connect(url)
    assert isinstance(database, PostgresDatabase)
    await database.write(lambda connection: note(connection, "a"))
    assert await database.read(lambda connection: connection.execute(sa.select(used_nonces)).all()) == [("a", 0)]
    assert notes(database) == [("a", 0)]
    mortal.stop()
    with pytest.raises(sa.exc.OperationalError):
        await database.write(lambda connection: note(connection, "b"))
    mortal.start()
    assert notes(database) == [("a", 0)]
    await database.write(lambda connection: note(connection, "c"))
    assert len(await database.read(lambda connection: connection.execute(sa.select(used_nonces)).all())) == 2
    database.close()


async def test_a_server_that_cannot_be_reached_is_the_same_fault_to_whoever_fetches(
    postgres: PostgresServer, store_url: str
) -> None:
    url = postgres.create_upgraded()
    database = connect(url)
    try:
        assert database.fetch("SELECT 1") == [(1,)]
        postgres.drop(url)
        with pytest.raises(sa.exc.OperationalError):
            database.fetch("SELECT 1")
    finally:
        database.close()
