"""Decisions about money by transactions that run side by side: the later one sees what the earlier one did."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa

from stablestudio.payments.refund_policy import RefundLimits
from stablestudio.payments.refunds import RefundWorker
from stablestudio.store import echoes, jobs, payments, refunds, uploads
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
    """Begin the second after the first's decision, and let the first go on only when the second runs or waits."""
    begun = threading.Event()

    def run(connection: sa.Connection) -> T:
        begun.set()
        return second(connection)

    with ThreadPoolExecutor(1) as threads:
        with database.engine.begin() as connection:
            first(connection)
            running = threads.submit(write, database, run)
            assert begun.wait(30)
            with pytest.raises(TimeoutError):
                running.result(0.3)  # it waits for the first one's end
            then(connection)
        return running.result(30)


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
        echoes.require_not_spared(connection, rail=late.rail, key=late.key)
        echoes.spare(
            connection, rail=late.rail, key=late.key, fingerprint="f", order_id=ORDER, expires_at=NOW_MS + 1000
        )

    def claim(connection: sa.Connection) -> None:
        echoes.require_not_spared(connection, rail=late.rail, key=late.key)
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
        return lambda connection: uploads.add_part(connection, upload_id="u", part=part, max_bytes=100, now=NOW_MS)

    write(database, _reserve)
    with pytest.raises(uploads.TooMuch):
        interleave(database, add(1), add(2))


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
