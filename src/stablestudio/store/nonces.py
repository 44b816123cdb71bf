"""Queries of used nonces: a proof that changes something works once."""

from __future__ import annotations

import sqlalchemy as sa

from stablestudio.store.tables import used_nonces


def burn(connection: sa.Connection, nonce: str, *, expires_at: int) -> bool:
    """Use a nonce up; `False` if it was used before. The primary key decides."""
    try:
        with connection.begin_nested():
            connection.execute(sa.insert(used_nonces).values(nonce=nonce, expires_at=expires_at))
    except sa.exc.IntegrityError:
        return False
    return True


def forget_expired(connection: sa.Connection, *, now: int) -> int:
    """Drop nonces whose proofs no longer hold anyway; return how many."""
    return connection.execute(sa.delete(used_nonces).where(used_nonces.c.expires_at < now)).rowcount
