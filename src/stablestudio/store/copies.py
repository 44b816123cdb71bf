"""Queries of copies: files of orders' inputs that were fetched from elsewhere, kept until the order has come to its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import sqlalchemy as sa

from stablestudio.store.tables import copies, jobs, payments


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """What an address led to when its order was checked; `key` is where the bytes are kept.

    `intake` names the check that made it; an order takes over all copies of its own check when its payment is claimed.
    """

    key: str
    intake: str
    url: str
    content_type: str
    size: int
    sha256: str
    created_at: int


_COLUMNS = tuple(copies.c[field.name] for field in fields(Copy))
_OPEN = jobs.c.state.in_([sa.literal_column("'pending'"), sa.literal_column("'loading'")])
_UNSETTLED = payments.c.state.in_([sa.literal_column("'claimed'"), sa.literal_column("'unknown'")])
_UNNEEDED = sa.select(copies.c.key).where(
    ~sa.exists().where(jobs.c.id == copies.c.order_id, _OPEN),
    ~sa.exists().where(payments.c.order_id == copies.c.order_id, _UNSETTLED),
)


def insert(connection: sa.Connection, copy: Copy) -> None:
    """Note a copy before its bytes are written, so that none is ever without a row."""
    connection.execute(sa.insert(copies).values({field.name: getattr(copy, field.name) for field in fields(Copy)}))


def link(connection: sa.Connection, *, intake: str, order_id: str) -> None:
    """Give the copies of a check to the order that it was for."""
    free = sa.and_(copies.c.intake == intake, copies.c.order_id.is_(None))
    connection.execute(sa.update(copies).where(free).values(order_id=order_id))


def find(connection: sa.Connection, *, order_id: str, url: str) -> Copy | None:
    """Return the copy that an order has of an address."""
    statement = sa.select(*_COLUMNS).where(copies.c.order_id == order_id, copies.c.url == url)
    return _one(connection.execute(statement).mappings().first())


def find_by_key(connection: sa.Connection, key: str) -> Copy | None:
    """Return a copy by where it is kept."""
    return _one(connection.execute(sa.select(*_COLUMNS).where(copies.c.key == key)).mappings().first())


def keys_of(connection: sa.Connection, order_id: str) -> list[str]:
    """Return where an order's copies are kept."""
    return list(connection.scalars(sa.select(copies.c.key).where(copies.c.order_id == order_id)))


def unneeded(connection: sa.Connection, *, before: int, after: str, limit: int) -> list[str]:
    """Return where copies made before that moment (ms) are kept that no order is going to be made from, in order."""
    statement = _UNNEEDED.where(copies.c.created_at < before, copies.c.key > after)
    return list(connection.scalars(statement.order_by(copies.c.key).limit(limit)))


def tally(connection: sa.Connection, *, before: int) -> tuple[int, int]:
    """Return how many copies a purge would erase now, and how many bytes."""
    found = _UNNEEDED.add_columns(copies.c.size).where(copies.c.created_at < before).subquery()
    counted = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(found.c.size), 0))
    count, size = connection.execute(counted).one()
    return count, int(size)


def unneeded_of(connection: sa.Connection, *, intake: str) -> list[str]:
    """Return where the copies of one check are kept, unless an order is going to be made from them."""
    return list(connection.scalars(_UNNEEDED.where(copies.c.intake == intake)))


def forget(connection: sa.Connection, keys: Sequence[str]) -> None:
    """Drop the rows of copies whose bytes are gone."""
    connection.execute(sa.delete(copies).where(copies.c.key.in_(keys)))


def _one(row: sa.RowMapping | None) -> Copy | None:
    return Copy(**row) if row is not None else None
