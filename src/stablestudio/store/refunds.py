"""Queries of refunds: what is owed, what waits for a person, what was signed, what has arrived."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from stablestudio.store import webhooks
from stablestudio.store.locking import lock_order, take_turn
from stablestudio.store.payments import touch
from stablestudio.store.tables import orders, payments, refunds

# Why a refund waits although it could be paid: it goes on by itself once the reason is gone.
RAIL_MISSING, BELOW_MINIMUM, DAILY_CAP, RESTORED = "rail_missing", "below_minimum", "daily_cap", "restored"
HELD_BY_RULE = (RAIL_MISSING, BELOW_MINIMUM, DAILY_CAP, RESTORED)
_FIRST_PAUSE_MS, _LONGEST_PAUSE_MS = 5_000, 120_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """Money going back to the payer of one order.

    `updated_at` is when the last try ended, or `created_at` if nothing was tried yet.
    """

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
    signed_at: int | None
    approved_at: int | None

    @property
    def tried_for(self) -> int:
        """Return for how long it has been tried (ms); a person's approval begins anew."""
        return max(0, self.updated_at - max(self.created_at, self.approved_at or 0))

    @property
    def due_at(self) -> int:
        """Return when it may be tried (ms): at once, and then after pauses that double from try to try."""
        if not self.tried_for:
            return self.updated_at
        return self.updated_at + min(max(self.tried_for, _FIRST_PAUSE_MS), _LONGEST_PAUSE_MS)


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundView:
    """A refund beside the payment that it returns, for people who look after it."""

    refund: Refund
    network: str
    asset: str
    paid: int  # base units
    price_micros: int


# Written out so that SQLite sees that the index of open refunds has them all; a bound value hides it.
_OPEN = refunds.c.state != sa.literal_column("'refunded'")
_UNDER_WAY = refunds.c.state.in_(("pending", "signed"))
_BEGAN = sa.case(
    (refunds.c.approved_at > refunds.c.created_at, refunds.c.approved_at),
    else_=refunds.c.created_at,
)
_TRIED_FOR = refunds.c.updated_at - _BEGAN
# `Refund.due_at` for the database; a test compares the two.
_DUE_AT = refunds.c.updated_at + sa.case(
    (_TRIED_FOR <= 0, 0),
    (_TRIED_FOR < _FIRST_PAUSE_MS, _FIRST_PAUSE_MS),
    (_TRIED_FOR > _LONGEST_PAUSE_MS, _LONGEST_PAUSE_MS),
    else_=_TRIED_FOR,
)

_VIEW = (
    sa.select(refunds, payments.c.network, payments.c.asset, payments.c.amount.label("paid"), orders.c.price_micros)
    .join_from(refunds, payments, payments.c.id == refunds.c.payment_id)
    .join(orders, orders.c.id == refunds.c.order_id)
)


def find(connection: sa.Connection, order_id: str) -> Refund | None:
    """Return the refund of an order."""
    row = connection.execute(sa.select(refunds).where(refunds.c.order_id == order_id)).first()
    return Refund(**row._mapping) if row else None  # noqa: SLF001 - SQLAlchemy's public name for it


def find_to_decide(connection: sa.Connection, order_id: str, *, rail: str) -> Refund | None:
    """Return the refund of an order; until the commit nobody else changes it, or signs another one of its rail."""
    take_turn(connection, f"refunds {rail}")
    lock_order(connection, order_id)
    return find(connection, order_id)


def open_refunds(connection: sa.Connection, *, not_on: Collection[str] = ()) -> list[Refund]:
    """Return refunds that are owed and held back by nothing, oldest first, on other rails than these."""
    return _select(connection, _UNDER_WAY, refunds.c.rail.not_in(not_on))


def listed(connection: sa.Connection, *, states: Collection[str], limit: int) -> list[RefundView]:
    """Return refunds in these states, oldest first."""
    # Beside the list of states, so that the index of open refunds serves where it has them all.
    only = [] if "refunded" in states else [_OPEN]
    statement = _VIEW.where(refunds.c.state.in_(states), *only).order_by(refunds.c.created_at, refunds.c.order_id)
    return [_view(row) for row in connection.execute(statement.limit(limit))]


def view(connection: sa.Connection, order_id: str) -> RefundView | None:
    """Return the refund of an order beside its payment."""
    row = connection.execute(_VIEW.where(refunds.c.order_id == order_id)).first()
    return _view(row) if row else None


def due_refunds(
    connection: sa.Connection, *, rail: str, now: int, minimum: int, room: int | None, limit: int
) -> list[Refund]:
    """Return the refunds of a rail to be looked at now (ms), oldest first.

    That is what is under way and has no pause, and what a rule holds back that does not stand in its way any more:
    `minimum` and `room`, what the daily cap has left or None without a cap, are base units.
    """
    amount = refunds.c.amount
    may_go_on = sa.or_(
        refunds.c.reason == RAIL_MISSING,
        sa.and_(refunds.c.reason == BELOW_MINIMUM, amount >= minimum),
        sa.and_(refunds.c.reason == DAILY_CAP, sa.true() if room is None else amount <= room),
    )
    due = sa.or_(sa.and_(_UNDER_WAY, now >= _DUE_AT), sa.and_(refunds.c.state == "waiting", may_go_on))
    # Not the bare column: its own index would have SQLite read every refund that the rail ever made.
    return _select(connection, refunds.c.rail.concat("") == rail, due, limit=limit)


def signed_amount(connection: sa.Connection, *, rail: str, since: int) -> int:
    """Return what was signed on a rail after `since` (ms) without a person's approval, in base units."""
    statement = sa.select(sa.func.coalesce(sa.func.sum(refunds.c.amount), 0)).where(
        refunds.c.rail == rail, refunds.c.signed_at > since, refunds.c.approved_at.is_(None)
    )
    return int(connection.execute(statement).scalar_one())


def sign_refund(connection: sa.Connection, *, order_id: str, signed: str, now: int) -> bool:
    """Keep the signed transfer before it is sent; only the first signature is kept."""
    signed_at = sa.func.coalesce(refunds.c.signed_at, now)
    values = {"state": "signed", "signed": signed, "signed_at": signed_at, "reason": None}
    return _move(connection, order_id, refunds.c.signed.is_(None), _OPEN, values=values)


def renew_signature(connection: sa.Connection, *, order_id: str, signed: str, renewed: str) -> bool:
    """Keep another signed transfer in place of one that can never happen any more; only the first renewal is kept."""
    return _move(connection, order_id, refunds.c.signed == signed, _OPEN, values={"signed": renewed})


def forget_signature(connection: sa.Connection, *, order_id: str, signed: str, now: int) -> bool:
    """Drop a signed transfer that can never happen any more, so that it is signed anew after a pause."""
    values = {"state": "pending", "signed": None, "updated_at": now}
    return _move(connection, order_id, refunds.c.signed == signed, refunds.c.state == "signed", values=values)


def resume(connection: sa.Connection, *, order_id: str, signed: str) -> bool:
    """Let a refund go on that was signed before it had to wait."""
    return _move(connection, order_id, refunds.c.signed == signed, _OPEN, values={"state": "signed", "reason": None})


def hold(connection: sa.Connection, *, refund: Refund, reason: str) -> bool:
    """Let a refund wait, unless another worker brought it further meanwhile; `False` if nothing changed."""
    same = refunds.c.signed.is_(None) if refund.signed is None else refunds.c.signed == refund.signed
    other = sa.or_(_UNDER_WAY, refunds.c.reason != reason)
    values = {"state": "waiting", "reason": reason}
    return _move(connection, refund.order_id, same, other, _OPEN, values=values)


def postpone(connection: sa.Connection, *, order_id: str, reason: str, now: int) -> None:
    """Record that a try ended without success, from which the next pause is measured."""
    connection.execute(
        sa.update(refunds).where(refunds.c.order_id == order_id, _UNDER_WAY).values(reason=reason, updated_at=now)
    )


def settle_refund(connection: sa.Connection, *, order_id: str, transaction: str, now: int) -> bool:
    """Record that the money is back with the payer, whatever was held for true before."""
    values = {"state": "refunded", "transaction": transaction, "reason": None, "updated_at": now}
    if not _move(connection, order_id, refunds.c.signed.is_not(None), _OPEN, values=values):
        return False
    webhooks.add(connection, order_id=order_id, type_="job.refunded", now=now)
    return True


def approve(connection: sa.Connection, *, order_id: str, now: int) -> bool:
    """Let a waiting refund go on whatever the rules say; `False` if it does not wait."""
    values = {"approved_at": now, "reason": None, "updated_at": now}
    return _move(connection, order_id, refunds.c.state == "waiting", values=values | {"state": _in_line()})


def retry(connection: sa.Connection, *, order_id: str) -> bool:
    """Let a refund be tried at once, without the pause or the waiting; `False` if it has arrived."""
    values = {"state": _in_line(), "updated_at": refunds.c.created_at}
    return _move(connection, order_id, _OPEN, values=values)


def retry_all(connection: sa.Connection) -> list[str]:
    """Let every refund be tried at once that no rule holds back; return their orders."""
    held = sa.and_(refunds.c.state == "waiting", refunds.c.reason.in_(HELD_BY_RULE))
    orders = connection.scalars(sa.select(refunds.c.order_id).where(_OPEN, ~held)).all()
    return [order_id for order_id in orders if retry(connection, order_id=order_id)]


def _in_line() -> sa.Case[str]:
    """Return the state of a refund that is under way again: what was signed stays signed, and is never signed twice."""
    return sa.case((refunds.c.signed.is_(None), "pending"), else_="signed")


def _view(row: sa.Row[Any]) -> RefundView:
    facts = dict(row._mapping)  # noqa: SLF001
    beside = {name: facts.pop(name) for name in ("network", "asset", "paid", "price_micros")}
    return RefundView(refund=Refund(**facts), **beside)


def _select(connection: sa.Connection, *where: sa.ColumnElement[bool], limit: int = 100) -> list[Refund]:
    statement = sa.select(refunds).where(_OPEN, *where).order_by(refunds.c.created_at, refunds.c.order_id).limit(limit)
    return [Refund(**row._mapping) for row in connection.execute(statement)]  # noqa: SLF001


def _move(connection: sa.Connection, order_id: str, *where: sa.ColumnElement[bool], values: dict[str, Any]) -> bool:
    """Change a refund by compare-and-set; whoever comes second changes nothing."""
    lock_order(connection, order_id)
    statement = sa.update(refunds).where(refunds.c.order_id == order_id, *where).values(values)
    if connection.execute(statement).rowcount != 1:
        return False
    touch(connection, order_id)
    return True
