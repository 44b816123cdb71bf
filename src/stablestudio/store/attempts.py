"""Queries of settlement attempts: which facilitator holds a payment, until the payment expires."""

from __future__ import annotations

import sqlalchemy as sa

from stablestudio.store.tables import settlement_attempts as attempts

_TRIES = 8
# As text, because SQLite and PostgreSQL agree word by word on what SQLAlchemy spells per dialect.
_BEGIN = sa.text(
    "INSERT INTO settlement_attempts (key, facilitator, spent, expires_at, created_at)"
    " VALUES (:key, :facilitator, FALSE, :expires_at, :now)"
    " ON CONFLICT (key) DO UPDATE SET facilitator = excluded.facilitator, spent = FALSE,"
    " expires_at = excluded.expires_at, created_at = excluded.created_at"
    " WHERE settlement_attempts.expires_at <= :now_s RETURNING key"
)
_HOLDER = sa.select(attempts.c.facilitator).where(attempts.c.key == sa.bindparam("attempt"))
_UNSPENT = (
    attempts.c.key == sa.bindparam("attempt"),
    sa.or_(attempts.c.facilitator == sa.bindparam("holder"), sa.cast(sa.bindparam("holder"), sa.Text).is_(None)),
    attempts.c.spent.is_(False),
)
_SPEND = sa.update(attempts).where(*_UNSPENT).values(spent=True)
_RELEASE = sa.delete(attempts).where(*_UNSPENT)


def begin(connection: sa.Connection, *, key: str, facilitator: str, expires_at: int, now: int) -> str | None:
    """Note who is about to get a payment; return None, or the name noted before, which stays.

    `expires_at` is in seconds, `now` in milliseconds. A note past its end counts as none.
    """
    note = {"key": key, "facilitator": facilitator, "expires_at": expires_at, "now": now, "now_s": now // 1000}
    for _ in range(_TRIES):
        if connection.execute(_BEGIN, note).first() is not None:
            return None
        standing = connection.execute(_HOLDER, {"attempt": key}).scalar()
        if standing is not None:
            return str(standing)
        # Where transactions run side by side, the note that was in the way may be gone by the second look.
    raise RuntimeError("a settlement attempt is noted and released too quickly to be read")


def spend(connection: sa.Connection, *, key: str, facilitator: str | None = None) -> bool:
    """Take the one repetition that this holder, or whoever holds it, may get; return whether it was still there."""
    return connection.execute(_SPEND, {"attempt": key, "holder": facilitator}).rowcount == 1


def release(connection: sa.Connection, *, key: str, facilitator: str | None = None) -> bool:
    """Forget this holder, or any; return False, and keep it, where its repetition is taken already."""
    if connection.execute(_RELEASE, {"attempt": key, "holder": facilitator}).rowcount == 1:
        return True
    standing = connection.execute(_HOLDER, {"attempt": key}).scalar()
    return standing is None or facilitator not in (None, standing)


def forget_expired(connection: sa.Connection, *, now: int) -> int:
    """Drop notes of payments that nobody can settle any more, as of `now` (ms); return how many."""
    return connection.execute(sa.delete(attempts).where(attempts.c.expires_at <= now // 1000)).rowcount
