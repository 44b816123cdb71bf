"""Queries of executors: the processes that make jobs from one PostgreSQL, each under a lease of its own.

All times are the database's own, in milliseconds. A row stays until its jobs were handed to others: who has no row is
no executor any more, and never becomes one again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from stablestudio.store.tables import executors

_NOW = sa.cast(sa.extract("epoch", sa.func.clock_timestamp()) * 1000, sa.BigInteger)


class Executor(NamedTuple):
    """A process that makes jobs; `left` (ms) is negative where its lease is over and nobody has taken its jobs yet."""

    id: str
    host: str
    pid: int
    leased_at: int
    left: int


def begin(connection: sa.Connection, *, executor: str, host: str, pid: int, lasts: int) -> None:
    """Lease a new executor's id for `lasts` ms."""
    times = {"leased_at": _NOW, "leased_until": _NOW + lasts}
    connection.execute(sa.insert(executors).values(id=executor, host=host, pid=pid, **times))


def renew(connection: sa.Connection, *, executor: str, lasts: int) -> bool:
    """Lease it for `lasts` ms from now; `False` if its jobs were handed to others."""
    statement = sa.update(executors).where(executors.c.id == executor).values(leased_until=_NOW + lasts)
    return connection.execute(statement).rowcount == 1


def hold(connection: sa.Connection, executor: str) -> bool:
    """Tell whether a lease holds; if so, it holds until this transaction has ended."""
    statement = (
        sa.select(executors.c.id)
        .where(executors.c.id == executor, executors.c.leased_until > _NOW)
        # KEY SHARE: nobody may end the lease before this transaction does, and its renewal need not wait for it.
        .with_for_update(read=True, key_share=True)
    )
    return connection.execute(statement).first() is not None


def ids(connection: sa.Connection) -> set[str]:
    """Return all executors whose jobs are theirs."""
    return set(connection.execute(sa.select(executors.c.id)).scalars())


def overdue(connection: sa.Connection, *, own: str) -> set[str]:
    """Return the others whose lease is over."""
    statement = sa.select(executors.c.id).where(executors.c.leased_until <= _NOW, executors.c.id != own)
    return set(connection.execute(statement).scalars())


def take_overdue(connection: sa.Connection, names: Collection[str]) -> list[str]:
    """Take these executors' rows where their lease is still over; until the end of the transaction they cannot renew it.

    Those that a transaction holds, of a process that was frozen inside of it or of another reaper, are left out.
    """
    statement = (
        sa.select(executors.c.id)
        .where(executors.c.id.in_(names), executors.c.leased_until <= _NOW)
        .with_for_update(skip_locked=True)
    )
    return list(connection.execute(statement).scalars())


def end(connection: sa.Connection, names: Sequence[str]) -> None:
    """Forget executors whose jobs were handed to others."""
    connection.execute(sa.delete(executors).where(executors.c.id.in_(names)))


def listed(connection: sa.Connection) -> list[Executor]:
    """Return all executors, the eldest first."""
    columns = (executors.c.id, executors.c.host, executors.c.pid, executors.c.leased_at)
    statement = sa.select(*columns, executors.c.leased_until - _NOW).order_by(executors.c.leased_at, executors.c.id)
    return [Executor(*row) for row in connection.execute(statement)]
