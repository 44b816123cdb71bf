"""Queries of echoes: the same request, paid once more in another way by a buyer that gave up waiting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from stablestudio.store.inserting import insert
from stablestudio.store.locking import take_turn
from stablestudio.store.tables import echoes, jobs, payments, spared_credentials


@dataclass(frozen=True, slots=True, kw_only=True)
class Echo:
    """What one run of a buyer asked and paid for; `key` is of its session, its wallets and the request."""

    key: str
    rail: str
    order_id: str
    created_at: int


class Echoed(Exception):
    """This buyer has paid for this very request a moment ago, on another rail."""

    def __init__(self, order_id: str, fingerprint: str | None = None) -> None:
        self.order_id = order_id
        self.fingerprint = fingerprint  # of the request that the credential was presented with, where it was before
        super().__init__(order_id)


class Refused(Exception):
    """This credential was over by somebody's clock, and its buyer was told that nothing was charged."""


_REFUSED_MS = 24 * 3600 * 1000  # for which a refusal is remembered after the credential's end
_SPARED = sa.select(
    spared_credentials.c.order_id, spared_credentials.c.fingerprint, spared_credentials.c.expires_at
).where(spared_credentials.c.rail == sa.bindparam("rail"), spared_credentials.c.key == sa.bindparam("key"))


def remember(connection: sa.Connection, echo: Echo, *, window_ms: int) -> None:
    """Note the order as the one of this request; raise `Echoed` where a live order on another rail is noted already."""
    values = {"key": echo.key, "rail": echo.rail, "order_id": echo.order_id, "created_at": echo.created_at}
    # One statement that also locks a row that is there, so of two claims at the same moment the later one sees the earlier.
    note = insert(connection, echoes).values(values)
    note = note.on_conflict_do_update(index_elements=["key"], set_={"key": note.excluded.key})
    noted = connection.execute(note.returning(echoes)).one()
    if noted.order_id == echo.order_id:
        return
    is_late = noted.rail != echo.rail and noted.created_at > echo.created_at - window_ms
    if is_late and _lives(connection, noted.order_id):
        raise Echoed(noted.order_id)
    connection.execute(sa.update(echoes).where(echoes.c.key == echo.key).values(values))


def spare(connection: sa.Connection, *, rail: str, key: str, fingerprint: str, order_id: str, expires_at: int) -> None:
    """Remember that a credential was not taken because its request was paid before, for as long as it is good (ms)."""
    values = {"rail": rail, "key": key, "fingerprint": fingerprint, "order_id": order_id, "expires_at": expires_at}
    connection.execute(insert(connection, spared_credentials).values(values).on_conflict_do_nothing())


def refuse(connection: sa.Connection, *, rail: str, key: str, ends_at: int) -> bool:
    """Let nobody take a credential any more that ends by then (ms); `False` where somebody has taken it.

    One with the same key and a later end is another one: it was not told to be over.
    """
    take_turn(connection, f"credential {rail} {key}")
    taken = sa.select(payments.c.id).where(
        payments.c.rail == rail, payments.c.key == key, payments.c.state != "rejected"
    )
    if connection.execute(taken).first() is not None:
        return False
    values = {"rail": rail, "key": key, "fingerprint": "", "order_id": None, "expires_at": ends_at + _REFUSED_MS}
    note = insert(connection, spared_credentials).values(values)
    is_later = sa.and_(
        spared_credentials.c.order_id.is_(None), spared_credentials.c.expires_at < note.excluded.expires_at
    )
    newest = {"expires_at": note.excluded.expires_at}
    connection.execute(note.on_conflict_do_update(index_elements=["rail", "key"], set_=newest, where=is_later))
    return True


def require_not_spared(connection: sa.Connection, *, rail: str, key: str, ends_at: int | None) -> None:
    """Raise `Echoed` for a credential that was spared for an order which lives, `Refused` for one that was refused.

    `ends_at` is when it ends (ms), where that is known.

    Until the commit nobody else spares or refuses it.
    """
    take_turn(connection, f"credential {rail} {key}")
    row = connection.execute(_SPARED, {"rail": rail, "key": key}).first()
    if row is not None and row.order_id is None:
        if ends_at is not None and ends_at + _REFUSED_MS <= row.expires_at:
            raise Refused
        return
    if row is not None and _lives(connection, row.order_id):
        raise Echoed(row.order_id, row.fingerprint)


def forget(connection: sa.Connection, *, before: int, now: int) -> None:
    """Drop echoes older than `before` (ms), and spared credentials that nobody can settle any more."""
    connection.execute(sa.delete(echoes).where(echoes.c.created_at < before))
    connection.execute(sa.delete(spared_credentials).where(spared_credentials.c.expires_at < now))


def forget_orders(connection: sa.Connection, order_ids: Sequence[str]) -> None:
    """Drop what points to orders that go."""
    connection.execute(sa.delete(echoes).where(echoes.c.order_id.in_(order_ids)))
    connection.execute(sa.delete(spared_credentials).where(spared_credentials.c.order_id.in_(order_ids)))


def _lives(connection: sa.Connection, order_id: str) -> bool:
    """Tell whether an order is paid, or may be, and did not fail: only then is a second payment one too many."""
    found = connection.execute(
        sa.select(payments.c.state, jobs.c.state.label("job"))
        .join_from(payments, jobs, jobs.c.id == payments.c.order_id, isouter=True)
        .where(payments.c.order_id == order_id)
    ).first()
    return found is not None and found.state not in ("rejected", "released") and found.job != "failed"
