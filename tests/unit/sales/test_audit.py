"""The audit finds what must not exist, and nothing where all is well."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa

from stablestudio.money import Money
from stablestudio.payments.rail import Outcome, Rejected, Settled, Unknown
from stablestudio.sales import audit as audits
from stablestudio.sales.audit import Finding, Tally, audit
from stablestudio.store import echoes, jobs, payments, refunds
from stablestudio.store.database import Database
from tests.doubles import NOW_MS, USDC, WALLET, fail, order, payment, sell, tamper

from .shop import Shop

pytestmark = pytest.mark.anyio

PAID = Settled(transaction="0x01")  # as the scripted chain answers
DELIVERED, REFUNDED, WAITING, REJECTED, HELD, RELEASED, UNKNOWN, CHARGING, LATE = range(1, 10)


def _id(number: int) -> str:
    return order(number).id


def _upload(number: int, wallet: str) -> str:
    return f"""
        INSERT INTO uploads (id, order_id, wallet, pathname, content_type, state, created_at, expires_at)
        SELECT 'u', id, {wallet}, 'p', 'image/png', 'reserved', 0, 0 FROM orders WHERE id = '{_id(number)}'"""


def _asset(number: int) -> jobs.Asset:
    return jobs.Asset(
        key=f"{_id(number)}/a.png",
        job_id=_id(number),
        role="result",
        content_type="image/png",
        size=1,
        sha256="0",
        width=1,
        height=1,
        milliseconds=None,
        created_at=NOW_MS,
    )


def _deliver(connection: sa.Connection, number: int) -> None:
    jobs.insert_asset(connection, _asset(number))
    assert jobs.complete(connection, job_id=_id(number), now=NOW_MS)


def _hold(connection: sa.Connection, number: int) -> payments.Payment:
    held = payment(number, state="held", policy="complete", expires_at=NOW_MS + 60_000)
    payments.claim(connection, order=order(number), payment=held)
    jobs.insert(connection, order_id=held.order_id, wallet=WALLET, type_="nano-banana-generate", now=NOW_MS)
    return held


def _write_books(connection: sa.Connection) -> None:
    """Write one order of each good end, and of each state on the way there."""
    sell(connection, DELIVERED)
    jobs.intend(connection, job_id=_id(DELIVERED), attempt=1, provider="fake", now=NOW_MS)
    _deliver(connection, DELIVERED)
    fail(connection, REFUNDED)
    refunds.sign_refund(connection, order_id=_id(REFUNDED), signed="{}", now=NOW_MS)
    refunds.settle_refund(connection, order_id=_id(REFUNDED), transaction="0xr", now=NOW_MS)
    owed = refunds.find(connection, fail(connection, WAITING))
    assert owed is not None
    refunds.hold(connection, refund=owed, reason="daily_cap")
    payments.claim(connection, order=order(REJECTED), payment=payment(REJECTED))
    payments.reject(connection, payment=payment(REJECTED), reason="insufficient_funds", now=NOW_MS)
    _hold(connection, HELD)
    _hold(connection, RELEASED)
    jobs.fail(connection, job_id=_id(RELEASED), code="upstream_error", message="no", now=NOW_MS)
    payments.claim(connection, order=order(UNKNOWN), payment=payment(UNKNOWN))
    payments.mark_unknown(connection, payment=payment(UNKNOWN), reason="timeout", now=NOW_MS)
    payments.begin_charge(connection, payment=_hold(connection, CHARGING), now=NOW_MS)
    late = _hold(connection, LATE)
    payments.begin_charge(connection, payment=late, now=NOW_MS)
    payments.settle(connection, payment=replace(late, state="claimed"), transaction="0xl", now=NOW_MS)
    _deliver(connection, LATE)
    echo = echoes.Echo(key="e", rail="r", order_id=_id(DELIVERED), created_at=NOW_MS)
    echoes.remember(connection, echo, window_ms=1)


@pytest.fixture
async def books(database: Database) -> Database:
    await database.write(_write_books)
    return database


async def test_good_books_are_without_a_breach_and_what_is_on_its_way_is_named(books: Database) -> None:
    report = await audit(books)
    assert report.breaches == []
    assert {(found.what, found.order_id) for found in report.open} == {
        ("refund that waits", _id(WAITING)),
        ("payment held until the work is done", _id(HELD)),
        ("job that has not ended", _id(HELD)),
        ("payment whose outcome is not known", _id(UNKNOWN)),
        ("payment whose outcome is not known", _id(CHARGING)),
        ("job that has not ended", _id(CHARGING)),
    }
    assert report.compared == 0


async def test_each_order_counts_once_by_its_end_with_its_dollars(books: Database) -> None:
    counted = {"delivered": 2, "never_charged": 2, "open": 4, "refunded": 1}
    assert (await audit(books)).tallies == [
        Tally(
            outcome=outcome,
            network="eip155:84532",
            asset=USDC.contract,
            orders=orders,
            amount=orders * 45_000,
            price=Money(orders * 45_000),
        )
        for outcome, orders in counted.items()
    ]


async def test_an_empty_house_is_healthy(database: Database) -> None:
    report = await audit(database)
    assert (report.breaches, report.open, report.tallies) == ([], [], [])


# Each breach, and how the books come to have it.
BREACHES = {
    "order without exactly one payment": f"DELETE FROM payments WHERE order_id = '{_id(REJECTED)}'",
    "one credential with two live payments": "DROP INDEX uq_payments_rail_key; UPDATE payments SET key = 'x'",
    "settled payment without a transaction": 'UPDATE payments SET "transaction" = NULL',
    "payment given back that has a transaction": f"""
        UPDATE payments SET "transaction" = '0x99' WHERE order_id = '{_id(RELEASED)}'""",
    "two payments with one transaction": "UPDATE payments SET \"transaction\" = '0x00' WHERE state = 'settled'",
    "upload whose payment is not settled": _upload(HELD, "wallet"),
    "upload of another wallet than the order's": _upload(DELIVERED, "'eip155:0x00'"),
    "payment taken or held without a job or an upload": f"DELETE FROM jobs WHERE id = '{_id(HELD)}'",
    "job whose payment is not settled": f"UPDATE payments SET state = 'unknown' WHERE order_id = '{_id(DELIVERED)}'",
    "failed job whose payment is still held": f"UPDATE jobs SET state = 'failed' WHERE id = '{_id(HELD)}'",
    "job of another wallet than the order's": "UPDATE jobs SET wallet = 'eip155:0x00'",
    "two submissions to vendors under way": """
        INSERT INTO submissions (job_id, attempt, provider, state, created_at, updated_at)
        SELECT job_id, 2, provider, 'intended', created_at, updated_at FROM submissions""",
    "complete job without exactly one result": "DELETE FROM assets",
    "failed job that was charged, without a refund": "DELETE FROM refunds",
    "refund of a job that did not fail": f"UPDATE jobs SET state = 'complete' WHERE id = '{_id(WAITING)}'",
    "refund of a payment that was not taken": f"UPDATE payments SET state = 'held' WHERE order_id = '{_id(REFUNDED)}'",
    "refund of more than was paid": "UPDATE refunds SET amount = amount + 1",
    "refund of less than was paid, or to another address, or in another token": """
        UPDATE refunds SET recipient = '0x01'""",
    "refund that arrived without a transaction": 'UPDATE refunds SET "transaction" = NULL',
    "two refunds with one transaction": """
        UPDATE refunds SET state = 'refunded', "transaction" = '0xr'""",
    "echo of an order that does not exist": "UPDATE echoes SET order_id = 'job_x'",
    audits.ANOTHER_PRICE: f"UPDATE payments SET amount = amount - 1 WHERE order_id = '{_id(DELIVERED)}'",
}
# The other things that a question of several asks for.
_ANOTHER_REFUND = "refund of less than was paid, or to another address, or in another token"
CLAUSES = [
    (_ANOTHER_REFUND, "UPDATE refunds SET amount = amount - 1"),
    (_ANOTHER_REFUND, "UPDATE refunds SET rail = 'x402:eip155:1:0x01'"),
    (_ANOTHER_REFUND, f"UPDATE refunds SET payment_id = '{payment(DELIVERED).id}' WHERE order_id = '{_id(REFUNDED)}'"),
    ("payment taken or held without a job or an upload", f"DELETE FROM jobs WHERE id = '{_id(DELIVERED)}'"),
    (
        "complete job without exactly one result",
        """INSERT INTO assets (key, job_id, role, content_type, size, sha256, width, height, created_at)
        SELECT key || 'x', job_id, role, content_type, size, sha256, width, height, created_at FROM assets""",
    ),
]


def test_every_question_is_put_to_the_test() -> None:
    assert BREACHES.keys() == {*audits.NEVER, audits.ANOTHER_PRICE}


@pytest.mark.parametrize(("name", "script"), [*BREACHES.items(), *CLAUSES])
async def test_a_breach_is_found_and_named_with_its_order(books: Database, name: str, script: str) -> None:
    tamper(books, script)
    found = [finding.order_id for finding in (await audit(books)).breaches if finding.what == name]
    assert found
    assert all(each.startswith("job_") for each in found)


@pytest.mark.parametrize(
    ("state", "policy", "job", "breached"),
    [
        ("held", "complete", "loading", False),
        ("claimed", "complete", "loading", False),
        ("unknown", "complete", "failed", False),
        ("rejected", "complete", "loading", False),
        ("rejected", "complete", "failed", False),
        ("released", "complete", "failed", False),
        ("held", "complete", "complete", True),
        ("released", "complete", "complete", True),
        ("rejected", "accept", "failed", True),
        ("unknown", "accept", "pending", True),
    ],
)
async def test_work_may_come_before_the_money_only_where_that_was_agreed(
    books: Database, state: str, policy: str, job: str, *, breached: bool
) -> None:
    tamper(
        books,
        f"UPDATE payments SET state = '{state}', policy = '{policy}' WHERE order_id = '{_id(HELD)}';"
        f"UPDATE jobs SET state = '{job}' WHERE id = '{_id(HELD)}'",
    )
    names = {finding.what for finding in (await audit(books)).breaches}
    assert ("job whose payment is not settled" in names) is breached


async def test_a_paid_order_is_compared_with_its_chain(shop: Shop) -> None:
    sold = await shop.sell(shop.purchase())
    shop.chain.finds = [PAID]
    report = await audit(shop.database, rails={shop.rail.name: shop.rail})
    assert (report.breaches, report.open) == ([], [Finding(what="job that has not ended", order_id=sold.job_id)])
    assert report.compared == 1


@pytest.mark.parametrize("said", [Unknown(reason="not_seen_on_chain"), Settled(transaction="0x99"), None])
async def test_a_transfer_that_the_chain_tells_otherwise_is_a_breach(shop: Shop, said: Outcome | None) -> None:
    sold = await shop.sell(shop.purchase())
    shop.chain.finds = [said or Rejected(reason="payment_expired", message="")]
    report = await audit(shop.database, rails={shop.rail.name: shop.rail})
    assert report.breaches == [Finding(what="transfer that the chain does not know", order_id=sold.job_id)]


async def test_a_chain_that_cannot_be_read_says_nothing_against_the_books(shop: Shop) -> None:
    sold = await shop.sell(shop.purchase())
    shop.chain.finds = [Unknown(reason="chain_not_readable")]
    report = await audit(shop.database, rails={shop.rail.name: shop.rail})
    assert report.breaches == []
    assert Finding(what="transfer that the chain could not tell of", order_id=sold.job_id) in report.open


async def test_a_rail_that_is_switched_off_is_named_and_not_asked(shop: Shop) -> None:
    sold = await shop.sell(shop.purchase())
    report = await audit(shop.database, rails={})
    assert (report.breaches, report.compared) == ([], 0)
    assert Finding(what="transfer on a rail that is not configured", order_id=sold.job_id) in report.open


async def test_what_was_given_back_and_settled_after_all_is_a_breach(books: Database) -> None:
    """A stranger may settle an authorization that we gave up, until it expires."""
    report = await audit(books, rails={payment(1).rail: _Chain(Settled(transaction="0xs"))})  # type: ignore[dict-item]
    given_back = [finding.order_id for finding in report.breaches if "given back" in finding.what]
    assert sorted(given_back) == [_id(REJECTED), _id(RELEASED)]


async def test_a_credential_that_was_refused_once_and_then_paid_another_order_is_no_breach(books: Database) -> None:
    key = payment(DELIVERED).key
    await books.write(
        lambda c: c.exec_driver_sql(f"UPDATE payments SET key = '{key}' WHERE state = 'rejected'").close()
    )
    report = await audit(books, rails={payment(1).rail: _Chain(Settled(transaction="0x01"))})  # type: ignore[dict-item]
    given_back = [finding.order_id for finding in report.breaches if "given back" in finding.what]
    assert given_back == [_id(RELEASED)]


async def test_refunds_are_compared_too_page_by_page(books: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audits, "_PAGE", 2)
    await books.write(
        lambda c: c.exec_driver_sql("UPDATE payments SET credential = coalesce(\"transaction\", '')").close()
    )
    await books.write(lambda c: c.exec_driver_sql('UPDATE refunds SET signed = "transaction"').close())
    report = await audit(books, rails={payment(1).rail: _Chain()})  # type: ignore[dict-item]
    assert report.compared == 7  # four settled, one rejected, one released, one refunded
    wrong = [finding.order_id for finding in report.breaches]
    assert wrong == [_id(REFUNDED)]


class _Chain:
    """A rail that says the same of every payment; or what the books say, where they keep it as the credential."""

    decimals = 6

    def __init__(self, said: Outcome | None = None) -> None:
        self._said = said

    async def find(self, saved: str) -> Outcome:
        return self._said or (Settled(transaction=saved) if saved else Unknown(reason="not_seen"))

    async def find_refund(self, signed: str) -> Outcome:
        return Settled(transaction="0xother")
