"""Queries of echoes: the same request, paid once more in another way by a buyer that gave up waiting."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from stablestudio.store.tables import echoes, jobs, payments


@dataclass(frozen=True, slots=True, kw_only=True)
class Echo:
    """What a buyer's session asked and paid for. `companions` are wallets that the payer named as its own, unproved."""

    key: str
    wallet: str
    companions: Sequence[str]
    rail: str
    order_id: str
    created_at: int


class Echoed(Exception):
    """This buyer has paid for this very request a moment ago, on another rail."""

    def __init__(self, order_id: str) -> None:
        self.order_id = order_id
        super().__init__(order_id)


def remember(connection: sa.Connection, echo: Echo, *, window_ms: int) -> None:
    """Note the order as the one of this request; raise `Echoed` where a live order on another rail is noted already."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    values = {
        "key": echo.key,
        "wallet": echo.wallet,
        "companions": json.dumps(list(echo.companions)),
        "rail": echo.rail,
        "order_id": echo.order_id,
        "created_at": echo.created_at,
    }
    connection.execute(insert(echoes).values(values).on_conflict_do_nothing())
    # The row is locked until the commit, so of two claims at the same moment the later one sees the earlier.
    noted = connection.execute(sa.select(echoes).where(echoes.c.key == echo.key).with_for_update()).one()
    if noted.order_id == echo.order_id:
        return
    is_late = noted.rail != echo.rail and noted.created_at > echo.created_at - window_ms and _same_buyer(noted, echo)
    if is_late and _lives(connection, noted.order_id):
        raise Echoed(noted.order_id)
    connection.execute(sa.update(echoes).where(echoes.c.key == echo.key).values(values))


def forget(connection: sa.Connection, *, before: int) -> None:
    """Drop echoes older than `before` (ms)."""
    connection.execute(sa.delete(echoes).where(echoes.c.created_at < before))


def forget_orders(connection: sa.Connection, order_ids: Sequence[str]) -> None:
    """Drop the echoes of orders that go."""
    connection.execute(sa.delete(echoes).where(echoes.c.order_id.in_(order_ids)))


def _same_buyer(noted: sa.Row[tuple[object, ...]], echo: Echo) -> bool:
    return noted.wallet == echo.wallet or echo.wallet in json.loads(noted.companions)


def _lives(connection: sa.Connection, order_id: str) -> bool:
    """Tell whether an order is paid, or may be, and did not fail: only then is a second payment one too many."""
    found = connection.execute(
        sa.select(payments.c.state, jobs.c.state.label("job"))
        .join_from(payments, jobs, jobs.c.id == payments.c.order_id, isouter=True)
        .where(payments.c.order_id == order_id)
    ).first()
    return found is not None and found.state not in ("rejected", "released") and found.job != "failed"
