"""A copy of the whole database at one moment, taken while others write to it, and put in place again.

Each engine does it with its own means: SQLite by its backup interface, PostgreSQL by `pg_dump` and `pg_restore`. The durable
engine's tables are in the same database, so that sales and workflows are of the same moment.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import sqlalchemy as sa

from stablestudio.store.restoring import COPIER

# What the copy is called in a backup; the name tells which engine can read it.
FILE, DUMP = "stablestudio.db", "stablestudio.dump"
_SQLITE = "sqlite:///"


class DatabaseNotCopied(Exception):
    """The engine's own words on why there is no copy."""


@contextmanager
def snapshot(url: str, folder: Path) -> Iterator[tuple[Path, sa.Connection]]:
    """Write the database as it is now into a folder; yield the copy, and a connection that sees what is in it.

    Raises `DatabaseNotCopied`.
    """
    if url.startswith(_SQLITE):
        target = folder / FILE
        _copy(Path(url.removeprefix(_SQLITE)), target)
        url = f"{_SQLITE}{target}"
        with engine(url) as books, books.connect() as connection:
            yield target, connection
        return
    with engine(url) as books, books.connect() as session:
        connection = session.execution_options(isolation_level="REPEATABLE READ")
        moment = connection.execute(sa.text("SELECT pg_export_snapshot()")).scalar_one()
        target = folder / DUMP
        _run("pg_dump", "--format=custom", f"--snapshot={moment}", f"--file={target}", url=url)
        yield target, connection


def load(dump: Path, url: str) -> None:
    """Put a copy into an empty PostgreSQL database, all of it or nothing; raise `DatabaseNotCopied`."""
    options = ("--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges")
    _run("pg_restore", *options, str(dump), url=url)


def _copy(source: Path, target: Path) -> None:
    try:
        with (
            closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=rw", uri=True)) as books,
            closing(sqlite3.connect(target)) as copy,
        ):
            # In one step, for which writers do not wait: one in several begins anew whenever somebody has written.
            books.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # a single file
            (verdict,) = copy.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        raise DatabaseNotCopied(str(error)) from error
    if verdict != "ok":
        raise DatabaseNotCopied(f"the database is damaged: {verdict}")


@contextmanager
def engine(url: str) -> Iterator[sa.Engine]:
    """Open a database for a moment, whichever it is, without what a service does for many readers and writers."""
    made = sa.make_url(url)
    if not url.startswith(_SQLITE):
        made = made.set(drivername="postgresql+psycopg")
    opened = sa.create_engine(made, poolclass=sa.NullPool, hide_parameters=True)
    try:
        yield opened
    finally:
        opened.dispose()


def _run(program: str, *arguments: str, url: str) -> None:
    """Run one of PostgreSQL's tools; the password goes by its environment, which no list of processes shows."""
    place, environment = _access(url)
    try:
        command = [program, f"--dbname={place}", *arguments]
        subprocess.run(command, env=environment, check=True, capture_output=True, text=True)  # noqa: S603 - arguments are ours
    except FileNotFoundError:
        raise DatabaseNotCopied(f"{program} is not installed; it comes with PostgreSQL's client") from None
    except subprocess.CalledProcessError as error:
        raise DatabaseNotCopied(f"{program}: {error.stderr.strip()}") from None


def _access(url: str) -> tuple[str, Mapping[str, str]]:
    """Return the words and the environment by which a tool reaches the database as the service does, TLS included."""
    from psycopg.conninfo import make_conninfo  # noqa: PLC0415 - not needed for a file

    made = sa.make_url(url).set(drivername="postgresql+psycopg")
    _, facts = made.get_dialect()().create_connect_args(made)
    password = facts.pop("password", None)
    return make_conninfo(**{**facts, "application_name": COPIER}), os.environ | (
        {} if password is None else {"PGPASSWORD": password}
    )
