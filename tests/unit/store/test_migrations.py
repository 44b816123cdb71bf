"""The one history of the schema: it ends at today's tables, and it can be walked back."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from stablestudio.store import migrate
from stablestudio.store.tables import metadata


@pytest.fixture
def upgraded(tmp_path: Path) -> Path:
    path = tmp_path / "upgraded.db"
    assert migrate.upgrade(path) is True
    return path


def _shape(path: Path) -> dict[str, Any]:
    """Return all that can be said of our tables."""
    engine = sa.create_engine(f"sqlite:///{path}")
    inspector = sa.inspect(engine)
    shape = {
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
    engine.dispose()
    return shape


def _index(index: Any) -> str:
    where = index.get("dialect_options", {}).get("sqlite_where")
    return f"{index['name']} {index['column_names']} {index['unique']} {where}"


def test_the_history_ends_at_the_tables_of_the_code(upgraded: Path, tmp_path: Path) -> None:
    made = tmp_path / "made.db"
    engine = sa.create_engine(f"sqlite:///{made}")
    metadata.create_all(engine)
    engine.dispose()
    assert _shape(upgraded) == _shape(made)


def test_a_new_revision_would_be_empty(upgraded: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{upgraded}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_the_named_head_is_the_only_and_newest_revision(tmp_path: Path) -> None:
    scripts = ScriptDirectory.from_config(migrate.alembic_config(tmp_path / "x.db"))
    assert scripts.get_heads() == [migrate.HEAD]


def test_an_upgraded_database_is_left_alone(upgraded: Path) -> None:
    before = upgraded.read_bytes()
    assert migrate.upgrade(upgraded) is False
    assert upgraded.read_bytes() == before


def test_the_way_back_leaves_nothing_of_ours_and_the_way_forth_works_again(upgraded: Path) -> None:
    with closing(sqlite3.connect(upgraded)) as connection:
        connection.execute("CREATE TABLE workflow_status (id TEXT)")  # the engine's own, which is not ours to drop
    command.downgrade(migrate.alembic_config(upgraded), "base")
    with closing(sqlite3.connect(upgraded)) as connection:
        names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert names == {"alembic_version", "workflow_status"}
    assert migrate.upgrade(upgraded) is True
    assert _shape(upgraded).keys() == metadata.tables.keys()


def test_messages_from_before_turns_have_their_wallet_receiver_and_schedule(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    command.upgrade(migrate.alembic_config(path), "0007")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "INSERT INTO orders (id, wallet, model, operation, input, price_micros, created_at, revision, webhook_url)"
            " VALUES ('job_1', 'eip155:1:0x1', 'm', 'o', '{}', 1, 1, 1, 'https://Hooks.example.com:443/a')"
        )
        connection.execute(
            "INSERT INTO webhook_events (id, order_id, type, state, tries, occurred_at, due_at)"
            " VALUES ('msg_1', 'job_1', 'job.complete', 'pending', 3, 1, 1)"
        )
        connection.commit()
    assert migrate.upgrade(path) is True
    with closing(sqlite3.connect(path)) as connection:
        told = connection.execute("SELECT wallet, receiver, scheduled, asked, later_at FROM webhook_events").fetchall()
    assert told == [("eip155:1:0x1", "hooks.example.com", 3, None, None)]
