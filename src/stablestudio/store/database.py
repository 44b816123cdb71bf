"""What the rest of the house knows of its database, whether it is a file here or a PostgreSQL elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa

log = logging.getLogger(__name__)
T = TypeVar("T")
Listener = Callable[[frozenset[str]], None]
_TOLD = "told"
# For operators whose database `is_away`.
AWAY_HINT = "Start the database, or correct `database` in the settings, then run this again."
# SQLSTATE's classes of a connection that failed, and of a server that stops or starts.
_AWAY = ("08", "57P")


class CommitUnknown(sa.exc.OperationalError):
    """The connection broke when the commit had been asked for: it may have taken effect, and may still do so."""


class Database(Protocol):
    """Two stores with the same verbs: `SqliteDatabase`, `PostgresDatabase`."""

    url: str
    engine: sa.Engine

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` in a transaction and return its result once it is committed; its exception undoes it alone.

        `work` may run more than once: what it does apart from its connection must bear that. A caller that is
        cancelled meanwhile undoes nothing, and its next write comes after this one. Raises `CommitUnknown` where nobody
        knows whether it was committed; after any other exception it certainly was not.
        """
        ...

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Run queries that see the database as it is at one moment."""
        ...

    def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one indexed query on the driver itself; a `?` for each parameter."""
        ...

    async def fetch_one(self, sql: str, key: str, *, patience: float = 0.0) -> tuple[Any, ...] | None:
        """Return the row that a query has for a key, as `fetch` would, where it does not hold the event loop up.

        The query's first column is the key, and its one condition for it `= ?`: many may be asked for together. Who has
        `patience` (seconds) may be kept waiting for so long until there are many.
        """
        ...

    async def look(self, work: Callable[[], T]) -> T:
        """Run what fetches, where it does not hold the event loop up."""
        ...

    def listen(self, listener: Listener) -> None:
        """Call `listener` with what was told in transactions that are committed now.

        It is called in a thread of the database, before the writer gets its result, and must be quick.
        """
        ...

    def close(self) -> None:
        """Finish the writes already queued, then close."""
        ...


def tell(connection: sa.Connection, word: str) -> None:
    """Tell the database's listeners of something once this transaction is committed.

    They may hear it although this caller's part was undone, where others shared the commit: it is a reason to look.
    """
    connection.info.setdefault(_TOLD, set()).add(word)


def take_told(connection: sa.Connection) -> frozenset[str]:
    """Return what was told on a connection since this was asked last."""
    return frozenset(connection.info.pop(_TOLD, ()))


def spread(told: frozenset[str], listeners: Collection[Listener]) -> None:
    """Pass on what was told; who cannot hear it keeps it from nobody."""
    for listener in listeners if told else ():
        try:
            listener(told)
        except Exception:
            log.exception("listener_failed")  # what was written is written


def is_file(url: str) -> bool:
    """Tell whether a database is a file that one process has to itself."""
    return url.startswith("sqlite:")


def place_of(url: str) -> str:
    """Return where a database is, for people: nothing of the user, and of the options only a host."""
    made = sa.make_url(url)
    if is_file(url):
        return str(made.database)
    shown = {"host": made.query["host"]} if "host" in made.query else {}
    return sa.URL.create(
        "postgresql", host=made.host, port=made.port, database=made.database, query=shown
    ).render_as_string()


def words_of(fault: BaseException) -> str:
    """Return what the driver says of a fault, for people: one line, which ends with one sign."""
    text = " ".join(str(getattr(fault, "orig", None) or fault).split())
    return text if text.endswith((".", "?", "!")) else f"{text}."


def is_away(fault: BaseException) -> bool:
    """Tell whether a fault is that of a PostgreSQL which is not reached, or refuses whoever we say we are."""
    state = getattr(getattr(fault, "orig", None), "sqlstate", "")  # None for what no server has answered to
    return state is None or state.startswith(_AWAY)


def connect(url: str) -> Database:
    """Open the database at `sqlite:///PATH` or `postgresql://...`."""
    if is_file(url):
        from stablestudio.store.sqlite import SqliteDatabase  # noqa: PLC0415 - only one of the drivers is needed

        return SqliteDatabase(url)
    from stablestudio.store.postgres import PostgresDatabase  # noqa: PLC0415 - as above

    return PostgresDatabase(url)
