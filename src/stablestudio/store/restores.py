"""Queries of restores: orders from before one may have come further than the books know."""

from __future__ import annotations

import sqlalchemy as sa

from stablestudio.store.tables import orders, restores


def note(connection: sa.Connection, *, made_at: int, now: int) -> None:
    """Note that the books were put back at `now` as they were at `made_at` (ms)."""
    connection.execute(sa.insert(restores).values(restored_at=now, made_at=made_at))


def latest(connection: sa.Connection) -> int | None:
    """Return when the books were put back last (ms), None where they never were."""
    return connection.execute(sa.select(sa.func.max(restores.c.restored_at))).scalar()


def is_older(connection: sa.Connection, order_id: str) -> bool:
    """Tell whether an order is from before a restore."""
    later = sa.exists().where(restores.c.restored_at > orders.c.created_at)
    return bool(connection.execute(sa.select(later).where(orders.c.id == order_id)).scalar())
