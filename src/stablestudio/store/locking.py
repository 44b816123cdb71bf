"""What a transaction takes for itself until it commits, where others run beside it: PostgreSQL only.

SQLite has one writer, so what a transaction has read holds until it is done; there these functions do nothing. On
PostgreSQL a transaction that reads, decides and writes takes first what its decision rests on. Whoever takes several
takes them in this order: a payer's exposure, a credential, an order, then rows of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from stablestudio.store.tables import orders, uploads

_NO_LONGER = sa.text("SELECT set_config('lock_timeout', :longest, true)")
_TURN = sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
# NO KEY: rows that point to it may still come, those of other tables that this transaction does not look at.
_ORDER = sa.select(orders.c.id).where(orders.c.id == sa.bindparam("id")).with_for_update(key_share=True)
_FREE_ORDERS = (
    sa.select(orders.c.id)
    .where(orders.c.id.in_(sa.bindparam("ids", expanding=True)))
    .with_for_update(key_share=True, skip_locked=True)
)
_UPLOAD = sa.select(uploads.c.id).where(uploads.c.id == sa.bindparam("id")).with_for_update(key_share=True)


def take_turn(connection: sa.Connection, name: str) -> None:
    """Let nobody else do what this name stands for: for what is decided over many rows, or over none yet."""
    if _has_neighbours(connection):
        connection.execute(_TURN, {"name": name})


def wait_no_longer(connection: sa.Connection, *, seconds: float) -> None:
    """Let this transaction fail where it would wait longer than that for another one."""
    if _has_neighbours(connection):
        connection.execute(_NO_LONGER, {"longest": f"{seconds * 1000:.0f}ms"})


def lock_order(connection: sa.Connection, order_id: str) -> None:
    """Let nobody else change an order's payment, job or refund: one is decided by the others' states."""
    if _has_neighbours(connection):
        connection.execute(_ORDER, {"id": order_id})


def lock_free_orders(connection: sa.Connection, order_ids: Sequence[str]) -> Sequence[str]:
    """Do as `lock_order` does for those of these orders that nobody holds now; return them. It waits for nobody."""
    if not _has_neighbours(connection):
        return order_ids
    return connection.execute(_FREE_ORDERS, {"ids": order_ids}).scalars().all()


def lock_upload(connection: sa.Connection, upload_id: str) -> None:
    """Let nobody else change an upload or its parts, whose sizes are counted together."""
    if _has_neighbours(connection):
        connection.execute(_UPLOAD, {"id": upload_id})


def _has_neighbours(connection: sa.Connection) -> bool:
    return connection.dialect.name == "postgresql"
