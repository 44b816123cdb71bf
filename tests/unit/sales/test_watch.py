"""Payments that were given back are looked at until nobody can settle them, and none keeps another from being seen."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest

from stablestudio.payments.errors import InsufficientFunds
from stablestudio.payments.rail import Outcome, Rejected, Settled
from stablestudio.protocols.eip3009 import Authorization
from stablestudio.protocols.evm import EvmKey
from stablestudio.sales.reconcile import Reconciler
from tests.doubles import only_sqlite

from .shop import Shop

pytestmark = pytest.mark.anyio
STRANGER = EvmKey.from_hex("0x" + "5d" * 32)
POOR = Rejected(reason="insufficient_funds", message="")
_OVER = 300 + 121


async def test_what_was_sold_later_is_looked_at_once(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    shop.chain.submits[:] = [POOR, Settled(transaction="0x01")]
    purchase = shop.purchase()
    with pytest.raises(InsufficientFunds):
        await shop.sell(purchase)
    await shop.sell(purchase)
    asked: list[Authorization] = []

    async def find(authorization: Authorization) -> Outcome:
        asked.append(authorization)
        return Settled(transaction="0x01")

    shop.chain.finds[:] = [find]
    shop.clock.advance(_OVER)
    for _ in range(5):
        await shop.reconcile()
        shop.clock.advance(3600)
    assert len(asked) == 1
    assert not [record for record in caplog.records if record.getMessage() == "given_back_but_settled"]


async def test_a_hundred_that_nobody_can_tell_of_hide_no_other(shop: Shop) -> None:
    shop.chain.submits[:] = [POOR]
    for _ in range(100):
        with pytest.raises(InsufficientFunds):
            await shop.sell(shop.purchase())
    shop.clock.advance(1)
    shop.other_chain.submits[:] = [POOR]
    with pytest.raises(InsufficientFunds):
        await shop.sell(shop.purchase(other=True, buyer=STRANGER))
    shop.other_chain.finds[:] = [Settled(transaction="0xaa")]
    shop.clock.advance(_OVER)
    # The first rail is gone from the settings.
    reconciler = Reconciler(shop.database, rails=[shop.other], seller=shop.seller, clock=shop.clock)
    for _ in range(3):
        await reconciler.work_once(quiet_ms=0)
    assert len(shop.jobs()) == 1


@only_sqlite
@pytest.mark.parametrize(
    ("sql", "index"),
    [
        ("SELECT * FROM payments WHERE rail = 'r' AND key = 'k' AND state = 'rejected'", "ix_payments_rejected"),
        ("SELECT * FROM payments WHERE state IN ('claimed', 'unknown') AND updated_at <= 1", "ix_payments_open"),
    ],
)
async def test_the_database_knows_a_shorter_way(shop: Shop, sql: str, index: str) -> None:
    with closing(sqlite3.connect(shop.database.url.removeprefix("sqlite:///"))) as connection:
        plan = " ".join(str(row) for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}"))
    assert index in plan


@only_sqlite
async def test_no_question_of_the_sale_reads_the_whole_table(shop: Shop) -> None:
    """What the code really asks, as the database would run it: a bound state would hide the partial indexes."""
    from sqlalchemy.dialects import sqlite

    from stablestudio.store import payments

    asked: list[Any] = [payments._REJECTED, payments._OPEN, payments._WATCHED, payments._HELD, payments._BY_KEY]
    with closing(sqlite3.connect(shop.database.url.removeprefix("sqlite:///"))) as connection:
        for statement in asked:
            sql = str(statement.compile(dialect=sqlite.dialect()))
            steps = connection.execute(f"EXPLAIN QUERY PLAN {sql}", [1] * sql.count("?")).fetchall()
            assert not [step for step in steps if step[3].startswith("SCAN")], (sql, steps)
