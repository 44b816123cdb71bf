"""Queries of the storage's mark: a file in the storage whose text the books know, too."""

from __future__ import annotations

import sqlalchemy as sa

from stablestudio.store.inserting import insert
from stablestudio.store.tables import storage_marks


def find(connection: sa.Connection, key: str) -> str | None:
    """Return what should stand in the file, None where nobody has written one yet."""
    return connection.execute(sa.select(storage_marks.c.value).where(storage_marks.c.key == key)).scalar()


def keep(connection: sa.Connection, *, key: str, value: str) -> str:
    """Write down what stands in the file, unless another process did; return what is written down."""
    connection.execute(insert(connection, storage_marks).values(key=key, value=value).on_conflict_do_nothing())
    return find(connection, key) or value
