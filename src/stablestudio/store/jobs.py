"""Queries of jobs, their submissions and their assets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import sqlalchemy as sa

from stablestudio.store import webhooks
from stablestudio.store.database import Database
from stablestudio.store.inserting import insert as insert_or
from stablestudio.store.locking import lock_free_orders, lock_order
from stablestudio.store.payments import release_held, touch
from stablestudio.store.tables import assets, jobs, orders, payments, refunds, submissions


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The making of one order."""

    id: str
    wallet: str
    type: str
    state: str
    progress: int
    provider: str | None
    upstream_model: str | None
    task: str | None
    error_code: str | None
    error: str | None
    created_at: int
    updated_at: int
    finished_at: int | None
    deleted_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A file that we keep."""

    key: str
    job_id: str
    role: str
    content_type: str
    size: int
    sha256: str
    width: int
    height: int
    milliseconds: int | None
    created_at: int
    blurhash: str | None = None
    expires_at: int | None = None
    gone: str | None = None
    gone_at: int | None = None
    erased_at: int | None = None


class Making(NamedTuple):
    """A job, what was ordered of it as (model, operation, input JSON), and how that is paid."""

    job: Job
    order: tuple[str, str, str]
    policy: str
    payment_state: str
    payment_expires_at: int | None


_JOB_COLUMNS = [field.name for field in fields(Job)]
_MAKING = """
SELECT {columns}, o.model, o.operation, o.input, p.policy, p.state, p.expires_at
FROM jobs j JOIN orders o ON o.id = j.id JOIN payments p ON p.order_id = j.id
WHERE j.id = ?
""".format(columns=", ".join(f"j.{name}" for name in _JOB_COLUMNS))
_INSERT_JOB = sa.insert(jobs)
_JOB = sa.select(jobs).where(jobs.c.id == sa.bindparam("id"))
_PROGRESS = (
    sa.update(jobs)
    .where(jobs.c.id == sa.bindparam("job"), jobs.c.state == "loading", jobs.c.progress < sa.bindparam("percent"))
    .values(progress=sa.bindparam("percent"), updated_at=sa.bindparam("now"))
)
_ORDERED = sa.select(orders.c.model, orders.c.operation, orders.c.input).where(orders.c.id == sa.bindparam("id"))


def insert(connection: sa.Connection, *, order_id: str, wallet: str, type_: str, now: int) -> None:
    """Open the job of a paid order; its primary key makes a second one impossible."""
    connection.execute(
        _INSERT_JOB,
        {
            "id": order_id,
            "wallet": wallet,
            "type": type_,
            "state": "pending",
            "progress": 0,
            "created_at": now,
            "updated_at": now,
        },
    )


async def making(database: Database, job_id: str, *, patience: float = 0.0) -> Making:
    """Return what a maker needs to know of a job, straight from the driver: it asks before each look at a vendor.

    With `patience` (seconds) thousands of jobs are looked at together.
    """
    row = await database.fetch_one(_MAKING, job_id, patience=patience)
    assert row is not None, "whose job is made is in the books"
    columns = len(_JOB_COLUMNS)
    model, operation, body, *terms = row[columns:]
    return Making(Job(**dict(zip(_JOB_COLUMNS, row[:columns], strict=True))), (model, operation, body), *terms)


def find(connection: sa.Connection, job_id: str) -> Job | None:
    """Return a job by its id."""
    row = connection.execute(_JOB, {"id": job_id}).first()
    return Job(**row._mapping) if row else None  # noqa: SLF001 - SQLAlchemy's public name for it


class Stale(NamedTuple):
    """An unfinished job that nobody touched for a while."""

    updated_at: int
    id: str
    provider: str | None
    created_at: int


def stale(connection: sa.Connection, *, before: int, after: Stale | None = None, limit: int) -> list[Stale]:
    """Return unfinished jobs untouched since `before` (ms), oldest first: the next ones `after` the last one seen."""
    place = sa.tuple_(jobs.c.updated_at, jobs.c.id)
    statement = (
        sa.select(*(jobs.c[name] for name in Stale._fields))
        .where(jobs.c.state.in_(("pending", "loading")), jobs.c.updated_at <= before)
        .order_by(jobs.c.updated_at, jobs.c.id)
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(place > sa.tuple_(after.updated_at, after.id))
    return [Stale(*row) for row in connection.execute(statement)]


def intend(
    connection: sa.Connection, *, job_id: str, attempt: int, provider: str, now: int, executor: str | None = None
) -> bool:
    """Write the intent to ask the vendor, and whose it is.

    `False` if this attempt was already intended (by a process that died), or the job was cancelled meanwhile.
    """
    lock_order(connection, job_id)
    open_job = sa.select(jobs.c.id).where(jobs.c.id == job_id, jobs.c.state == "pending")
    if connection.execute(open_job).first() is None:
        return False
    try:
        with connection.begin_nested():
            connection.execute(
                sa.insert(submissions).values(
                    job_id=job_id,
                    attempt=attempt,
                    provider=provider,
                    state="intended",
                    created_at=now,
                    updated_at=now,
                    executor=executor,
                )
            )
    except sa.exc.IntegrityError:
        return False
    return True


def is_asked_for(connection: sa.Connection, job_id: str) -> bool:
    """Tell whether a vendor has a job, or may have it. Until this transaction ends, none is asked for it."""
    lock_order(connection, job_id)
    asked = sa.select(submissions.c.attempt).where(submissions.c.job_id == job_id, submissions.c.state != "refused")
    return connection.execute(asked).first() is not None


class Submission(NamedTuple):
    """One question to a vendor, and what is known of its answer."""

    attempt: int
    provider: str
    state: str
    reason: str | None = None  # why it was refused
    retry_at: int | None = None  # when the vendor that refused may be asked again (ms)
    created_at: int = 0
    executor: str | None = None  # whose intent it was, where processes share the database


def submissions_of(connection: sa.Connection, job_id: str) -> list[Submission]:
    """Return a job's submissions, the newest last."""
    statement = (
        sa.select(*(submissions.c[name] for name in Submission._fields))
        .where(submissions.c.job_id == job_id)
        .order_by(submissions.c.attempt)
    )
    return [Submission(*row) for row in connection.execute(statement)]


def accepted_at(connection: sa.Connection, job_id: str) -> int | None:
    """Return when the vendor's task was saved (ms); None where no vendor has taken the job."""
    statement = sa.select(submissions.c.updated_at).where(
        submissions.c.job_id == job_id, submissions.c.state == "accepted"
    )
    return connection.execute(statement).scalar()


def accept(
    connection: sa.Connection, *, job_id: str, attempt: int, provider: str, task: str, upstream_model: str, now: int
) -> None:
    """Save the vendor's task with the answer that brought it, unless another process has found out what became of it."""
    lock_order(connection, job_id)
    if not _mark_submission(connection, job_id=job_id, attempt=attempt, state="accepted", now=now):
        return
    connection.execute(
        sa.update(jobs)
        .where(jobs.c.id == job_id, jobs.c.state == "pending")
        .values(state="loading", provider=provider, upstream_model=upstream_model, task=task, updated_at=now)
    )
    touch(connection, job_id)


def refuse(
    connection: sa.Connection, *, job_id: str, attempt: int, reason: str, now: int, retry_at: int | None = None
) -> None:
    """Record that the vendor certainly did not take this attempt, why, and when it may be asked again (ms)."""
    _mark_submission(
        connection, job_id=job_id, attempt=attempt, state="refused", now=now, reason=reason, retry_at=retry_at
    )


def open_at(connection: sa.Connection) -> dict[str, int]:
    """Return how many unfinished jobs each provider has taken."""
    statement = (
        sa.select(jobs.c.provider, sa.func.count())
        .where(jobs.c.state == "loading", jobs.c.provider.is_not(None))
        .group_by(jobs.c.provider)
    )
    return dict(connection.execute(statement).tuples().all())


def set_progress(connection: sa.Connection, *, progress: Mapping[str, int], now: int) -> None:
    """Record the progress of jobs, in percent; it never goes back, and jobs that others hold now are left out."""
    free = lock_free_orders(connection, list(progress))
    if free:
        connection.execute(_PROGRESS, [{"job": each, "percent": progress[each], "now": now} for each in free])
        touch(connection, *free)


def insert_asset(connection: sa.Connection, asset: Asset) -> None:
    """Record a kept file; recording the same key again changes nothing."""
    values = {name: getattr(asset, name) for name in asset.__slots__}
    connection.execute(insert_or(connection, assets).values(values).on_conflict_do_nothing())


def find_asset(connection: sa.Connection, key: str) -> Asset | None:
    """Return a kept file by its storage key."""
    row = connection.execute(sa.select(assets).where(assets.c.key == key)).first()
    return Asset(**row._mapping) if row else None  # noqa: SLF001


def find_result(connection: sa.Connection, job_id: str) -> Asset | None:
    """Return the file that a job was paid for."""
    statement = sa.select(assets).where(assets.c.job_id == job_id, assets.c.role == "result").order_by(assets.c.key)
    row = connection.execute(statement).first()
    return Asset(**row._mapping) if row else None  # noqa: SLF001


def complete(connection: sa.Connection, *, job_id: str, now: int, expires_at: int | None = None) -> bool:
    """Close a job as delivered, its files kept until `expires_at`; `False` if it was closed before."""
    if not _close(connection, job_id, {"state": "complete", "progress": 100}, now=now):
        # Cancelled while its file was being kept: that is nobody's, as where the job had failed before.
        lost = sa.exists().where(jobs.c.id == job_id, jobs.c.state == "failed")
        connection.execute(
            sa.update(assets)
            .where(assets.c.job_id == job_id, assets.c.expires_at.is_(None), lost)
            .values(expires_at=now)
        )
        return False
    _expire(connection, job_id, expires_at)
    return True


def fail(connection: sa.Connection, *, job_id: str, code: str, message: str, now: int) -> bool:
    """Close a job as failed, in one transaction with its money: given back if held, owed if taken.

    `False` if it was closed before.
    """
    if not _close(connection, job_id, {"state": "failed", "error_code": code, "error": message}, now=now):
        return False
    _expire(connection, job_id, now)  # what was made and could not be charged for is nobody's
    release_held(connection, order_id=job_id, now=now)
    owe(connection, job_id=job_id, now=now)
    return True


def owe(connection: sa.Connection, *, job_id: str, now: int) -> bool:
    """Owe the payer of a failed job what was taken for it; `False` if nothing was taken, or it is owed already."""
    lock_order(connection, job_id)  # a job that fails and a payment that settles must not pass each other
    owed = (
        sa.select(
            payments.c.order_id,
            payments.c.id,
            payments.c.rail,
            payments.c.amount,
            payments.c.payer,
            sa.literal("pending"),
            jobs.c.error_code,
            sa.literal(now),
            sa.literal(now),
        )
        .join_from(payments, jobs, jobs.c.id == payments.c.order_id)
        .where(
            payments.c.order_id == job_id,
            payments.c.state == "settled",
            jobs.c.state == "failed",
            ~sa.exists().where(refunds.c.order_id == job_id),
        )
    )
    columns = ["order_id", "payment_id", "rail", "amount", "recipient", "state", "reason", "created_at", "updated_at"]
    return connection.execute(sa.insert(refunds).from_select(columns, owed)).rowcount == 1


def postpone(connection: sa.Connection, *, job: Stale, now: int) -> bool:
    """Put a job at the end of the sweep's line; `False` if it has ended or moved meanwhile, or another sweep was first."""
    seen = (jobs.c.id == job.id, jobs.c.updated_at == job.updated_at)
    statement = sa.update(jobs).where(*seen, jobs.c.state.in_(("pending", "loading"))).values(updated_at=now)
    return connection.execute(statement).rowcount == 1


def delete_failed(connection: sa.Connection, *, job_id: str, wallet: str, now: int) -> bool:
    """Hide a failed job from its owner's list, and tell nothing more of it; the money's rows stay."""
    lock_order(connection, job_id)
    statement = (
        sa.update(jobs)
        .where(jobs.c.id == job_id, jobs.c.wallet == wallet, jobs.c.state == "failed", jobs.c.deleted_at.is_(None))
        .values(deleted_at=now)
    )
    if connection.execute(statement).rowcount != 1:
        return False
    touch(connection, job_id)
    webhooks.end(connection, order_id=job_id)
    return True


def order_input(connection: sa.Connection, job_id: str) -> tuple[str, str, str] | None:
    """Return (model, operation, input JSON) of a job's order."""
    row = connection.execute(_ORDERED, {"id": job_id}).first()
    return (row.model, row.operation, row.input) if row else None


def _close(connection: sa.Connection, job_id: str, values: dict[str, Any], *, now: int) -> bool:
    statement = (
        sa.update(jobs)
        .where(jobs.c.id == job_id, jobs.c.state.in_(("pending", "loading")))
        .values(finished_at=now, updated_at=now, **values)
    )
    lock_order(connection, job_id)
    if connection.execute(statement).rowcount != 1:
        return False
    touch(connection, job_id)
    webhooks.add(connection, order_id=job_id, type_=f"job.{values['state']}", now=now)
    return True


def _expire(connection: sa.Connection, job_id: str, expires_at: int | None) -> None:
    connection.execute(sa.update(assets).where(assets.c.job_id == job_id).values(expires_at=expires_at))


def _mark_submission(
    connection: sa.Connection, *, job_id: str, attempt: int, state: str, now: int, **more: Any
) -> bool:
    statement = (
        sa.update(submissions)
        .where(submissions.c.job_id == job_id, submissions.c.attempt == attempt, submissions.c.state == "intended")
        .values(state=state, updated_at=now, **more)
    )
    return connection.execute(statement).rowcount == 1
