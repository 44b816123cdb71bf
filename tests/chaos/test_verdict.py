"""The monkey's verdict sees what must not be: two charges, two submissions, money that is gone, a job that is lost."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest

from .monkey.crowd import FUNDS, Order
from .monkey.lots import Lots
from .monkey.vendors import Ask
from .monkey.verdict import FULL_RUN, Entry, _balances, _of_order, _of_vendors, _unknown_sales, shortfalls

DELIVERED = Entry(payment="settled", job="complete", refund=None, results=1)
REFUNDED = Entry(payment="settled", job="failed", refund="refunded", results=0)
UNPAID = Entry(payment="rejected", job=None, refund=None, results=0)
WALLET = "0xAbC"
Verdicts = list[Literal["accepted", "refused", "unclear"]]


def _order(ended: str, *jobs: str) -> Order:
    return Order(number=1, wallet=WALLET, path="/", body={}, price=20_000, ended=ended, jobs=set(jobs))


def _asks(verdicts: Verdicts) -> list[Ask]:
    return [Ask(vendor="bfl", verdict=verdict) for verdict in verdicts]


@pytest.mark.parametrize(
    ("order", "entry"),
    [
        (_order("complete", "a"), DELIVERED),
        (_order("refunded", "a"), REFUNDED),
        (_order("released", "a"), Entry(payment="released", job="failed", refund=None, results=0)),
        (_order("refused", "a"), UNPAID),
    ],
)
def test_a_good_end_is_no_breach(order: Order, entry: Entry) -> None:
    assert list(_of_order(order, {"a": entry})) == []


@pytest.mark.parametrize(
    ("order", "books"),
    [
        (_order("complete", "a"), {"a": REFUNDED}),
        (_order("complete", "a"), {"a": DELIVERED._replace(results=2)}),
        (_order("complete", "a"), {"a": DELIVERED._replace(refund="refunded")}),
        (_order("complete", "a"), {}),
        (_order("complete"), {}),
        (_order("complete", "a", "b"), {"a": DELIVERED, "b": DELIVERED}),
        (_order("refunded", "a"), {"a": REFUNDED._replace(refund="pending")}),
        (_order("refused", "a"), {"a": DELIVERED}),
        (_order("another picture", "a"), {"a": DELIVERED}),
        (_order("open", "a"), {"a": DELIVERED}),
    ],
)
def test_books_that_disagree_with_the_buyer_are_a_breach(order: Order, books: dict[str, Entry]) -> None:
    assert list(_of_order(order, books))


@pytest.mark.parametrize(
    ("ended", "verdicts", "is_breach"),
    [
        ("complete", ["accepted"], False),
        ("complete", ["refused", "refused", "accepted"], False),
        ("refunded", ["refused", "unclear"], False),
        ("refunded", [], False),
        ("complete", ["unclear", "accepted"], True),
        ("complete", ["accepted", "accepted"], True),
        ("refunded", ["accepted", "refused"], True),
        ("complete", ["refused"], True),
        ("refused", ["accepted"], True),
    ],
)
def test_a_vendor_is_asked_again_only_after_a_certain_refusal(
    ended: str, verdicts: Verdicts, *, is_breach: bool
) -> None:
    assert bool(list(_of_vendors(_order(ended), _asks(verdicts)))) is is_breach


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


def test_a_sale_that_no_buyer_was_told_of_is_a_breach() -> None:
    assert list(_unknown_sales([_order("refused")], {"a": UNPAID})) == []
    assert list(_unknown_sales([_order("refused")], {"a": DELIVERED}))


@pytest.mark.parametrize(("missing", "is_breach"), [(20_000, False), (20_001, True), (40_000, True), (0, True)])
def test_money_is_counted_to_the_unit_over_all_coins(missing: int, *, is_breach: bool) -> None:
    holdings = [("0xabc", 2, 2 * FUNDS), ("0xabc", 1, FUNDS - missing), ("0xdef", 1, 0)]
    assert bool(list(_balances(holdings, [_order("complete", "a")]))) is is_breach
