"""What a buyer reads of an order: one indexed query, straight to the driver, because it is asked most often."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import sqlalchemy as sa

from stablestudio.store.database import Database
from stablestudio.store.tables import orders


class OrderView(NamedTuple):
    """An order with its payment, job and refund; the job's columns are None while the payment's outcome is open."""

    id: str
    wallet: str
    model: str
    operation: str
    input: str | None  # None where it is too long to be looked at in passing
    price_micros: int
    ordered_at: int
    network: str
    asset: str
    amount: int
    payer: str
    payment_state: str
    transaction: str | None
    payment_reason: str | None
    state: str | None
    progress: int | None
    upstream_model: str | None
    error_code: str | None
    error: str | None
    updated_at: int | None
    finished_at: int | None
    deleted_at: int | None
    refund_state: str | None
    refund_transaction: str | None
    refund_amount: int | None
    refund_reason: str | None
    revision: int


class AssetView(NamedTuple):
    """A file of a job, kept or gone."""

    key: str
    role: str
    content_type: str
    size: int
    sha256: str
    width: int
    height: int
    milliseconds: int | None
    blurhash: str | None
    expires_at: int | None
    gone: str | None
    gone_at: int | None


# In characters: of one order whatever has no media in it, and in a list, which may be of a hundred, a short prompt.
_LONGEST = 65_536
_LONGEST_LISTED = 2_000
_ORDER = """
SELECT o.id, o.wallet, o.model, o.operation, CASE WHEN length(o.input) <= {longest} THEN o.input END, o.price_micros, o.created_at,
       p.network, p.asset, p.amount, p.payer, p.state, p."transaction", p.reason,
       j.state, j.progress, j.upstream_model, j.error_code, j.error, j.updated_at, j.finished_at, j.deleted_at,
       r.state, r."transaction", r.amount, r.reason, o.revision
FROM orders o
JOIN payments p ON p.order_id = o.id
LEFT JOIN jobs j ON j.id = o.id
LEFT JOIN refunds r ON r.order_id = o.id
"""
_ONE = _ORDER.format(longest=_LONGEST) + "WHERE o.id = ?"
_LIST = _ORDER.format(longest=_LONGEST_LISTED) + (
    "WHERE o.wallet = ? AND o.id < ? AND o.model <> 'upload' AND p.state <> 'rejected' AND j.deleted_at IS NULL "
    "AND (CAST(? AS TEXT) IS NULL OR COALESCE(j.state, 'pending') = ?) ORDER BY o.id DESC LIMIT ?"
)
_ASSETS = """
SELECT key, role, content_type, size, sha256, width, height, milliseconds, blurhash, expires_at, gone, gone_at
FROM assets WHERE job_id = ? ORDER BY key
"""
_REVISION = "SELECT id, revision FROM orders WHERE id = ?"
_STANDING = "SELECT id, wallet, revision FROM orders WHERE id = ?"
_INPUT = "SELECT input FROM orders WHERE id = ?"
_AFTER_ALL = "z"  # behind every id, by the order of any language


async def revision(database: Database, order_id: str) -> int | None:
    """Return how often an order has visibly changed: the cheapest question that tells whether an answer still holds."""
    row = await database.fetch_one(_REVISION, order_id)
    return int(row[1]) if row else None


async def standing(database: Database, order_id: str) -> tuple[str, int] | None:
    """Return whose an order is, and its revision."""
    row = await database.fetch_one(_STANDING, order_id)
    return (str(row[1]), int(row[2])) if row else None


def revisions(connection: sa.Connection, order_ids: Collection[str]) -> dict[str, int]:
    """Return the revisions of many orders."""
    statement = sa.select(orders.c.id, orders.c.revision).where(orders.c.id.in_(order_ids))
    return {row.id: row.revision for row in connection.execute(statement)}


async def find(database: Database, order_id: str) -> OrderView | None:
    """Return an order by its id."""
    row = await database.fetch_one(_ONE, order_id)
    return OrderView._make(row) if row else None


def assets(database: Database, order_id: str) -> list[AssetView]:
    """Return the files of a job."""
    return [AssetView._make(row) for row in database.fetch(_ASSETS, (order_id,))]


def of_wallet(database: Database, wallet: str, *, limit: int, state: str | None, before: str | None) -> list[OrderView]:
    """Return a wallet's orders, newest first, without inputs that are long; `before` is the id after which to go on."""
    parameters: tuple[Any, ...] = (wallet, before or _AFTER_ALL, state, state, limit)
    return [OrderView._make(row) for row in database.fetch(_LIST, parameters)]


def whole_input(database: Database, order_id: str) -> str:
    """Return an order's input as JSON, however long."""
    return str(database.fetch(_INPUT, (order_id,))[0][0])
