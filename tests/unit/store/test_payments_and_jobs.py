"""The named queries: what may happen once happens once, and what has ended stays ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from stablestudio.store import jobs, nonces, payments, views
from stablestudio.store import refunds as refund_store
from stablestudio.store.database import Database
from stablestudio.store.locking import lock_order
from stablestudio.store.tables import refunds
from tests.doubles import NOW_MS, WALLET, fail, only_postgres, order, payment, sell

pytestmark = pytest.mark.anyio


async def _claim(database: Database, number: int, *, named: str | None = None, **changes: Any) -> payments.Payment:
    claimed = payment(number, **changes)
    made = order(number, idempotency_key=named)
    await database.write(lambda connection: payments.claim(connection, order=made, payment=claimed))
    return claimed


async def test_a_credential_is_claimed_once(database: Database) -> None:
    first = await _claim(database, 1)
    with pytest.raises(sa.exc.IntegrityError):
        await _claim(database, 2, named="k", key=first.key)
    assert database.fetch("SELECT id FROM orders") == [(first.order_id,)]


async def test_a_credential_of_another_rail_is_another_credential(database: Database) -> None:
    first = await _claim(database, 1)
    second = replace(payment(2), key=first.key, rail="elsewhere")
    await database.write(lambda connection: payments.claim(connection, order=order(2), payment=second))
    assert len(database.fetch("SELECT id FROM payments")) == 2


async def test_an_idempotency_key_opens_one_order_of_a_wallet(database: Database) -> None:
    await _claim(database, 1, named="k")
    with pytest.raises(sa.exc.IntegrityError):
        await _claim(database, 2, named="k")
    stranger = order(3, idempotency_key="k", wallet="eip155:0x" + "0" * 40)
    await database.write(lambda connection: payments.claim(connection, order=stranger, payment=payment(3)))
    assert len(database.fetch("SELECT id FROM orders")) == 2


async def test_orders_without_a_key_do_not_collide(database: Database) -> None:
    await _claim(database, 1)
    await _claim(database, 2)
    assert len(database.fetch("SELECT id FROM orders")) == 2


async def test_the_holder_is_found_by_credential_before_key(database: Database) -> None:
    by_key, by_credential = await _claim(database, 1, named="k"), await _claim(database, 2)
    asked = order(3, idempotency_key="k")

    def holder(credential: str) -> Callable[[sa.Connection], payments.Payment | None]:
        tried = replace(payment(3), key=credential)
        return lambda connection: payments.find_holder(connection, order=asked, payment=tried)

    assert await database.read(holder(by_credential.key)) == by_credential
    assert await database.read(holder("unheard of")) == by_key


async def test_a_rejection_gives_credential_and_key_back(database: Database) -> None:
    first = await _claim(database, 1, named="k")
    assert await database.write(
        lambda connection: payments.reject(connection, payment=first, reason="insufficient_funds", now=NOW_MS)
    )
    again = await _claim(database, 2, named="k", key=first.key)
    found = await database.read(lambda connection: payments.find_by_key(connection, rail=first.rail, key=first.key))
    assert found == again


_OUTCOMES: dict[str, Callable[[sa.Connection, payments.Payment], bool]] = {
    "settled": lambda c, p: payments.settle(c, payment=p, transaction="0x01", now=NOW_MS + 1),
    "rejected": lambda c, p: payments.reject(c, payment=p, reason="insufficient_funds", now=NOW_MS + 1),
    "unknown": lambda c, p: payments.mark_unknown(c, payment=p, reason="timeout", now=NOW_MS + 1),
}


async def test_what_was_held_for_rejected_and_moved_after_all_is_settled(database: Database) -> None:
    claimed = await _claim(database, 1)
    assert await database.write(lambda connection: _OUTCOMES["rejected"](connection, claimed))
    assert await database.write(lambda connection: _OUTCOMES["settled"](connection, claimed))
    assert database.fetch("SELECT state FROM payments") == [("settled",)]


@pytest.mark.parametrize(
    ("first", "later"),
    [
        (first, later)
        for first in ("settled", "rejected")
        for later in _OUTCOMES
        if (first, later) != ("rejected", "settled")
    ],
)
async def test_a_known_outcome_is_never_changed(database: Database, first: str, later: str) -> None:
    claimed = await _claim(database, 1)
    assert await database.write(lambda connection: _OUTCOMES[first](connection, claimed))
    before = database.fetch("SELECT * FROM payments")
    assert not await database.write(lambda connection: _OUTCOMES[later](connection, claimed))
    assert database.fetch("SELECT * FROM payments") == before


@pytest.mark.parametrize("later", _OUTCOMES)
async def test_an_unknown_outcome_may_still_become_known(database: Database, later: str) -> None:
    claimed = await _claim(database, 1)
    assert await database.write(lambda connection: _OUTCOMES["unknown"](connection, claimed))
    assert await database.write(lambda connection: _OUTCOMES[later](connection, claimed))
    assert database.fetch("SELECT state FROM payments") == [(later,)]


async def test_open_payments_are_the_quiet_ones_oldest_first(database: Database) -> None:
    for number, (age, state) in enumerate(
        [(5, "claimed"), (9, "unknown"), (7, "settled"), (8, "rejected"), (0, "claimed")]
    ):
        await _claim(database, number, state=state, updated_at=NOW_MS - age * 1000)
    found = await database.read(lambda connection: payments.open_payments(connection, before=NOW_MS - 5000))
    assert [one.id for one in found] == [payment(1).id, payment(0).id]


async def test_a_failed_job_owes_its_payer_what_was_paid_once(database: Database) -> None:
    job_id = await database.write(lambda connection: fail(connection, 1))
    again = await database.write(
        lambda connection: jobs.fail(connection, job_id=job_id, code="moderation", message="no", now=NOW_MS)
    )
    assert again is False
    (owed,) = await database.read(refund_store.open_refunds)
    paid = payment(1)
    assert (owed.order_id, owed.payment_id, owed.amount, owed.recipient, owed.rail) == (
        job_id,
        paid.id,
        paid.amount,
        paid.payer,
        paid.rail,
    )
    assert (owed.state, owed.signed, owed.reason) == ("pending", None, "upstream_error")


async def test_a_job_ends_once(database: Database) -> None:
    job_id = await database.write(lambda connection: sell(connection, 1))
    assert await database.write(lambda connection: jobs.complete(connection, job_id=job_id, now=NOW_MS))
    assert not await database.write(
        lambda connection: jobs.fail(connection, job_id=job_id, code="x", message="x", now=NOW_MS)
    )
    assert not await database.write(lambda connection: jobs.complete(connection, job_id=job_id, now=NOW_MS))
    assert await database.read(refund_store.open_refunds) == []


async def test_a_failed_job_is_not_completed_afterwards(database: Database) -> None:
    job_id = await database.write(lambda connection: fail(connection, 1))
    assert not await database.write(lambda connection: jobs.complete(connection, job_id=job_id, now=NOW_MS))
    assert database.fetch("SELECT state FROM jobs") == [("failed",)]


async def test_an_attempt_is_intended_once(database: Database) -> None:
    job_id = await database.write(lambda connection: sell(connection, 1))

    def intend(connection: sa.Connection) -> bool:
        return jobs.intend(connection, job_id=job_id, attempt=1, provider="fake", now=NOW_MS)

    assert [await database.write(intend) for _ in range(3)] == [True, False, False]


def _accept(connection: sa.Connection, job_id: str) -> None:
    jobs.intend(connection, job_id=job_id, attempt=1, provider="fake", now=NOW_MS)
    jobs.accept(connection, job_id=job_id, attempt=1, provider="fake", task="t", upstream_model="m", now=NOW_MS)


async def test_an_answer_that_comes_after_another_process_found_out_changes_nothing(database: Database) -> None:
    job_id = await database.write(lambda connection: sell(connection, 1))
    await database.write(partial(jobs.intend, job_id=job_id, attempt=1, provider="fake", now=NOW_MS))
    await database.write(partial(jobs.refuse, job_id=job_id, attempt=1, reason="rate_limited", now=NOW_MS))
    late = {"job_id": job_id, "attempt": 1, "provider": "fake", "task": "t", "upstream_model": "m"}
    await database.write(lambda connection: jobs.accept(connection, **late, now=NOW_MS))  # type: ignore[arg-type]
    assert database.fetch("SELECT state, task FROM jobs") == [("pending", None)]
    assert database.fetch("SELECT state FROM submissions") == [("refused",)]


async def test_progress_never_goes_back(database: Database) -> None:
    job_id = await database.write(lambda connection: sell(connection, 1))
    await database.write(lambda connection: _accept(connection, job_id))
    for progress in (10, 50, 30):
        await database.write(partial(jobs.set_progress, progress={job_id: progress}, now=NOW_MS))
    assert database.fetch("SELECT progress, state FROM jobs") == [(50, "loading")]


@only_postgres
async def test_progress_waits_for_nobody_who_holds_an_order(database: Database) -> None:
    held, free = [await database.write(partial(sell, number=number)) for number in (1, 2)]
    for job_id in (held, free):
        await database.write(partial(_accept, job_id=job_id))
    with database.engine.begin() as other:
        lock_order(other, held)
        await database.write(partial(jobs.set_progress, progress={held: 10, free: 20}, now=NOW_MS))
    assert sorted(database.fetch("SELECT id, progress FROM jobs")) == sorted([(held, 0), (free, 20)])


async def test_a_refund_is_signed_sent_and_settled_in_this_order_only(database: Database) -> None:
    job_id = await database.write(lambda connection: fail(connection, 1))

    def sign(text: str) -> Callable[[sa.Connection], bool]:
        return lambda connection: refund_store.sign_refund(connection, order_id=job_id, signed=text, now=NOW_MS)

    def settle(connection: sa.Connection) -> bool:
        return refund_store.settle_refund(connection, order_id=job_id, transaction="0x02", now=NOW_MS)

    def forget(text: str) -> Callable[[sa.Connection], bool]:
        return lambda connection: refund_store.forget_signature(connection, order_id=job_id, signed=text, now=NOW_MS)

    steps = [
        settle,
        sign("a"),
        sign("b"),
        forget("b"),
        forget("a"),
        forget("a"),
        sign("c"),
        settle,
        settle,
        forget("c"),
    ]
    results = [await database.write(step) for step in steps]
    assert results == [False, True, False, False, True, False, True, True, False, False]
    assert await database.read(refund_store.open_refunds) == []


async def test_an_order_has_at_most_one_refund(database: Database) -> None:
    await database.write(lambda connection: fail(connection, 1))
    row = database.fetch("SELECT * FROM refunds")[0]
    copy = dict(zip(refunds.c.keys(), row, strict=True)) | {"order_id": order(2).id}
    await database.write(lambda connection: sell(connection, 2))
    with pytest.raises(sa.exc.IntegrityError):
        await database.write(lambda connection: connection.execute(sa.insert(refunds), copy).close())


async def test_only_an_own_failed_job_is_hidden(database: Database) -> None:
    failed = await database.write(lambda connection: fail(connection, 1))
    going = await database.write(lambda connection: sell(connection, 2))

    def delete(job_id: str, wallet: str) -> Callable[[sa.Connection], bool]:
        return lambda connection: jobs.delete_failed(connection, job_id=job_id, wallet=wallet, now=NOW_MS)

    tried = [(failed, "eip155:0x00"), (going, WALLET), (failed, WALLET), (failed, WALLET)]
    assert [await database.write(delete(*case)) for case in tried] == [False, False, True, False]
    assert len(await database.read(refund_store.open_refunds)) == 1  # the money is owed nevertheless


async def test_a_nonce_burns_once_and_is_forgotten_when_it_no_longer_matters(database: Database) -> None:
    def burn(connection: sa.Connection) -> bool:
        return nonces.burn(connection, "n", expires_at=NOW_MS)

    assert [await database.write(burn) for _ in range(2)] == [True, False]
    assert await database.write(lambda connection: nonces.forget_expired(connection, now=NOW_MS)) == 0
    assert await database.write(lambda connection: nonces.forget_expired(connection, now=NOW_MS + 1)) == 1
    assert await database.write(burn) is True


_CHANGES: dict[str, Callable[[sa.Connection, str], object]] = {
    "accepted": _accept,
    "complete": lambda c, j: jobs.complete(c, job_id=j, now=NOW_MS),
    "failed": lambda c, j: jobs.fail(c, job_id=j, code="x", message="x", now=NOW_MS),
}


@pytest.mark.parametrize("change", _CHANGES)
async def test_every_visible_change_raises_the_revision(database: Database, change: str) -> None:
    job_id = await database.write(lambda connection: sell(connection, 1))
    before, shown = await views.revision(database, job_id), await views.find(database, job_id)
    await database.write(lambda connection: _CHANGES[change](connection, job_id))
    assert await views.find(database, job_id) != shown
    assert await views.revision(database, job_id) != before


async def test_refund_and_deletion_raise_the_revision(database: Database) -> None:
    job_id = await database.write(lambda connection: fail(connection, 1))
    works: list[Callable[[sa.Connection], object]] = [
        lambda c: refund_store.sign_refund(c, order_id=job_id, signed="a", now=NOW_MS),
        lambda c: refund_store.settle_refund(c, order_id=job_id, transaction="0x02", now=NOW_MS),
        lambda c: jobs.delete_failed(c, job_id=job_id, wallet=WALLET, now=NOW_MS),
    ]
    for work in works:
        before, shown = await views.revision(database, job_id), await views.find(database, job_id)
        await database.write(work)
        assert await views.find(database, job_id) != shown
        assert await views.revision(database, job_id) != before


async def test_a_wallets_list_has_its_own_orders_but_the_rejected_and_deleted(database: Database) -> None:
    await database.write(lambda connection: sell(connection, 1))
    await database.write(lambda connection: sell(connection, 2, wallet="eip155:0x" + "0" * 40))
    await _claim(database, 3)
    await _claim(database, 4, state="rejected")
    gone = await database.write(lambda connection: fail(connection, 5))
    await database.write(lambda connection: jobs.delete_failed(connection, job_id=gone, wallet=WALLET, now=NOW_MS))
    listed = views.of_wallet(database, WALLET, limit=10, state=None, before=None)
    assert [view.id for view in listed] == [order(3).id, order(1).id]
    assert [view.id for view in views.of_wallet(database, WALLET, limit=10, state=None, before=order(3).id)] == [
        order(1).id
    ]
    pending = views.of_wallet(database, WALLET, limit=1, state="pending", before=None)
    assert [view.id for view in pending] == [order(3).id]
