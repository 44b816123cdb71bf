"""The rows of refunds: who may change what, once, and that the open ones are found quickly."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from stablestudio.store import refunds as store
from stablestudio.store.database import Database
from stablestudio.store.refunds import Refund
from stablestudio.store.tables import refunds
from tests.doubles import NOW_MS, USDC, fail, only_sqlite, payment, sell

pytestmark = pytest.mark.anyio

RAIL = payment(1).rail
Step = Callable[[sa.Connection], object]


async def _owe(database: Database, number: int = 1, **values: Any) -> str:
    order = await database.write(lambda connection: fail(connection, number))
    if values:
        statement = sa.update(refunds).where(refunds.c.order_id == order).values(**values)
        await database.write(lambda connection: connection.execute(statement).close())
    return order


async def _due(database: Database, *, now: int = NOW_MS, minimum: int = 0, room: int | None = None) -> list[str]:
    terms = {"rail": RAIL, "now": now, "minimum": minimum, "limit": 100}
    found = await database.read(lambda connection: store.due_refunds(connection, room=room, **terms))  # type: ignore[arg-type]
    return [refund.order_id for refund in found]


async def _find(database: Database, order: str) -> Refund:
    found = await database.read(lambda connection: store.find(connection, order))
    assert found is not None
    return found


def _rows(database: Database) -> list[tuple[object, ...]]:
    return database.fetch("SELECT state, signed, reason FROM refunds")


async def test_a_signature_is_renewed_by_whoever_knows_the_last_one(database: Database) -> None:
    order = await _owe(database)
    steps: list[Step] = [
        lambda c: store.renew_signature(c, order_id=order, signed="a", renewed="b"),
        lambda c: store.sign_refund(c, order_id=order, signed="a", now=NOW_MS),
        lambda c: store.renew_signature(c, order_id=order, signed="a", renewed="b"),
        lambda c: store.renew_signature(c, order_id=order, signed="a", renewed="c"),
        lambda c: store.settle_refund(c, order_id=order, transaction="0x02", now=NOW_MS),
        lambda c: store.renew_signature(c, order_id=order, signed="b", renewed="d"),
    ]
    assert [await database.write(step) for step in steps] == [False, True, True, False, True, False]
    assert _rows(database) == [("refunded", "b", None)]


async def test_the_moment_of_the_first_signature_stays(database: Database) -> None:
    order = await _owe(database)
    for now in (NOW_MS + 1, NOW_MS + 2):
        await database.write(partial(store.sign_refund, order_id=order, signed="a", now=now))
        await database.write(partial(store.forget_signature, order_id=order, signed="a", now=now))
    assert (await _find(database, order)).signed_at == NOW_MS + 1


async def test_a_refund_is_held_only_as_it_was_seen(database: Database) -> None:
    order = await _owe(database)
    seen = await _find(database, order)
    await database.write(lambda c: store.sign_refund(c, order_id=order, signed="a", now=NOW_MS))
    assert not await database.write(lambda c: store.hold(c, refund=seen, reason="daily_cap"))
    seen = await _find(database, order)
    hold: Step = lambda c: store.hold(c, refund=seen, reason="recipient_refused")  # noqa: E731
    assert [await database.write(hold) for _ in range(2)] == [True, False]
    assert _rows(database) == [("waiting", "a", "recipient_refused")]


async def test_only_waiting_refunds_are_approved(database: Database) -> None:
    order = await _owe(database)
    approve: Step = lambda c: store.approve(c, order_id=order, now=NOW_MS + 5)  # noqa: E731
    assert not await database.write(approve)
    seen = await _find(database, order)
    await database.write(lambda c: store.hold(c, refund=seen, reason="daily_cap"))
    assert [await database.write(approve) for _ in range(2)] == [True, False]
    found = await _find(database, order)
    assert (found.state, found.reason, found.approved_at, found.due_at) == ("pending", None, NOW_MS + 5, NOW_MS + 5)


async def test_what_is_signed_is_in_line_as_signed(database: Database) -> None:
    order = await _owe(database, state="waiting", signed="a", reason="recipient_refused")
    assert await database.write(lambda c: store.retry(c, order_id=order))
    assert _rows(database) == [("signed", "a", "recipient_refused")]


async def test_money_that_arrived_is_not_tried_again(database: Database) -> None:
    order = await _owe(database, state="refunded", signed="a", transaction="0x02")
    steps: list[Step] = [
        lambda c: store.retry(c, order_id=order),
        lambda c: store.approve(c, order_id=order, now=NOW_MS),
        lambda c: store.resume(c, order_id=order, signed="a"),
        lambda c: store.settle_refund(c, order_id=order, transaction="0x03", now=NOW_MS),
    ]
    assert [await database.write(step) for step in steps] == [False] * 4
    await database.write(lambda c: store.postpone(c, order_id=order, reason="x", now=NOW_MS + 1))
    assert _rows(database) == [("refunded", "a", "upstream_error")]


async def test_all_are_tried_again_but_what_a_limit_holds_back(database: Database) -> None:
    standing: list[dict[str, Any]] = [
        {"updated_at": NOW_MS + 60_000},
        {"state": "waiting", "reason": "recipient_refused"},
        {"state": "waiting", "reason": "daily_cap"},
        {"state": "refunded", "transaction": "0x02", "signed": "a"},
    ]
    orders = [await _owe(database, number, **values) for number, values in enumerate(standing)]
    assert sorted(await database.write(store.retry_all)) == orders[:2]
    assert await _due(database, room=0) == orders[:2]


async def test_refunds_that_are_due_come_oldest_first(database: Database) -> None:
    ages = {1: 10, 2: 30, 3: 20}
    orders = {
        number: await _owe(database, number, created_at=NOW_MS - age, updated_at=NOW_MS - age)
        for number, age in ages.items()
    }
    await _owe(database, 4, updated_at=NOW_MS + 1)
    await _owe(database, 5, rail="another")
    assert await _due(database) == [orders[2], orders[3], orders[1]]


@pytest.mark.parametrize(
    ("reason", "terms", "found"),
    [
        ("rail_missing", {}, True),
        ("below_minimum", {"minimum": 45_000}, True),
        ("below_minimum", {"minimum": 45_001}, False),
        ("daily_cap", {"room": 45_000}, True),
        ("daily_cap", {"room": 44_999}, False),
        ("daily_cap", {"room": None}, True),
        ("recipient_refused", {}, False),
    ],
)
async def test_what_waits_is_looked_at_when_its_reason_may_be_gone(
    database: Database, reason: str, terms: dict[str, int], *, found: bool
) -> None:
    await _owe(database, state="waiting", reason=reason, updated_at=NOW_MS + 10**9)
    assert (await _due(database, **terms) != []) is found


async def test_the_cap_counts_what_was_signed_on_this_rail_without_a_person(database: Database) -> None:
    standing: list[dict[str, Any]] = [
        {"signed_at": NOW_MS},
        {"signed_at": NOW_MS - 9, "state": "refunded"},
        {"signed_at": NOW_MS - 10},
        {"signed_at": NOW_MS, "approved_at": NOW_MS},
        {"signed_at": NOW_MS, "rail": "another"},
        {},
    ]
    for number, values in enumerate(standing):
        await _owe(database, number, **values)
    total = await database.read(lambda c: store.signed_amount(c, rail=RAIL, since=NOW_MS - 10))
    assert total == 2 * 45_000


_moments = st.integers(0, 2_000_000)


@given(created=_moments, updated=_moments, approved=st.none() | _moments)
@settings(max_examples=60)
def test_the_database_counts_pauses_as_the_code_does(created: int, updated: int, approved: int | None) -> None:
    refund = _sample(created=created, updated=updated, approved=approved)
    columns = {"created_at": created, "updated_at": updated, "approved_at": approved}
    source = sa.select(*(sa.literal(value, sa.BigInteger).label(name) for name, value in columns.items())).subquery()
    told = sa.select(_translated(store._DUE_AT, source)).select_from(source)
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        assert connection.execute(told).scalar_one() == refund.due_at
    engine.dispose()


def _translated(expression: sa.ColumnElement[int], source: sa.FromClause) -> sa.ColumnElement[int]:
    """Return an expression over the table's columns as one over another source's."""
    from sqlalchemy.sql import visitors

    def replace(element: object, **_: object) -> object:
        return source.c.get(element.name) if isinstance(element, sa.Column) else None

    return visitors.replacement_traverse(expression, {}, replace)


def _sample(*, created: int, updated: int, approved: int | None) -> Refund:
    return Refund(
        order_id="job_1",
        payment_id="pay_1",
        rail=RAIL,
        amount=1,
        recipient="0x",
        state="pending",
        signed=None,
        transaction=None,
        reason=None,
        created_at=created,
        updated_at=updated,
        signed_at=None,
        approved_at=approved,
    )


@only_sqlite
@pytest.mark.parametrize("states", [("pending", "signed", "waiting"), ("waiting",)])
async def test_open_refunds_are_found_by_their_index(database: Database, states: tuple[str, ...]) -> None:
    seen: list[str] = []

    def plan(connection: sa.Connection) -> list[str]:
        @sa.event.listens_for(connection, "before_cursor_execute")
        def _note(_c: object, _cursor: object, statement: str, *_: object) -> None:
            seen.append(statement)

        store.due_refunds(connection, rail=RAIL, now=NOW_MS, minimum=0, room=5, limit=100)
        store.open_refunds(connection, not_on=("a",))
        store.listed(connection, states=states, limit=10)
        sa.event.remove(connection, "before_cursor_execute", _note)
        plans = []
        for statement in [text for text in seen if text.startswith("SELECT")]:
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", (None,) * statement.count("?"))
            plans.append(" ".join(row[3] for row in rows))
        return plans

    plans = await database.read(plan)
    assert len(plans) == 3
    assert all("ix_refunds_open" in told for told in plans), plans


async def test_people_see_a_refund_beside_its_payment(database: Database) -> None:
    order = await _owe(database)
    await database.write(lambda c: sell(c, 2))
    view = await database.read(lambda c: store.view(c, order))
    assert view is not None
    assert (view.refund.order_id, view.asset, view.network, view.paid, view.price_micros) == (
        order,
        USDC.contract,
        "eip155:84532",
        45_000,
        45_000,
    )
    listed = await database.read(lambda c: store.listed(c, states=("pending",), limit=5))
    assert listed == [view]
    assert await database.read(lambda c: store.listed(c, states=("refunded",), limit=5)) == []
    assert await database.read(lambda c: store.view(c, payment(2).order_id)) is None


async def test_each_step_is_a_change_that_the_buyer_can_see(database: Database) -> None:
    order = await _owe(database)
    seen = await _find(database, order)
    steps: list[Step] = [
        lambda c: store.hold(c, refund=seen, reason="daily_cap"),
        lambda c: store.approve(c, order_id=order, now=NOW_MS),
        lambda c: store.sign_refund(c, order_id=order, signed="a", now=NOW_MS),
        lambda c: store.settle_refund(c, order_id=order, transaction="0x02", now=NOW_MS),
    ]
    for step in steps:
        before = database.fetch("SELECT revision FROM orders")
        assert await database.write(step)
        assert database.fetch("SELECT revision FROM orders") > before
