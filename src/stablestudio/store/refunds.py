"""Queries of refunds: what is owed, what was signed, what has arrived."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from stablestudio.store.payments import touch
from stablestudio.store.tables import refunds


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """Money going back to the payer of one order."""

    order_id: str
    payment_id: str
    rail: str
    amount: int
    recipient: str
    state: str
    signed: str | None
    transaction: str | None
    reason: str | None
    created_at: int
    updated_at: int


def open_refunds(connection: sa.Connection) -> list[Refund]:
    """Return refunds that are owed, oldest first."""
    statement = sa.select(refunds).where(refunds.c.state != "refunded").order_by(refunds.c.updated_at).limit(100)
    return [Refund(**row._mapping) for row in connection.execute(statement)]  # noqa: SLF001


def sign_refund(connection: sa.Connection, *, order_id: str, signed: str, now: int) -> bool:
    """Keep the signed transfer before it is sent; only the first signature is kept."""
    return _move_refund(connection, order_id, source="pending", values={"state": "signed", "signed": signed}, now=now)


def forget_signature(connection: sa.Connection, *, order_id: str, signed: str, now: int) -> bool:
    """Drop a signed transfer that has expired unsent, so that it is signed anew."""
    statement = (
        sa.update(refunds)
        .where(refunds.c.order_id == order_id, refunds.c.state == "signed", refunds.c.signed == signed)
        .values(state="pending", signed=None, updated_at=now)
    )
    return connection.execute(statement).rowcount == 1


def settle_refund(connection: sa.Connection, *, order_id: str, transaction: str, now: int) -> bool:
    """Record that the money is back with the payer."""
    values = {"state": "refunded", "transaction": transaction}
    return _move_refund(connection, order_id, source="signed", values=values, now=now)


def postpone(connection: sa.Connection, *, order_id: str, now: int) -> None:
    """Put a refund that could not be paid at the end of the line, so that it holds no other up."""
    connection.execute(sa.update(refunds).where(refunds.c.order_id == order_id).values(updated_at=now))


def _move_refund(connection: sa.Connection, order_id: str, *, source: str, values: dict[str, Any], now: int) -> bool:
    statement = (
        sa.update(refunds)
        .where(refunds.c.order_id == order_id, refunds.c.state == source)
        .values(updated_at=now, **values)
    )
    if connection.execute(statement).rowcount != 1:
        return False
    touch(connection, order_id)
    return True
