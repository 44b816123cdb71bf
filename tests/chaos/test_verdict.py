"""The monkey's verdict sees what must not be: two charges, two submissions, money that is gone, a job that is lost."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from .conftest import CLIP, DOOMED, Template
from .monkey.crowd import FUNDS, Order
from .monkey.house import House, Seat
from .monkey.lots import Lots
from .monkey.vendors import Ask
from .monkey.verdict import (
    FULL_RUN,
    Entry,
    _audit,
    _balances,
    _of_order,
    _of_vendors,
    _unknown_sales,
    breaches,
    shortfalls,
)
from .zygote import Zygote

DELIVERED = Entry(payment="settled", job="complete", refund=None, results=1)
REFUNDED = Entry(payment="settled", job="failed", refund="refunded", results=0)
RELEASED = Entry(payment="released", job="failed", refund=None, results=0)
UNPAID = Entry(payment="rejected", job=None, refund=None, results=0)
WALLET = "0xAbC"
Verdicts = list[Literal["accepted", "refused", "unclear"]]
SEVERAL, UNKNOWN, TOLD = "bought several jobs", "do not know a job", "its buyer was told"
NO_END, NO_JOB = "saw no good end", "without a job"
AGAIN, NOBODY, UNPAID_WORK = "were asked again", "no vendor accepted", "never charged, and vendors were asked"
NEVER_TOLD = "its buyer was never told"


def _order(ended: str, *jobs: str, number: int = 1, wallet: str = WALLET, price: int = 20_000) -> Order:
    return Order(number=number, wallet=wallet, path="/", body={}, price=price, ended=ended, jobs=set(jobs))


def _asks(*verdicts: Literal["accepted", "refused", "unclear"]) -> list[Ask]:
    return [Ask(vendor="bfl", verdict=verdict) for verdict in verdicts]


def _is_told(found: Sequence[str], *sentences: str) -> bool:
    """Tell whether a verdict says these sentences, in their order, and no other."""
    return len(found) == len(sentences) and all(part in told for part, told in zip(sentences, found, strict=True))


@pytest.mark.parametrize(
    ("order", "entry"),
    [
        (_order("complete", "a"), DELIVERED),
        (_order("refunded", "a"), REFUNDED),
        (_order("released", "a"), RELEASED),
        (_order("released", "a"), RELEASED._replace(payment="rejected")),
        (_order("refused", "a"), UNPAID),
        (_order("refused"), None),
        (_order("unasked"), None),
    ],
)
def test_a_good_end_is_no_breach(order: Order, entry: Entry | None) -> None:
    assert list(_of_order(order, {"a": entry} if entry else {})) == []


@pytest.mark.parametrize("entry", [DELIVERED, REFUNDED])
def test_a_try_that_was_given_back_beside_the_sale_is_no_breach(entry: Entry) -> None:
    order = _order("complete" if entry == DELIVERED else "refunded", "a", "b")
    assert list(_of_order(order, {"a": UNPAID, "b": entry})) == []


@pytest.mark.parametrize(
    ("order", "books", "sentences"),
    [
        (_order("complete", "a", "b"), {"a": DELIVERED, "b": DELIVERED}, [SEVERAL]),
        (_order("complete", "a", "b"), {"a": DELIVERED, "b": REFUNDED}, [SEVERAL, TOLD]),
        (_order("complete", "a", "b"), {"a": UNPAID, "b": UNPAID}, [TOLD, TOLD]),
        (_order("complete", "a", "b"), {"a": UNPAID._replace(payment="claimed"), "b": DELIVERED}, [SEVERAL, TOLD]),
        (_order("complete", "a"), {}, [UNKNOWN]),
        (_order("open"), {}, [NO_END]),
        (_order("another picture", "a"), {"a": DELIVERED}, [TOLD, NO_END]),
        (_order("open", "a"), {"a": DELIVERED}, [TOLD, NO_END]),
        *((_order(ended), {}, [NO_JOB]) for ended in ("complete", "refunded", "released")),
    ],
)
def test_each_rule_of_an_order_names_its_own_breach(
    order: Order, books: dict[str, Entry], sentences: list[str]
) -> None:
    assert _is_told(list(_of_order(order, books)), *sentences)


@pytest.mark.parametrize(
    ("ended", "entry"),
    [
        ("complete", REFUNDED),
        ("complete", DELIVERED._replace(payment="unknown")),
        ("complete", DELIVERED._replace(job="loading")),
        ("complete", DELIVERED._replace(refund="refunded")),
        ("complete", DELIVERED._replace(results=0)),
        ("complete", DELIVERED._replace(results=2)),
        ("refunded", DELIVERED),
        ("refunded", REFUNDED._replace(payment="rejected")),
        ("refunded", REFUNDED._replace(job="complete")),
        ("refunded", REFUNDED._replace(refund="pending")),
        ("refunded", REFUNDED._replace(refund=None)),
        ("refunded", REFUNDED._replace(results=1)),
        ("released", RELEASED._replace(payment="settled")),
        ("released", RELEASED._replace(job="complete")),
        ("refused", DELIVERED),
        ("refused", UNPAID._replace(payment="claimed")),
        ("unasked", UNPAID),
        ("unasked", DELIVERED),
    ],
)
def test_books_that_disagree_with_the_buyer_are_a_breach(ended: str, entry: Entry) -> None:
    assert _is_told(list(_of_order(_order(ended, "a"), {"a": entry})), TOLD)


@pytest.mark.parametrize(
    ("ended", "verdicts", "sentences"),
    [
        ("complete", ["accepted"], []),
        ("complete", ["refused", "refused", "accepted"], []),
        ("refunded", ["refused", "unclear"], []),
        ("refunded", [], []),
        ("complete", ["unclear", "accepted"], [AGAIN]),
        ("complete", ["accepted", "accepted"], [AGAIN]),
        ("refunded", ["accepted", "refused"], [AGAIN]),
        ("refunded", ["unclear", "unclear"], [AGAIN]),
        ("complete", ["refused"], [NOBODY]),
        ("complete", ["unclear"], [NOBODY]),
        ("complete", [], [NOBODY]),
        ("refused", ["accepted"], [UNPAID_WORK]),
        ("refused", ["refused"], [UNPAID_WORK]),
        ("unasked", ["accepted"], [UNPAID_WORK]),
    ],
)
def test_a_vendor_is_asked_again_only_after_a_certain_refusal(
    ended: str, verdicts: Verdicts, sentences: list[str]
) -> None:
    assert _is_told(list(_of_vendors(_order(ended), _asks(*verdicts))), *sentences)


@pytest.mark.parametrize(("asked_at", "is_breach"), [(99.0, False), (101.0, True)])
def test_a_thawed_worker_that_asks_without_a_fence_is_a_breach(asked_at: float, *, is_breach: bool) -> None:
    """Its job was given up and paid back by another while it was frozen: only the moment of its question tells."""
    order = _order("refunded", "a")
    order.ended_at = 100.0
    asks = [Ask(vendor="bfl", verdict="accepted", at=asked_at)]
    assert bool(list(_of_vendors(order, asks))) is is_breach


def _lots(*drawn: str) -> Lots:
    lots = Lots(1, "test", {"fine": 9, "kill": 1, "freeze": 1}, usual="fine")
    lots.drawn.update(drawn)
    return lots


def _sold(*ended: tuple[str, str]) -> list[Order]:
    return [replace(_order(end), by=by) for end, by in ended]


ALL = (("complete", "x402"), ("complete", "mpp"), ("refunded", "x402"), ("released", "x402"))


@pytest.mark.parametrize(
    ("jobs", "paid", "ended", "drawn", "missing"),
    [
        (100, 100, ALL[:1], ("kill",), []),
        (100, 99, ALL[:1], ("kill",), ["only 99 of 100"]),
        (100, 0, (), (), ["only 0 of 100", "nothing was delivered", "nothing was broken"]),
        (FULL_RUN, FULL_RUN, ALL, ("kill", "freeze"), []),
        (FULL_RUN, FULL_RUN, ALL, ("kill",), ["never happened: freeze"]),
        (FULL_RUN, FULL_RUN, ALL[1:], ("kill", "freeze"), ["nothing paid by x402"]),
        (FULL_RUN, FULL_RUN, ALL[:3], ("kill", "freeze"), ["no order ended 'released'"]),
    ],
)
def test_a_run_that_tried_too_little_proves_nothing(
    jobs: int, paid: int, ended: tuple[tuple[str, str], ...], drawn: tuple[str, ...], missing: list[str]
) -> None:
    found = shortfalls(_sold(*ended), jobs=jobs, paid=paid, minutes=20, lots=[_lots(*drawn)])
    assert len(found) == len(missing)
    assert all(line.startswith(begun) for line, begun in zip(found, missing, strict=True))


@pytest.mark.parametrize("payment", ["settled", "claimed", "unknown", "held"])
def test_a_sale_that_no_buyer_was_told_of_is_a_breach(payment: str) -> None:
    sold = DELIVERED._replace(payment=payment)
    assert list(_unknown_sales([_order("refused")], {"a": UNPAID, "b": RELEASED})) == []
    assert list(_unknown_sales([_order("complete", "a")], {"a": sold})) == []
    assert _is_told(list(_unknown_sales([_order("complete", "b")], {"a": sold})), NEVER_TOLD)


@pytest.mark.parametrize(("missing", "is_breach"), [(20_000, False), (20_001, True), (40_000, True), (0, True)])
def test_money_is_counted_to_the_unit_over_all_coins(missing: int, *, is_breach: bool) -> None:
    holdings = [("0xabc", 2, 2 * FUNDS), ("0xabc", 1, FUNDS - missing), ("0xdef", 1, 0)]
    told = [f"{missing} units are gone"] if is_breach else []
    assert _is_told(list(_balances(holdings, [_order("complete", "a")])), *told)


@pytest.mark.parametrize("ended", ["refunded", "released", "refused", "unasked"])
def test_what_was_not_delivered_costs_nothing(ended: str) -> None:
    assert list(_balances([("0xabc", 1, FUNDS)], [_order(ended, "a")])) == []
    assert _is_told(list(_balances([("0xabc", 1, FUNDS - 20_000)], [_order(ended, "a")])), "0 were charged")


@pytest.fixture
def house(books: Path, data: Path, zygote: Zygote) -> House:
    """A house of one process that is closed for the night, with one delivered and one refunded sale in its books."""
    shutil.copytree(books, data)
    return House(seats=[Seat(data, zygote=zygote, role="all", environment={})], server=None)


@pytest.fixture
def orders(house: House, template: Template) -> list[Order]:
    """What the buyer knows of them."""
    wares, wallet = {"complete": (1, CLIP), "failed": (2, DOOMED)}, template.key.address
    bought = [(str(job), *wares[str(state)]) for job, state in house.any.sql("SELECT id, state FROM jobs")]
    return [
        _order("complete" if ware.delivered else "refunded", job, number=number, wallet=wallet, price=ware.price)
        for job, number, ware in sorted(bought, key=lambda each: each[1])
    ]


def test_good_books_of_all_four_are_without_a_breach(house: House, orders: list[Order]) -> None:
    asks = {1: _asks("accepted"), 2: _asks("accepted")}
    elsewhere = _order("unasked", number=3)  # its wallet has money on other chains than the house's own
    assert breaches(house, [*orders, elsewhere], asks, outside=[("0xabc", 1, FUNDS)]) == []


def test_real_books_are_held_against_what_buyers_and_vendors_know(house: House, orders: list[Order]) -> None:
    house.any.sql("UPDATE refunds SET state = 'signed'")
    house.any.sql("UPDATE payments SET amount = amount - 1")
    found = breaches(house, orders[1:], {2: _asks("accepted", "accepted")}, outside=[])
    audited = ["payment of another amount", "refund of more than was paid", "refund that has not arrived"]
    for sentence in (*(f"audit: {what}" for what in audited), TOLD, AGAIN, NEVER_TOLD, "units are gone"):
        assert any(sentence in told for told in found), (sentence, found)


def test_an_audit_that_refuses_to_run_is_a_breach(data: Path, zygote: Zygote) -> None:
    house = House(seats=[Seat(data, zygote=zygote, role="all", environment={})], server=None)
    assert _is_told(list(_audit(house)), "the audit did not run")
