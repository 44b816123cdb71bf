"""Queries of leases: the right to be the one writer of something, for a while, among any number of processes."""

from __future__ import annotations

import sqlalchemy as sa

from stablestudio.store.tables import leases

_NEXT = ":next"
# One statement each, equal in SQLite and PostgreSQL, so that two who ask at once cannot both be told yes.
_TAKE = sa.text(
    "INSERT INTO leases (name, holder, expires_at) SELECT :name, :holder, :until"
    " WHERE NOT EXISTS (SELECT 1 FROM leases WHERE name = :next AND holder <> :holder AND expires_at > :now)"
    " ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at"
    " WHERE leases.expires_at <= :now RETURNING holder"
)
_QUEUE = sa.text(
    "INSERT INTO leases (name, holder, expires_at) VALUES (:next, :holder, :waits_until)"
    " ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at"
    " WHERE leases.expires_at <= :now OR (leases.holder = excluded.holder AND leases.expires_at <= :renew_at)"
)
_GIVE_BACK = sa.delete(leases).where(
    leases.c.holder == sa.bindparam("owner"), leases.c.name.in_(sa.bindparam("names", expanding=True))
)


def take(connection: sa.Connection, *, name: str, holder: str, now: int, lasts: int, waits: int) -> bool:
    """Take a lease for `lasts` if it is free at `now` (ms); else queue for it and return False.

    `holder` must be new for each taking: it is what tells a lease from the next one of the same process. The queue
    has one place, good for `waits` unless renewed by asking again: whoever has it goes before those who come
    later, so that a busy holder cannot take the lease again and again while another waits.
    """
    terms = {"name": name, "next": name + _NEXT, "holder": holder, "now": now}
    if connection.execute(_TAKE, terms | {"until": now + lasts}).first() is not None:
        connection.execute(_GIVE_BACK, {"owner": holder, "names": [name + _NEXT]})
        return True
    connection.execute(_QUEUE, terms | {"waits_until": now + waits, "renew_at": now + waits // 2})
    return False


def give_back(connection: sa.Connection, *, name: str, holder: str) -> bool:
    """Give up a lease and the place in its queue; return whether anything was held. What others took stays theirs."""
    return connection.execute(_GIVE_BACK, {"owner": holder, "names": [name, name + _NEXT]}).rowcount > 0
