"""Queries of payments and orders: the claim, its outcome, and what a replay is answered from."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from stablestudio.store import echoes
from stablestudio.store.database import tell
from stablestudio.store.echoes import Echo
from stablestudio.store.locking import lock_order, take_turn
from stablestudio.store.tables import orders, payments


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The sale: what was asked for, at which price, by whom."""

    id: str
    wallet: str
    model: str
    operation: str
    input: str
    price_micros: int
    idempotency_key: str | None
    created_at: int
    revision: int = 1
    webhook_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """One credential taken for one order, and what became of it."""

    id: str
    order_id: str
    rail: str
    key: str
    fingerprint: str
    credential: str
    state: str
    network: str
    asset: str
    amount: int
    payer: str
    transaction: str | None
    reason: str | None
    claimed_at: int
    updated_at: int
    expires_at: int | None = None
    policy: str = "accept"


_OPEN_STATES = ("claimed", "unknown")
_CLOSED_STATES = ("rejected", "released")
# What may become what. Money that moved after all has the last word, whatever was held for true before.
_SOURCES = {
    "claimed": ("held",),
    "unknown": _OPEN_STATES,
    "rejected": _OPEN_STATES,
    "settled": (*_OPEN_STATES, "rejected", "released"),
}
_PAYMENT = sa.select(payments)
_INSERT_ORDER = sa.insert(orders)
_INSERT_PAYMENT = sa.insert(payments)
# Written out so that the database sees that its partial indexes have these rows; a bound value hides it.
_IS_OPEN = payments.c.state.in_([sa.literal_column("'claimed'"), sa.literal_column("'unknown'")])
_IS_REJECTED = payments.c.state == sa.literal_column("'rejected'")
_IS_WATCHED = sa.and_(
    payments.c.state.in_([sa.literal_column("'rejected'"), sa.literal_column("'released'")]),
    payments.c.expires_at.is_not(None),
)
_IS_HELD_OR_REFUSED = sa.and_(
    payments.c.policy == sa.literal_column("'complete'"),
    payments.c.state.in_([sa.literal_column("'held'"), sa.literal_column("'rejected'")]),
)
_BY_KEY = _PAYMENT.where(
    payments.c.rail == sa.bindparam("rail"),
    payments.c.key == sa.bindparam("key"),
    payments.c.state != sa.literal_column("'rejected'"),
)
_BY_ORDER = _PAYMENT.where(payments.c.order_id == sa.bindparam("order_id"))
_BY_IDEMPOTENCY_KEY = _PAYMENT.join(orders, orders.c.id == payments.c.order_id).where(
    orders.c.wallet == sa.bindparam("wallet"), orders.c.idempotency_key == sa.bindparam("idempotency_key")
)
_REJECTED = (
    _PAYMENT.where(payments.c.rail == sa.bindparam("rail"), payments.c.key == sa.bindparam("key"), _IS_REJECTED)
    .order_by(payments.c.claimed_at.desc())
    .limit(1)
)
_ORDER = sa.select(orders).where(orders.c.id == sa.bindparam("id"))
_OPEN = (
    _PAYMENT.where(_IS_OPEN, payments.c.updated_at <= sa.bindparam("before")).order_by(payments.c.updated_at).limit(100)
)
_WATCHED = (
    _PAYMENT.where(_IS_WATCHED, payments.c.expires_at <= sa.bindparam("before"))
    .order_by(payments.c.expires_at)
    .limit(100)
)
_HELD = sa.select(
    sa.func.coalesce(sa.func.sum(sa.case((payments.c.state == "held", payments.c.amount), else_=0)), 0).label("held"),
    sa.func.count(sa.case((payments.c.state == "rejected", 1))).label("refused"),
).where(_IS_HELD_OR_REFUSED, payments.c.payer == sa.bindparam("payer"), payments.c.rail == sa.bindparam("rail"))
_TOUCH = sa.update(orders).where(orders.c.id == sa.bindparam("order")).values(revision=orders.c.revision + 1)
_DECIDE = {
    state: sa.update(payments)
    .where(payments.c.id == sa.bindparam("payment"), sa.or_(*(payments.c.state == source for source in sources)))
    .values(
        state=state,
        transaction=sa.bindparam("to_transaction"),
        reason=sa.bindparam("to_reason"),
        updated_at=sa.bindparam("now"),
    )
    for state, sources in _SOURCES.items()
}


def find_by_key(connection: sa.Connection, *, rail: str, key: str) -> Payment | None:
    """Return the payment that holds this credential, unless it was rejected."""
    return _payment(connection.execute(_BY_KEY, {"rail": rail, "key": key}).first())


def find_rejected(connection: sa.Connection, *, rail: str, key: str) -> Payment | None:
    """Return the newest rejected payment of this credential."""
    return _payment(connection.execute(_REJECTED, {"rail": rail, "key": key}).first())


def find_by_idempotency_key(connection: sa.Connection, *, wallet: str, idempotency_key: str) -> Payment | None:
    """Return the payment of the order that this wallet opened under this key."""
    row = connection.execute(_BY_IDEMPOTENCY_KEY, {"wallet": wallet, "idempotency_key": idempotency_key}).first()
    return _payment(row)


def find_by_order(connection: sa.Connection, order_id: str) -> Payment | None:
    """Return the payment of an order."""
    return _payment(connection.execute(_BY_ORDER, {"order_id": order_id}).first())


def find_order(connection: sa.Connection, order_id: str) -> Order | None:
    """Return an order by its id."""
    row = connection.execute(_ORDER, {"id": order_id}).first()
    return Order(**row._mapping) if row else None  # noqa: SLF001 - SQLAlchemy's public name for it


def claim(
    connection: sa.Connection, *, order: Order, payment: Payment, echo: Echo | None = None, window_ms: int = 0
) -> None:
    """Take the credential for the order.

    Raises `IntegrityError` if the credential, or the wallet's idempotency key, holds another order: the two unique
    indexes decide (money rule 1), `find_holder` tells which order it was. Raises `Echoed` if the same buyer has paid
    for the same request on another rail less than `window_ms` ago.
    """
    connection.execute(_INSERT_ORDER, _values(order))
    connection.execute(_INSERT_PAYMENT, _values(payment))
    if echo is not None:
        echoes.remember(connection, echo, window_ms=window_ms)


def held_by(connection: sa.Connection, *, payer: str, rail: str) -> tuple[int, int]:
    """Return what a payer has signed for orders still being made, in base units, and how many could not be collected.

    Until the commit nobody else adds to it.
    """
    take_turn(connection, f"exposure {rail} {payer}")
    row = connection.execute(_HELD, {"payer": payer, "rail": rail}).one()
    return int(row.held), int(row.refused)


def find_holder(connection: sa.Connection, *, order: Order, payment: Payment) -> Payment | None:
    """Return the payment that already holds this credential or this wallet's idempotency key."""
    holder = find_by_key(connection, rail=payment.rail, key=payment.key)
    if holder is None and order.idempotency_key is not None:
        holder = find_by_idempotency_key(connection, wallet=order.wallet, idempotency_key=order.idempotency_key)
    return holder


def open_payments(connection: sa.Connection, *, before: int) -> list[Payment]:
    """Return the oldest payments whose outcome nobody has recorded and nobody touched since `before` (ms)."""
    return [Payment(**row._mapping) for row in connection.execute(_OPEN, {"before": before})]  # noqa: SLF001


def touch(connection: sa.Connection, *order_ids: str) -> None:
    """Count a change that the buyers can see, in the transaction that makes it."""
    connection.execute(_TOUCH, [{"order": each} for each in order_ids])
    for order_id in order_ids:
        tell(connection, order_id)


def settle(connection: sa.Connection, *, payment: Payment, transaction: str, now: int) -> bool:
    """Record that the money moved; `False` if that is on record already, here or for another order of the credential.

    What was held for rejected and moved after all is settled too: the money's word is the last.
    """
    try:
        with connection.begin_nested() if payment.state in _CLOSED_STATES else nullcontext():
            return _decide(connection, payment, "settled", transaction=transaction, reason=None, now=now)
    except sa.exc.IntegrityError:
        return False


def begin_charge(connection: sa.Connection, *, payment: Payment, now: int) -> bool:
    """Take a held payment for settlement, so that after a crash the reconciler finishes it; `False` if it is not held."""
    return _decide(connection, payment, "claimed", transaction=None, reason=None, now=now)


def release_held(connection: sa.Connection, *, order_id: str, now: int) -> None:
    """Give an order's payment back unsettled, if it is held."""
    lock_order(connection, order_id)
    connection.execute(
        sa.update(payments)
        .where(payments.c.order_id == order_id, payments.c.state == "held")
        .values(state="released", updated_at=now)
    )


def watched_payments(connection: sa.Connection, *, before: int) -> list[Payment]:
    """Return payments that were given back and can no longer be settled by anybody since `before` (ms): a last look is due."""
    return [Payment(**row._mapping) for row in connection.execute(_WATCHED, {"before": before})]  # noqa: SLF001


def look_later(connection: sa.Connection, *, payment_id: str, at: int) -> None:
    """Look at a payment that was given back again at `at` (ms): the chain could not tell, or nobody could ask it."""
    connection.execute(sa.update(payments).where(payments.c.id == payment_id, _IS_WATCHED).values(expires_at=at))


def unwatch(connection: sa.Connection, *, payment_id: str) -> None:
    """Note that nothing can happen to a payment any more."""
    connection.execute(sa.update(payments).where(payments.c.id == payment_id).values(expires_at=None))


def mark_unknown(connection: sa.Connection, *, payment: Payment, reason: str, now: int) -> bool:
    """Record that the outcome is not known yet; the reconciler takes it from here."""
    return _decide(connection, payment, "unknown", transaction=None, reason=reason, now=now)


def reject(connection: sa.Connection, *, payment: Payment, reason: str, now: int) -> bool:
    """Record that certainly nothing moved, and give the credential and the idempotency key back."""
    if not _decide(connection, payment, "rejected", transaction=None, reason=reason, now=now):
        return False
    connection.execute(sa.update(orders).where(orders.c.id == payment.order_id).values(idempotency_key=None))
    return True


def postpone(connection: sa.Connection, *, payment_id: str, now: int) -> None:
    """Put an open payment at the end of the reconciler's line, so that it holds no other up."""
    connection.execute(
        sa.update(payments)
        .where(payments.c.id == payment_id, payments.c.state.in_(_OPEN_STATES))
        .values(updated_at=now)
    )


def forget_rejected(connection: sa.Connection, *, before: int) -> int:
    """Drop orders that were never paid, rejected before `before` (ms); return how many."""
    gone = (
        sa.select(payments.c.order_id)
        .join(orders, orders.c.id == payments.c.order_id)
        .where(
            _IS_REJECTED,
            payments.c.updated_at < before,
            payments.c.expires_at.is_(None),
            payments.c.policy == "accept",  # an order whose payment was held has its job
        )
        .limit(1000)
        .with_for_update(skip_locked=True)  # one that the chain has settled after all, at this moment, stays
    )
    ids = list(connection.scalars(gone))
    echoes.forget_orders(connection, ids)
    connection.execute(sa.delete(payments).where(payments.c.order_id.in_(ids)))
    connection.execute(sa.delete(orders).where(orders.c.id.in_(ids)))
    return len(ids)


def _decide(
    connection: sa.Connection, payment: Payment, state: str, *, transaction: str | None, reason: str | None, now: int
) -> bool:
    parameters = {
        "payment": payment.id,
        "to_transaction": transaction,
        "to_reason": reason,
        "now": now,
    }
    lock_order(connection, payment.order_id)
    if connection.execute(_DECIDE[state], parameters).rowcount != 1:
        return False
    touch(connection, payment.order_id)
    return True


def _payment(row: sa.Row[Any] | None) -> Payment | None:
    return Payment(**row._mapping) if row else None  # noqa: SLF001


def _values(record: Order | Payment) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__slots__}
