"""The one history of the schema, on both stores: it ends at today's tables, and it can be walked back with rows there."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.script import ScriptDirectory

from stablestudio.store import jobs, migrate, payments
from stablestudio.store.tables import metadata
from tests.doubles import NOW_MS, fail, order, payment, sell
from tests.postgres import PostgresServer

REVISIONS = [revision.revision for revision in ScriptDirectory.from_config(migrate.alembic_config("")).walk_revisions()]


@pytest.fixture(params=["sqlite", "postgres"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database with nothing in it."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.create()
    yield url
    server.drop(url)


@pytest.fixture
def upgraded(empty: str) -> str:
    assert migrate.upgrade(empty) is True
    return empty


def _inspect(url: str) -> sa.Inspector:
    return sa.inspect(migrate.bare_engine(url))


def _shape(url: str) -> dict[str, Any]:
    """Return all that can be said of our tables."""
    inspector = _inspect(url)
    return {
        table: {
            "columns": [(c["name"], str(c["type"]), c["nullable"], c["default"]) for c in inspector.get_columns(table)],
            "key": inspector.get_pk_constraint(table),
            "foreign": sorted(map(repr, inspector.get_foreign_keys(table))),
            "unique": sorted(map(repr, inspector.get_unique_constraints(table))),
            "checks": sorted(map(repr, inspector.get_check_constraints(table))),
            "indexes": sorted(_index(index) for index in inspector.get_indexes(table)),
        }
        for table in metadata.tables
    }


def _index(index: Any) -> str:
    options = {name: str(value) for name, value in index.get("dialect_options", {}).items()}
    return f"{index['name']} {index['column_names']} {index['unique']} {options}"


def test_the_history_ends_at_the_tables_of_the_code(empty: str) -> None:
    migrate.upgrade(empty)
    upgraded = _shape(empty)
    engine = migrate.bare_engine(empty)
    with engine.begin() as connection:
        metadata.drop_all(connection)
        metadata.create_all(connection)
    assert upgraded == _shape(empty)


def test_a_new_revision_would_be_empty(upgraded: str) -> None:
    assert migrate.differences(upgraded) == []


def test_a_table_that_differs_is_told(upgraded: str) -> None:
    with migrate.bare_engine(upgraded).begin() as connection:
        connection.execute(sa.text("ALTER TABLE copies DROP COLUMN sha256"))
    [difference] = migrate.differences(upgraded)
    assert "sha256" in repr(difference)


def test_the_named_head_is_the_only_and_newest_revision() -> None:
    assert ScriptDirectory.from_config(migrate.alembic_config("")).get_heads() == [migrate.HEAD]


def test_an_upgraded_database_is_left_alone(upgraded: str) -> None:
    before = _shape(upgraded)
    assert migrate.upgrade(upgraded) is False
    assert _shape(upgraded) == before


def test_the_way_back_leaves_nothing_of_ours_and_the_way_forth_works_again(upgraded: str) -> None:
    with migrate.bare_engine(upgraded).begin() as connection:
        connection.execute(sa.text("CREATE TABLE workflow_status (id TEXT)"))  # the engine's, which is not ours to drop
    command.downgrade(migrate.alembic_config(upgraded), "base")
    assert set(_inspect(upgraded).get_table_names()) == {"alembic_version", "workflow_status"}
    assert migrate.upgrade(upgraded) is True
    assert _shape(upgraded).keys() == metadata.tables.keys()


@pytest.mark.parametrize("revision", [*REVISIONS[1:], "base"])
def test_paid_orders_survive_the_way_back_and_forth(upgraded: str, revision: str) -> None:
    with migrate.bare_engine(upgraded).begin() as connection:
        _write_orders(connection)
        before = _money(connection)
    shape = _shape(upgraded)
    command.downgrade(migrate.alembic_config(upgraded), revision)
    assert migrate.current(upgraded) == (None if revision == "base" else revision)
    assert migrate.upgrade(upgraded) is True
    with migrate.bare_engine(upgraded).begin() as connection:
        assert _money(connection) == ([] if revision == "base" else before)
    assert _shape(upgraded) == shape


def _write_orders(connection: sa.Connection) -> None:
    """Write one order delivered, of which its buyer is told, one owed, one that is still being paid."""
    sell(connection, 1, now=NOW_MS, webhook_url="https://hooks.example")
    jobs.complete(connection, job_id=order(1).id, now=NOW_MS, expires_at=NOW_MS)
    fail(connection, 2)
    payments.claim(connection, order=order(3), payment=payment(3))


def _money(connection: sa.Connection) -> list[tuple[Any, ...]]:
    """Return what every revision knows of an order's money."""
    rows = connection.execute(
        sa.text("""
        SELECT o.id, o.price_micros, p.state, p.amount, p."transaction", j.state, r.state, r.amount
        FROM orders o JOIN payments p ON p.order_id = o.id
        LEFT JOIN jobs j ON j.id = o.id LEFT JOIN refunds r ON r.order_id = o.id ORDER BY o.id""")
    )
    return [tuple(row) for row in rows]


@pytest.mark.parametrize("way", ["forth", "back"])
def test_whoever_is_stopped_at_any_statement_finds_the_file_as_it_was(tmp_path: Path, way: str) -> None:
    books = tmp_path / "books.db"
    url = f"sqlite:///{books}"
    migrate.upgrade(url)
    with migrate.bare_engine(url).begin() as connection:
        _write_orders(connection)
    whole = _shape(url)
    config = migrate.alembic_config(url)
    if way == "forth":
        command.downgrade(config, "0001")
    before = _told(books)
    stops = _copy_at_each_statement(
        books, lambda: command.upgrade(config, "head") if way == "forth" else command.downgrade(config, "base")
    )
    assert len(stops) > 50
    assert [stop.name for stop in stops if _told(stop) != before] == []
    last = f"sqlite:///{stops[-1]}"
    migrate.upgrade(last)
    assert _shape(last) == whole
    with migrate.bare_engine(last).connect() as connection:
        assert len(_money(connection)) == 3
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []


def _copy_at_each_statement(books: Path, work: Callable[[], None]) -> list[Path]:
    """Return what a `kill -9` before each statement would leave on the disk: the file and its journal."""
    stops: list[Path] = []

    def copy(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.lstrip().upper().startswith(("SELECT", "PRAGMA")):
            return
        stops.append(books.with_name(f"{len(stops):03} {''.join(filter(str.isalnum, statement))[:40]}"))
        for ending in ("", "-journal", "-wal"):
            if (path := Path(f"{books}{ending}")).exists():
                shutil.copy(path, f"{stops[-1]}{ending}")

    sa.event.listen(sa.Engine, "before_cursor_execute", copy)
    try:
        work()
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", copy)
    return stops


def _told(books: Path) -> list[str]:
    with closing(sqlite3.connect(books)) as connection:
        return list(connection.iterdump())


def test_two_that_upgrade_at_once_do_so_one_after_the_other(empty: str) -> None:
    program = f"from stablestudio.store import migrate; migrate.upgrade({empty!r})"
    both = [subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [each.communicate(timeout=60)[1] for each in both]
    assert [each.returncode for each in both] == [0, 0], told
    assert _shape(empty).keys() == metadata.tables.keys()
    assert migrate.current(empty) == migrate.HEAD


def test_messages_from_before_turns_have_their_wallet_receiver_and_schedule(upgraded: str) -> None:
    command.downgrade(migrate.alembic_config(upgraded), "0008")
    with migrate.bare_engine(upgraded).begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO orders (id, wallet, model, operation, input, price_micros, created_at, revision, webhook_url)"
                " VALUES ('job_1', 'eip155:1:0x1', 'm', 'o', '{}', 1, 1, 1, 'https://Hooks.example.com:443/a')"
            )
        )
        connection.execute(
            sa.text(
                "INSERT INTO webhook_events (id, order_id, type, state, tries, occurred_at, due_at)"
                " VALUES ('msg_1', 'job_1', 'job.complete', 'pending', 3, 1, 1)"
            )
        )
    assert migrate.upgrade(upgraded) is True
    with migrate.bare_engine(upgraded).connect() as connection:
        question = "SELECT wallet, receiver, scheduled, asked, later_at FROM webhook_events"
        told = [tuple(row) for row in connection.execute(sa.text(question))]
    assert told == [("eip155:1:0x1", "hooks.example.com", 3, None, None)]
