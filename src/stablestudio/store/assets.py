"""Queries of files that go: marked first, in one transaction with what the buyer sees; erased and noted afterwards."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import sqlalchemy as sa

from stablestudio.store.payments import touch
from stablestudio.store.tables import assets, jobs, orders, payments


class Doomed(NamedTuple):
    """A file that nobody gets any more, and whose bytes are still to be erased."""

    key: str
    size: int
    created_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Files together: how many, how large, and when the oldest was made (ms)."""

    files: int
    size: int
    oldest: int | None

    def __add__(self, other: Tally) -> Tally:
        oldest = min((each for each in (self.oldest, other.oldest) if each is not None), default=None)
        return Tally(files=self.files + other.files, size=self.size + other.size, oldest=oldest)


_JOB_ID = re.compile(r"job_[0-9A-Za-z]+")
# Written out so that the database sees that its partial indexes have these rows.
_IS_DOOMED = sa.and_(assets.c.gone_at.is_not(None), assets.c.erased_at.is_(None))
_UNMADE = jobs.alias("unmade")
_IS_UNMADE = _UNMADE.c.state.in_([sa.literal_column("'pending'"), sa.literal_column("'loading'")])
_IS_UNSETTLED = payments.c.state.in_([sa.literal_column("'claimed'"), sa.literal_column("'unknown'")])


def tally(connection: sa.Connection, *, before: int) -> Tally:
    """Return what a purge would erase now: what expired before that moment (ms), and what was left to be erased."""
    doomed = sa.select(assets.c.key).where(_IS_DOOMED)
    keys = _expired(connection, before).union_all(doomed).subquery()
    columns = sa.func.count(), sa.func.coalesce(sa.func.sum(assets.c.size), 0), sa.func.min(assets.c.created_at)
    files, size, oldest = connection.execute(sa.select(*columns).where(assets.c.key.in_(sa.select(keys.c.key)))).one()
    return Tally(files=files, size=int(size), oldest=oldest)


def mark_expired(connection: sa.Connection, *, before: int, now: int, limit: int) -> int:
    """Hand out no more what expired before that moment, the earliest first; return how many files that are."""
    keys = list(connection.scalars(_expired(connection, before).order_by(assets.c.expires_at).limit(limit)))
    return len(_mark(connection, assets.c.key.in_(keys), {"gone": "expired", "gone_at": now}))


def mark_deleted(connection: sa.Connection, *, job_id: str, now: int) -> int:
    """Hand out no more what its owner wants deleted, and forget what it looked like; return how many files that are."""
    values: dict[str, str | int | None] = {"gone": "deleted", "gone_at": now, "blurhash": None}
    return len(_mark(connection, assets.c.job_id == job_id, values))


def doomed(connection: sa.Connection, *, limit: int, after: str = "", job_id: str | None = None) -> list[Doomed]:
    """Return files to erase in the order of their keys, of one job or of all."""
    statement = (
        sa.select(assets.c.key, assets.c.size, assets.c.created_at)
        .where(_IS_DOOMED, assets.c.key > after)
        .order_by(assets.c.key)
        .limit(limit)
    )
    if job_id is not None:
        statement = statement.where(assets.c.job_id == job_id)
    return [Doomed(*row) for row in connection.execute(statement)]


def note_erased(connection: sa.Connection, keys: Sequence[str], *, now: int) -> list[str]:
    """Note that the bytes are gone; return the keys that nobody else had noted."""
    statement = (
        sa.update(assets).where(assets.c.key.in_(keys), _IS_DOOMED).values(erased_at=now).returning(assets.c.key)
    )
    return list(connection.scalars(statement))


def is_input_of_open_order(connection: sa.Connection, *, job_id: str, wallet: str) -> bool:
    """Tell whether an order of this wallet that has not come to an end works with a job's files."""
    statement = sa.select(_open_order_with(sa.literal(job_id), orders.c.wallet == wallet))
    return bool(connection.execute(statement).scalar())


def _expired(connection: sa.Connection, before: int) -> sa.Select[str]:
    """Return the keys of files that are due and that nothing needs: no job under way, its own or one made from it.

    Which jobs open orders are made from is found out once, and not for each file: a sale waits while files are marked.
    """
    return (
        sa.select(assets.c.key)
        .join(jobs, jobs.c.id == assets.c.job_id)
        .where(
            assets.c.gone_at.is_(None),
            assets.c.expires_at <= before,
            jobs.c.state.in_(("complete", "failed")),
            assets.c.job_id.not_in(_inputs_of_open_orders(connection)),
        )
    )


def _inputs_of_open_orders(connection: sa.Connection) -> set[str]:
    making = sa.select(orders.c.input).join(_UNMADE, _UNMADE.c.id == orders.c.id).where(_IS_UNMADE)
    paying = sa.select(orders.c.input).join(payments, payments.c.order_id == orders.c.id).where(_IS_UNSETTLED)
    named: set[str] = set()
    for statement in (making, paying):
        for text in connection.scalars(statement.where(orders.c.input.like("%job\\_%", escape="\\"))):
            named.update(_JOB_ID.findall(text))
    return named


def _open_order_with(job_id: sa.ColumnElement[str], which: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """Return the condition that an open order's input names a job, as `job:ID` or in a link to its file.

    `_` in an id stands for any letter in LIKE, which may keep a file for longer, never for less long.
    """
    names_it = orders.c.input.like(sa.literal("%") + job_id + sa.literal("%"))
    making = (
        sa.exists().select_from(orders.join(_UNMADE, _UNMADE.c.id == orders.c.id)).where(_IS_UNMADE, names_it, which)
    )
    paying = (
        sa.exists()
        .select_from(orders.join(payments, payments.c.order_id == orders.c.id))
        .where(_IS_UNSETTLED, names_it, which)
    )
    return sa.or_(making, paying)


def _mark(connection: sa.Connection, which: sa.ColumnElement[bool], values: dict[str, str | int | None]) -> list[str]:
    statement = sa.update(assets).where(which, assets.c.gone_at.is_(None)).values(values).returning(assets.c.job_id)
    marked = list(connection.scalars(statement))
    for job_id in sorted(set(marked)):
        touch(connection, job_id)
    return marked
