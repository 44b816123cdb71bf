"""Bring a database to today's schema by its one Alembic history."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import sqlalchemy as sa

from stablestudio.store import restoring
from stablestudio.store.database import is_file
from stablestudio.store.tables import metadata

# The newest revision in migrations/versions; a test compares. Alembic is imported only where there is work to do.
HEAD = "0013"
# Of PostgreSQL's advisory lock: two that upgrade at once do so one after the other.
LOCK = 5_402_402


def upgrade(url: str, *, restoring_it: bool = False) -> bool:
    """Upgrade the database if it is behind, all the way or not at all; return whether anything was done.

    Raises `RestoreUnfinished`, except for who is `restoring_it`.
    """
    if current(url, restoring_it=restoring_it) == HEAD:
        return False
    from alembic import command  # noqa: PLC0415 - 0.7 s of import that most starts do not need

    command.upgrade(alembic_config(url), "head")
    return True


def current(url: str, *, restoring_it: bool = False) -> str | None:
    """Return the revision of a database's schema, None where it has none of ours; raise `RestoreUnfinished`."""
    engine = bare_engine(url)
    try:
        with engine.connect() as connection:
            if not restoring_it:
                restoring.require_none(connection)
            if not sa.inspect(connection).has_table("alembic_version"):
                return None
            return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    finally:
        engine.dispose()


def differences(url: str) -> list[object]:
    """Return what a new revision would hold: nothing, where the tables are those of the code."""
    from alembic.autogenerate import compare_metadata  # noqa: PLC0415 - as above
    from alembic.migration import MigrationContext  # noqa: PLC0415 - as above

    engine = bare_engine(url)
    try:
        with engine.connect() as connection:
            options = {"compare_type": True, "include_name": is_ours}
            return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))
    finally:
        engine.dispose()


def is_ours(name: str | None, kind: str, _parents: object) -> bool:
    """Tell our tables from the engine's, which are its own business."""
    return kind != "table" or name in metadata.tables


def alembic_config(url: str):  # type: ignore[no-untyped-def]  # noqa: ANN201 - alembic's Config, imported late
    """Return Alembic's configuration for a database."""
    from alembic.config import Config  # noqa: PLC0415 - as above

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["url"] = url  # not among the options, which would read a % in it
    return config


def bare_engine(url: str) -> sa.Engine:
    """Return an engine without the pools and settings of a `Database`."""
    if is_file(url):
        engine = sa.create_engine(url, poolclass=sa.NullPool, hide_parameters=True)
        sa.event.listen(engine, "connect", _prepare)
        sa.event.listen(engine, "begin", _begin)
        return engine
    from stablestudio.store.postgres import make_engine  # noqa: PLC0415 - not needed for a file

    return make_engine(url, poolclass=sa.NullPool)


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    # The driver's own transactions begin at the first INSERT: each change of a table before it would be a commit.
    connection.isolation_level = None
    connection.execute("PRAGMA busy_timeout=30000")
    # A table that is changed is written anew and dropped, and its rows' children stay; within a transaction it is too late.
    connection.execute("PRAGMA foreign_keys=OFF")


def _begin(connection: sa.Connection) -> None:
    """Lock the file where it is upgraded, so that of two that do so the second reads what the first has done."""
    upgrading = connection.get_execution_options().get("upgrading", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if upgrading else "BEGIN")
