"""What an operator sees of refunds and can do about them, beside a service that may be running."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from stablestudio.cli import refunds as command
from stablestudio.clock import iso
from stablestudio.store import refunds as store
from tests.doubles import BUYER, NOW_MS, USDC, fail, order, payment, sell

from .books import Office

OWED, WAITING, SIGNED, REFUNDED, SOLD = range(1, 6)


def _id(number: int) -> str:
    return order(number).id


def _write(connection: sa.Connection) -> None:
    for number in (OWED, WAITING, SIGNED, REFUNDED):
        fail(connection, number, now=NOW_MS + number)
    owed = store.find(connection, _id(WAITING))
    assert owed is not None
    store.hold(connection, refund=owed, reason="below_minimum")
    for number in (SIGNED, REFUNDED):
        store.sign_refund(connection, order_id=_id(number), signed="{}", now=NOW_MS)
    store.postpone(connection, order_id=_id(SIGNED), reason="insufficient_funds", now=NOW_MS + 9_000)
    store.settle_refund(connection, order_id=_id(REFUNDED), transaction="0x" + "ab" * 32, now=NOW_MS)
    sell(connection, SOLD)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    made = Office.open(tmp_path / "data")
    made.write(_write)
    return made


def test_refunds_are_listed_as_one_object_a_line_oldest_first(office: Office) -> None:
    told = office.lines("refunds", "list")
    assert [(each["order"], each["state"]) for each in told] == [
        (_id(OWED), "pending"),
        (_id(WAITING), "waiting"),
        (_id(SIGNED), "signed"),
    ]
    assert {name: told[1][name] for name in ("reason", "amount", "currency", "amountAtomic", "asset", "network")} == {
        "reason": "below_minimum",
        "amount": "0.045",
        "currency": "USD",
        "amountAtomic": "45000",
        "asset": USDC.contract,
        "network": "eip155:84532",
    }
    assert (told[1]["rail"], told[1]["recipient"]) == (payment(1).rail, BUYER.address)
    assert (told[1]["createdAt"], told[1]["nextTryAt"], told[1]["lastTryAt"]) == (iso(NOW_MS + WAITING), None, None)
    assert told[2]["lastTryAt"] == iso(NOW_MS + 9_000)


def test_states_can_be_chosen_and_a_shortened_list_says_so(office: Office) -> None:
    (arrived,) = office.lines("refunds", "list", "--state", "refunded")
    assert (arrived["order"], arrived["transaction"]) == (_id(REFUNDED), "0x" + "ab" * 32)
    result = office.run("refunds", "list", "--limit", "2")
    assert len(result.stdout.splitlines()) == 2
    assert "more than these 2" in result.stderr
    assert "Waiting: 1. Next: stablestudio refunds approve ORDER" in result.stderr


def test_nothing_owed_is_no_line(tmp_path: Path) -> None:
    result = Office.open(tmp_path / "data").run("refunds", "list")
    assert (result.exit_code, result.stdout) == (0, "")


def test_people_get_a_table(office: Office) -> None:
    views = office.write(lambda c: store.listed(c, states=("pending", "waiting", "signed", "refunded"), limit=9))
    table = command._table(views, now=NOW_MS + 3 * 3600 * 1000)
    assert [line.split()[0] for line in table] == ["ORDER", _id(OWED), _id(WAITING), _id(SIGNED), _id(REFUNDED)]
    assert table[2].split() == [
        _id(WAITING),
        "waiting",
        "$0.045",
        "0x036C..CF7e",
        "x402",
        "eip155:84532",
        f"{BUYER.address[:6]}..{BUYER.address[-4:]}",
        "2",
        "h",
        "below_minimum",
    ]
    assert " now " in table[3]
    assert table[4].endswith("0xabab..abab")
    later = command._table(views[2:3], now=NOW_MS + 9_000)
    assert " in 8 s " in later[1]


def test_a_refund_of_another_amount_than_was_paid_is_not_given_in_dollars(office: Office) -> None:
    office.rows(f"UPDATE refunds SET amount = 7 WHERE order_id = '{_id(OWED)}' RETURNING 1")
    assert office.lines("refunds", "list")[0]["amount"] is None
    views = office.write(lambda c: store.listed(c, states=("pending",), limit=9))
    assert " 7 units " in command._table(views, now=NOW_MS)[1]


def test_a_waiting_refund_is_approved_once_and_again_without_harm(office: Office) -> None:
    for _ in range(2):
        told = office.json("refunds", "approve", _id(WAITING))
        assert (told["success"], told["refund"]["state"], told["refund"]["reason"]) == (True, "pending", None)
        assert told["refund"]["approvedAt"] is not None
    ((approved,),) = office.rows(f"SELECT approved_at = updated_at FROM refunds WHERE order_id = '{_id(WAITING)}'")
    assert approved == 1


@pytest.mark.parametrize(
    ("number", "code", "part"),
    [
        (OWED, "refund_not_waiting", "is pending and pays without approval"),
        (REFUNDED, "refund_not_waiting", "is refunded in transaction 0xabab"),
        (SOLD, "refund_not_found", "no refund of an order"),
        (99, "refund_not_found", "no refund of an order"),
    ],
)
def test_what_does_not_wait_is_not_approved(office: Office, number: int, code: str, part: str) -> None:
    before = office.rows("SELECT * FROM refunds")
    told = office.json("refunds", "approve", _id(number), code=2)
    assert (told["code"], told["exitCode"], told["charged"]) == (code, 2, False)
    assert part in told["error"]
    assert office.rows("SELECT * FROM refunds") == before


def test_a_retry_ends_the_pause_and_may_be_repeated(office: Office) -> None:
    for _ in range(2):
        told = office.json("refunds", "retry", _id(SIGNED))
        assert (told["refund"]["state"], told["refund"]["lastTryAt"]) == ("signed", None)


def test_what_waits_for_a_rule_is_approved_and_not_retried(office: Office) -> None:
    refused = office.run("refunds", "retry", _id(WAITING))
    assert refused.exit_code != 0
    assert "refunds approve" in refused.output


def test_what_has_arrived_is_left_alone_by_a_retry(office: Office) -> None:
    before = office.rows("SELECT * FROM refunds")
    assert office.json("refunds", "retry", _id(REFUNDED))["refund"]["state"] == "refunded"
    assert office.rows("SELECT * FROM refunds") == before


def test_all_are_tried_again_but_what_a_limit_holds_back(office: Office) -> None:
    assert sorted(office.json("refunds", "retry", "--all")["orders"]) == [_id(OWED), _id(SIGNED)]
    assert office.rows("SELECT count(*) FROM refunds WHERE state = 'waiting'") == [(1,)]


@pytest.mark.parametrize("arguments", [("retry",), ("retry", "job_1", "--all"), ("approve",), ("list", "--state", "x")])
def test_wrong_usage_changes_nothing(office: Office, arguments: tuple[str, ...]) -> None:
    before = office.rows("SELECT * FROM refunds")
    assert office.run("refunds", *arguments).exit_code == 2
    assert office.rows("SELECT * FROM refunds") == before


COMMANDS: list[tuple[str, ...]] = [
    ("refunds", "list"),
    ("refunds", "approve", "x"),
    ("refunds", "retry", "x"),
    ("refunds", "retry", "--all"),
    ("audit",),
    ("audit", "--chain"),
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_folder_without_books_stays_as_it_is(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    told = Office(tmp_path / "none").json(*arguments, code=2)
    assert told["code"] == "books_missing"
    assert "--data" in told["next"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("revision", ["0001", "9999"])
def test_books_of_another_version_are_neither_read_nor_migrated(
    tmp_path: Path, arguments: tuple[str, ...], revision: str
) -> None:
    office = Office.open(tmp_path / "data", revision=revision)
    told = office.json(*arguments, code=2)
    assert told["code"] == "books_of_another_version"
    assert f"is {revision}" in told["error"]
    assert office.rows("SELECT version_num FROM alembic_version") == [(revision,)]


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    office = Office(tmp_path)
    office.path.write_text("no books at all, " * 100)
    told = office.json("refunds", "list", code=2)
    assert told["code"] == "books_unreadable"
    assert str(office.path) in told["error"]


def test_an_empty_database_has_no_schema(tmp_path: Path) -> None:
    office = Office(tmp_path)
    office.path.touch()
    assert office.json("refunds", "list", code=2)["code"] == "books_of_another_version"
    assert office.path.read_bytes() == b""


def test_wrong_settings_are_wrong_usage(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STABLESTUDIO_PORT", "many")
    told: dict[str, Any] = office.json("refunds", "list", code=2)
    assert told["code"] == "configuration_invalid"


def test_nothing_is_left_in_the_folder_but_the_books(office: Office) -> None:
    office.json("refunds", "approve", _id(WAITING))
    office.json("audit")
    assert {path.name for path in office.data.iterdir()} <= {
        "stablestudio.db",
        "stablestudio.db-wal",
        "stablestudio.db-shm",
    }
