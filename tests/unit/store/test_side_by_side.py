"""Decisions about money by transactions that run side by side: the later one sees what the earlier one did."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from queue import SimpleQueue
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa

from stablestudio.payments.refund_policy import RefundLimits
from stablestudio.payments.refunds import RefundWorker
from stablestudio.store import echoes, jobs, payments, refunds, uploads, webhooks
from stablestudio.store.database import Database
from stablestudio.store.echoes import Echo, Echoed
from stablestudio.store.refunds import Refund
from tests.doubles import NOW_MS, ManualClock, fail, only_postgres, order, payment, sell

pytestmark = only_postgres
T = TypeVar("T")
ORDER = order(1).id


def write(database: Database, work: Callable[[sa.Connection], T]) -> T:
    with database.engine.begin() as connection:
        return work(connection)


def interleave(
    database: Database,
    first: Callable[[sa.Connection], Any],
    second: Callable[[sa.Connection], T],
    then: Callable[[sa.Connection], Any] = lambda _: None,
) -> T:
    """Begin the second after the first's decision, and let the first go on only when the second waits for its end."""
    pids: SimpleQueue[int] = SimpleQueue()

    def run(connection: sa.Connection) -> T:
        pids.put(_pid(connection))
        return second(connection)

    with ThreadPoolExecutor(1) as threads:
        with database.engine.begin() as connection:
            first(connection)
            running = threads.submit(write, database, run)
            _await_lock(database, pids.get(timeout=30), behind=_pid(connection), running=running)
            then(connection)
        return running.result(30)


def _pid(connection: sa.Connection) -> int:
    """Return the server's process of a connection, without a snapshot taken."""
    return int(connection.connection.driver_connection.info.backend_pid)  # type: ignore[union-attr]


def _await_lock(database: Database, pid: int, *, behind: int, running: Future[Any]) -> None:
    """Wait until one process of the server waits for a lock that the other one has."""
    deadline = time.monotonic() + 30
    while database.fetch(f"SELECT {behind} = ANY(pg_blocking_pids({pid}))") != [(True,)]:
        assert not running.done(), f"the second did not wait for the first: {running}"
        assert time.monotonic() < deadline, "the second neither ended nor waited"
        time.sleep(0.01)


def _hold(number: int) -> payments.Payment:
    return payment(number, state="held", policy="complete", expires_at=NOW_MS + 60_000)


def _refunds(database: Database) -> list[tuple[Any, ...]]:
    return database.fetch("SELECT order_id, state FROM refunds ORDER BY order_id")


@pytest.mark.parametrize("failure_first", [False, True])
def test_work_that_fails_as_its_payment_settles_is_refunded(database: Database, *, failure_first: bool) -> None:
    held = _hold(1)

    def charge(connection: sa.Connection) -> None:
        payments.claim(connection, order=order(1), payment=held)
        jobs.insert(connection, order_id=ORDER, wallet="w", type_="t", now=NOW_MS)
        payments.begin_charge(connection, payment=held, now=NOW_MS)

    def settle(connection: sa.Connection) -> None:
        assert payments.settle(connection, payment=held, transaction="0x1", now=NOW_MS)

    def owe(connection: sa.Connection) -> None:
        jobs.owe(connection, job_id=ORDER, now=NOW_MS)

    def settle_and_owe(connection: sa.Connection) -> None:
        settle(connection)
        owe(connection)

    def break_down(connection: sa.Connection) -> None:
        assert jobs.fail(connection, job_id=ORDER, code="c", message="m", now=NOW_MS)

    write(database, charge)
    if failure_first:
        interleave(database, break_down, settle_and_owe)
    else:
        interleave(database, settle, break_down, owe)
    assert _refunds(database) == [(ORDER, "pending")]


def test_held_payments_of_one_payer_are_counted_one_after_the_other(database: Database) -> None:
    def take(number: int) -> Callable[[sa.Connection], tuple[int, int]]:
        def work(connection: sa.Connection) -> tuple[int, int]:
            made = _hold(number)
            held = payments.held_by(connection, payer=made.payer, rail=made.rail)
            payments.claim(connection, order=order(number), payment=made)
            return held

        return work

    assert interleave(database, take(1), take(2)) == (payment(1).amount, 0)


def test_a_credential_is_not_claimed_while_it_is_spared(database: Database) -> None:
    write(database, lambda connection: sell(connection, 1))
    late = payment(2)

    def spare(connection: sa.Connection) -> None:
        echoes.require_not_spared(connection, rail=late.rail, key=late.key, ends_at=None)
        echoes.spare(
            connection, rail=late.rail, key=late.key, fingerprint="f", order_id=ORDER, expires_at=NOW_MS + 1000
        )

    def claim(connection: sa.Connection) -> None:
        echoes.require_not_spared(connection, rail=late.rail, key=late.key, ends_at=None)
        payments.claim(connection, order=order(2), payment=late)

    with pytest.raises(Echoed):
        interleave(database, spare, claim)


def test_of_two_echoes_at_once_one_is_an_order(database: Database) -> None:
    def claim(number: int, rail: str) -> Callable[[sa.Connection], None]:
        echo = Echo(key="e", rail=rail, order_id=order(number).id, created_at=NOW_MS)
        return lambda connection: payments.claim(
            connection, order=order(number), payment=payment(number, rail=rail), echo=echo, window_ms=1000
        )

    with pytest.raises(Echoed, match=ORDER):
        interleave(database, claim(1, "one"), claim(2, "two"))
    assert database.fetch("SELECT id FROM orders") == [(ORDER,)]


def test_the_same_credential_buys_one_order(database: Database) -> None:
    def claim(number: int) -> Callable[[sa.Connection], None]:
        return lambda connection: payments.claim(connection, order=order(number), payment=payment(number, key="k"))

    with pytest.raises(sa.exc.IntegrityError):
        interleave(database, claim(1), claim(2))


def test_a_rejected_order_that_is_settled_after_all_is_not_forgotten(database: Database) -> None:
    rejected = payment(1, state="rejected")

    def settle(connection: sa.Connection) -> None:
        assert payments.settle(connection, payment=rejected, transaction="0x1", now=NOW_MS)

    write(database, lambda connection: payments.claim(connection, order=order(1), payment=rejected))
    with database.engine.begin() as connection:
        settle(connection)
        assert write(database, lambda other: payments.forget_rejected(other, before=NOW_MS + 1)) == 0
    assert database.fetch("SELECT state FROM payments") == [("settled",)]
    assert write(database, lambda connection: payments.forget_rejected(connection, before=NOW_MS + 1)) == 0


def test_two_workers_do_not_pass_a_daily_cap_together(database: Database, clock: ManualClock) -> None:
    write(database, lambda connection: [fail(connection, number) for number in (1, 2)])
    first, second = (_owed(database, number) for number in (1, 2))
    limits = {first.rail: RefundLimits(daily_cap=first.amount)}
    rails: Any = {first.rail: None}
    worker = RefundWorker(database, rails=rails, limits=limits, clock=clock)

    def admit(refund: Refund) -> Callable[[sa.Connection], bool]:
        return lambda connection: worker._admit(connection, refund=replace(refund, signed="s"), known=None)

    assert interleave(database, admit(first), admit(second)) is False
    assert _refunds(database) == [(first.order_id, "signed"), (second.order_id, "waiting")]


def _owed(database: Database, number: int) -> Refund:
    found = write(database, lambda connection: refunds.find(connection, order(number).id))
    assert found is not None
    return found


def test_the_parts_of_an_upload_are_counted_together(database: Database) -> None:
    def add(number: int) -> Callable[[sa.Connection], object]:
        part = uploads.Part(session="s", number=number, key=f"k{number}", etag="e", size=60)
        return lambda connection: uploads.note_part(
            connection, upload_id="u", part=part, max_bytes=100, max_parts=9, now=NOW_MS
        )

    write(database, _reserve)
    with pytest.raises(uploads.TooMuch):
        interleave(database, add(1), add(2))


def test_an_upload_whose_file_is_there_takes_no_part(database: Database) -> None:
    def finish(connection: sa.Connection) -> None:
        assert uploads.store(connection, upload_id="u", key="k", size=1, sha256="s", now=NOW_MS)

    def add(connection: sa.Connection) -> None:
        part = uploads.Part(session="s", number=1, key="k1", etag="e", size=1)
        uploads.add_part(connection, upload_id="u", part=part)

    write(database, _reserve)
    with pytest.raises(uploads.Closed):
        interleave(database, finish, add)


def test_an_upload_that_is_confirmed_at_this_moment_is_not_given_up(database: Database) -> None:
    write(database, _reserve)
    write(database, lambda c: uploads.store(c, upload_id="u", key="k", size=1, sha256="s", now=NOW_MS))
    with database.engine.begin() as connection:
        assert uploads.confirm(connection, upload_id="u", key="k", now=NOW_MS)
        assert write(database, lambda other: uploads.abandon(other, before=NOW_MS + 1, limit=9)) == 0
    assert write(database, lambda other: uploads.abandon(other, before=NOW_MS + 1, limit=9)) == 0
    assert database.fetch("SELECT state FROM uploads") == [("confirmed",)]


def _is_asked_for(connection: sa.Connection) -> bool:
    return jobs.is_asked_for(connection, ORDER)


def _intend(connection: sa.Connection) -> bool:
    return jobs.intend(connection, job_id=ORDER, attempt=1, provider="p", now=NOW_MS)


def _fail(connection: sa.Connection) -> bool:
    return jobs.fail(connection, job_id=ORDER, code="c", message="m", now=NOW_MS)


def _complete(connection: sa.Connection) -> bool:
    return jobs.complete(connection, job_id=ORDER, now=NOW_MS)


def test_a_job_that_is_cancelled_is_asked_for_by_nobody(database: Database) -> None:
    write(database, lambda connection: sell(connection, 1))
    assert interleave(database, _is_asked_for, _intend, _fail) is False


def test_a_job_that_is_being_asked_for_is_not_cancelled_as_unasked(database: Database) -> None:
    write(database, lambda connection: sell(connection, 1))
    assert interleave(database, _intend, _is_asked_for) is True


@pytest.mark.parametrize(("first", "second"), [(_fail, _complete), (_complete, _fail)])
def test_a_job_ends_once_and_is_told_once(database: Database, first: Any, second: Any) -> None:
    write(database, lambda connection: sell(connection, 1, webhook_url="https://hooks.example"))
    assert interleave(database, first, second) is False
    state = "failed" if first is _fail else "complete"
    assert database.fetch("SELECT type FROM webhook_events") == [(f"job.{state}",)]
    assert _refunds(database) == ([(ORDER, "pending")] if first is _fail else [])


def test_of_two_workers_one_makes_the_next_try(database: Database) -> None:
    write(database, lambda connection: sell(connection, 1, webhook_url="https://hooks.example"))
    write(database, _complete)
    (event,) = write(database, lambda connection: webhooks.of_order(connection, ORDER))

    def take(connection: sa.Connection) -> bool:
        return webhooks.take(connection, event=event, now=NOW_MS, until=NOW_MS + 1)

    assert interleave(database, take, take) is False


def _reserve(connection: sa.Connection) -> None:
    sell(connection, 1)
    uploads.reserve(
        connection,
        uploads.Upload(
            id="u",
            order_id=ORDER,
            wallet="w",
            pathname="p",
            content_type="image/png",
            state="reserved",
            key=None,
            size=None,
            sha256=None,
            created_at=NOW_MS,
            expires_at=NOW_MS,
            stored_at=None,
            confirmed_at=None,
        ),
    )
