"""The audit's command: what it prints and what it returns."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from stablestudio.cli import audit as command
from stablestudio.money import Money
from stablestudio.sales.audit import Finding, Report, Tally
from stablestudio.store import refunds as store
from tests.doubles import NOW_MS, USDC, fail, order

from .books import Office


def _refund(connection: sa.Connection) -> None:
    for number in (1, 2):
        order_id = fail(connection, number)
        store.sign_refund(connection, order_id=order_id, signed="{}", now=NOW_MS)
    store.settle_refund(connection, order_id=order(1).id, transaction="0x9", now=NOW_MS)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    made = Office.open(tmp_path / "data")
    made.write(_refund)
    return made


def test_good_books_are_exit_code_0_with_the_sums_of_each_end(office: Office) -> None:
    told = office.json("audit")
    total = {"network": "eip155:84532", "asset": USDC.contract, "orders": 1, "amount": "0.045", "currency": "USD"}
    assert told == {
        "success": True,
        "orders": 2,
        "totals": [
            {"outcome": "open", "amountAtomic": "45000"} | total,
            {"outcome": "refunded", "amountAtomic": "45000"} | total,
        ],
        "breaches": [],
        "open": [{"what": "refund that has not arrived", "order": order(2).id}],
        "transfersCompared": 0,
    }


def test_a_breach_is_exit_code_1_with_its_name_and_order(office: Office) -> None:
    office.rows("DELETE FROM refunds WHERE state = 'refunded'")
    told = office.json("audit", code=1)
    assert told["success"] is False
    assert told["breaches"] == [{"what": "failed job that was charged, without a refund", "order": order(1).id}]


def test_the_chains_are_asked_with_the_secret_that_the_service_made(office: Office) -> None:
    told = office.json("audit", "--chain", code=2)
    assert told["code"] == "books_missing"
    assert not (office.data / "secret").exists()


def test_people_read_sums_then_what_is_open_then_the_verdict() -> None:
    tally = Tally(
        outcome="delivered", network="eip155:1", asset="0x00", orders=1_200, amount=5, price=Money.parse("90.5")
    )
    open_ = [Finding(what="refund that waits", order_id=f"job_{number}") for number in range(12)]
    lines = command._lines(Report(breaches=[], open=open_, tallies=[tally], compared=7), chain=True)
    assert lines[0].split() == ["Delivered", "and", "charged", "1,200", "$90.50", "0x00", "on", "eip155:1"]
    assert lines[1] == "Transfers compared with their chains: 7."
    assert lines[2:4] == ["  refund that waits: 12", "    job_0"]
    assert lines[-2:] == ["    and 2 more", "No breach."]


def test_people_read_every_breach() -> None:
    breaches = [Finding(what="a", order_id=f"job_{number}") for number in range(30)]
    lines = command._lines(Report(breaches=breaches, open=[], tallies=[]), chain=False)
    assert lines[:3] == ["No orders yet.", "Breaches: 30.", "  a: 30"]
    assert len(lines) == 33
