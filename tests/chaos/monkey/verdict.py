"""The verdict: four sets of books beside each other, the house's, the chain's, the buyers' and the vendors', to the unit."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from .crowd import FUNDS, RAILS, Order
from .house import House
from .lots import Lots
from .vendors import Ask

_REST_SECONDS = 600.0
_OPEN = """
    SELECT (SELECT count(*) FROM payments WHERE state IN ('claimed', 'unknown', 'held'))
         + (SELECT count(*) FROM jobs WHERE state IN ('pending', 'loading'))
         + (SELECT count(*) FROM refunds WHERE state <> 'refunded')"""
_BOOKS = """
    SELECT o.id, p.state, j.state, r.state, (SELECT count(*) FROM assets a WHERE a.job_id = o.id AND a.role = 'result')
    FROM orders o JOIN payments p ON p.order_id = o.id
    LEFT JOIN jobs j ON j.id = o.id LEFT JOIN refunds r ON r.order_id = o.id"""
_BALANCES = "SELECT owner, count(*), sum(amount) FROM ledger_balances GROUP BY owner"
FULL_RUN = 2000  # jobs
# Whether a payment is refused unpaid depends on how slow the machine is.
_ENDS_OF_MONEY = ("complete", "refunded", "released")
_GIVEN_BACK = ("rejected", "released")


class Entry(NamedTuple):
    """One order in the house's books."""

    payment: str
    job: str | None
    refund: str | None
    results: int


_GIVEN_UP = Entry(payment="rejected", job=None, refund=None, results=0)


async def rest(house: House) -> None:
    """Wait until nothing is going on any more; what never ends is the audit's to tell."""
    deadline = time.monotonic() + _REST_SECONDS
    while time.monotonic() < deadline:
        try:
            if await asyncio.to_thread(house.any.sql, _OPEN) == [(0,)]:
                return
        except sa.exc.SQLAlchemyError:
            pass
        await asyncio.sleep(0.5)


def breaches(
    house: House, orders: Sequence[Order], asks: Mapping[int, Sequence[Ask]], *, outside: Sequence[tuple[Any, ...]]
) -> list[str]:
    """Return every breach, each with the order that it concerns; none is the only good answer.

    `outside` is what addresses hold on chains that are not the house's own: owner, number of coins, units.
    """
    books = {str(row[0]): Entry(*row[1:]) for row in house.any.sql(_BOOKS)}
    return [
        *_audit(house),
        *(breach for order in orders for breach in _of_order(order, books)),
        *(breach for order in orders for breach in _of_vendors(order, asks.get(order.number, ()))),
        *_unknown_sales(orders, books),
        *_balances([*house.any.sql(_BALANCES), *outside], orders),
    ]


def _audit(house: House) -> Iterator[str]:
    """Ask `stablestudio audit --chain`; whatever is still open is a breach now."""
    seat = house.any
    command = [sys.executable, "-m", "stablestudio", "audit", "--chain", "--json", "--data", str(seat.data)]
    done = subprocess.run(command, env=os.environ | seat.environment, capture_output=True, text=True, check=False)
    try:
        report: dict[str, Any] = json.loads(done.stdout)
        found = [*report["breaches"], *report["open"]]
    except (ValueError, KeyError):  # it broke, or it refused
        yield f"the audit did not run: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return
    for each in found:
        yield f"audit: {each['what']}: {each['order']}"


def _of_order(order: Order, books: Mapping[str, Entry]) -> Iterator[str]:
    """Compare what the buyer was told with the house's books: one charge, one delivery or one refund."""
    name = f"order {order.number} ({', '.join(sorted(order.jobs)) or 'no job'})"
    entries = [books.get(job) for job in order.jobs]
    # A try that was given back leaves its payment to the next one, which is another order.
    if len([entry for entry in entries if entry != _GIVEN_UP]) > 1:
        yield f"{name}: one payment bought several jobs"
    if None in entries:
        yield f"{name}: the books do not know a job that was sold"
    expected = {
        "complete": ("settled", "complete", None, 1),
        "refunded": ("settled", "failed", "refunded", 0),
    }.get(order.ended)
    for entry in entries:
        if entry is None or entry == expected or (entry == _GIVEN_UP and expected in entries):
            continue
        if order.ended in ("released", "refused") and entry.payment in _GIVEN_BACK and entry.job != "complete":
            continue
        yield f"{name}: its buyer was told {order.ended!r}, the books say {entry}"
    if order.ended not in ("complete", "refunded", "released", "refused", "unasked"):
        yield f"{name}: its buyer saw no good end: {order.ended!r}, told {dict(order.told)}"
    if not order.jobs and order.ended in ("complete", "refunded", "released"):
        yield f"{name}: {order.ended} without a job"


def _of_vendors(order: Order, asks: Sequence[Ask]) -> Iterator[str]:
    """At most one submission, unless those before were certainly refused, and none after the end."""
    told = [f"{ask.vendor} {ask.verdict}" for ask in asks]
    if any(ask.verdict != "refused" for ask in asks[:-1]):
        yield f"order {order.number} ({order.jobs}): vendors were asked again: {told}"
    if order.ended == "complete" and "accepted" not in [ask.verdict for ask in asks]:
        yield f"order {order.number} ({order.jobs}): complete, and no vendor accepted it: {told}"
    if order.ended in ("refused", "unasked") and asks:
        yield f"order {order.number}: never charged, and vendors were asked: {told}"
    if any(ask.at > order.ended_at for ask in asks):
        yield f"order {order.number} ({order.jobs}): a vendor was asked after its end, by who had lost it: {told}"


def _unknown_sales(orders: Sequence[Order], books: Mapping[str, Entry]) -> Iterator[str]:
    known = {job for order in orders for job in order.jobs}
    for job, entry in books.items():
        if job not in known and entry.payment not in _GIVEN_BACK:
            yield f"job {job}: sold, and its buyer was never told: {entry}"


def _balances(holdings: Sequence[tuple[Any, ...]], orders: Sequence[Order]) -> Iterator[str]:
    """Money in is what was charged and not paid back, to the unit, for each wallet by itself."""
    spent: defaultdict[str, int] = defaultdict(int)
    for order in orders:
        spent[order.wallet] += order.price if order.ended == "complete" else 0
    for wallet, price in spent.items():
        own = [(int(coins), int(units)) for owner, coins, units in holdings if owner == wallet.lower()]
        coins, units = (sum(column) for column in zip(*own, strict=True))
        if units != coins * FUNDS - price:
            yield f"wallet {wallet}: {coins * FUNDS - units} units are gone, {price} were charged for deliveries"


def shortfalls(orders: Sequence[Order], *, jobs: int, paid: int, minutes: float, lots: Sequence[Lots]) -> list[str]:
    """Return what a run did not try: where nothing is sold or broken, nothing is proven.

    A full run has tried all that it can; who plays a short form has seen something sold, and something broken.
    """
    ends = Counter(order.ended for order in orders)
    delivered = Counter(order.by for order in orders if order.ended == "complete")
    short = [] if paid >= jobs else [f"only {paid:,} of {jobs:,} orders were paid for in the {minutes:g} minutes given"]
    if jobs < FULL_RUN:
        short += [] if delivered else ["nothing was delivered"]
        return short + ([] if any(each.drawn for each in lots) else ["nothing was broken"])
    short += [f"nothing paid by {rail} was delivered" for rail in RAILS if not delivered[rail]]
    short += [f"no order ended {end!r}" for end in _ENDS_OF_MONEY if not ends[end]]
    return short + [f"never happened: {word}" for each in lots for word in each.missing]


def outcomes(orders: Sequence[Order]) -> Counter[str]:
    """Count how the orders ended, as their buyers saw it."""
    names = {
        "complete": "delivered and charged",
        "refunded": "failed and refunded",
        "released": "failed, never charged",
        "refused": "refused unpaid",
        "unasked": "not sold at the moment",
    }
    return Counter(f"{names.get(order.ended, order.ended)} ({order.by})" for order in orders)


def answers(orders: Sequence[Order]) -> Counter[str]:
    """Count what buyers were told in answer to payments."""
    return sum((order.told for order in orders), Counter[str]())
