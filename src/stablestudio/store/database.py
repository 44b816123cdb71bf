"""What the rest of the house knows of its database, whether it is a file here or a PostgreSQL elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa

T = TypeVar("T")


class Database(Protocol):
    """Two stores with the same verbs: `SqliteDatabase`, `PostgresDatabase`."""

    url: str
    engine: sa.Engine

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` in a transaction and return its result once it is committed; its exception undoes it alone.

        `work` may run more than once: what it does apart from its connection must bear that. A caller that is
        cancelled meanwhile undoes nothing, and its next write comes after this one.
        """
        ...

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Run queries that see the database as it is at one moment."""
        ...

    def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one indexed query on the driver itself; a `?` for each parameter."""
        ...

    async def look(self, work: Callable[[], T]) -> T:
        """Run what fetches, where it does not hold the event loop up."""
        ...

    def close(self) -> None:
        """Finish the writes already queued, then close."""
        ...


def is_file(url: str) -> bool:
    """Tell whether a database is a file that one process has to itself."""
    return url.startswith("sqlite:")


def connect(url: str) -> Database:
    """Open the database at `sqlite:///PATH` or `postgresql://...`."""
    if is_file(url):
        from stablestudio.store.sqlite import SqliteDatabase  # noqa: PLC0415 - only one of the drivers is needed

        return SqliteDatabase(url)
    from stablestudio.store.postgres import PostgresDatabase  # noqa: PLC0415 - as above

    return PostgresDatabase(url)
