"""What must hold at every moment, and once everything has come to rest: told by the outside, not by the books alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from stablestudio.providers.provider import FailureKind
from stablestudio.store.database import Database
from tests.doubles import BUYER

from .process import World

_SALES = """
    SELECT o.id, p.rail, p.key, p.state, p.policy, p.amount, p."transaction", j.state, j.error_code, j.finished_at,
    r.state, r.amount, r."transaction"
    FROM orders o LEFT JOIN payments p ON p.order_id = o.id
    LEFT JOIN jobs j ON j.id = o.id LEFT JOIN refunds r ON r.order_id = o.id ORDER BY o.id"""


# What was kept before its job failed for another reason than that nobody pays for it, or wants it.
_WASTED = """
    SELECT j.id, j.error_code FROM jobs j JOIN assets a ON a.job_id = j.id AND a.role = 'result'
    WHERE j.state = 'failed' AND a.created_at < j.finished_at
    AND j.error_code NOT IN ('cancelled', 'payment_failed', 'upstream_timeout')"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sale:
    """One order with its payment, job and refund, as the books have it."""

    id: str
    rail: str
    key: str
    payment: str
    policy: str
    amount: int
    transaction: str | None
    job: str | None
    code: str | None
    ended_at: int | None
    refund: str | None
    refunded: int | None
    refund_transaction: str | None


class Outside:
    """What the tokens know of money in and out."""

    def __init__(self, world: World) -> None:
        moved = {
            (token.domain.contract.lower(), key): (transaction, authorization)
            for token in world.tokens
            for key, (transaction, authorization) in token.moved.items()
        }
        buyer = BUYER.address.lower()
        self.paid = {at: each for at, each in moved.items() if each[1].sender.lower() == buyer}
        self.returned = {at: each for at, each in moved.items() if each[1].sender.lower() != buyer}
        self.refunds = Counter(world.refund_orders["0x" + each[1].nonce.hex()] for each in self.returned.values())

    def transaction(self, sale: Sale) -> str | None:
        """Return the transfer of a sale's credential."""
        found = self.paid.get((sale.rail.rpartition(":")[2], sale.key))
        return found[0] if found else None


def sales(database: Database) -> list[Sale]:
    """Read all sales."""
    names = list(Sale.__dataclass_fields__)
    return [Sale(**dict(zip(names, row, strict=True))) for row in database.fetch(_SALES)]


def check_always(database: Database, world: World) -> list[Sale]:
    """Look for what must never be, at no moment."""
    outside, found = Outside(world), sales(database)
    refused = {key for token in world.tokens for key in token.refused}
    live: Counter[Any] = Counter((sale.rail, sale.key) for sale in found if sale.payment != "rejected")
    assert max(live.values(), default=0) <= 1, "a credential bought two orders"
    assert max(outside.refunds.values(), default=0) <= 1, f"an order was refunded twice: {outside.refunds}"
    wasted = database.fetch(_WASTED)
    assert not wasted, f"failed, and its result was kept: {wasted}"
    for sale in found:
        _check_money(sale, outside)
        assert sale.payment != "rejected" or sale.key in refused, f"given back, and no chain said no: {sale}"
        _check_making(sale, world)
        _check_end(sale, world)
    return found


def _check_money(sale: Sale, outside: Outside) -> None:
    moved = outside.transaction(sale)
    if sale.payment == "settled":
        assert sale.transaction == moved is not None, f"settled, and the money did not move: {sale}"
        assert sale.job is not None, f"paid, and there is no job: {sale}"
    if sale.job is not None and sale.payment != "settled":
        assert sale.policy == "complete", f"a job without money: {sale}"
        assert sale.job != "complete", f"delivered and not charged: {sale}"
    if sale.refund is not None:
        assert (sale.job, sale.payment, sale.refunded) == ("failed", "settled", sale.amount), f"no cause: {sale}"
    if outside.refunds[sale.id]:
        assert sale.refund is not None, f"money went back that nobody owed: {sale}"
    if sale.refund == "refunded":
        assert outside.refunds[sale.id] == 1, f"refunded on paper only: {sale}"


def _check_making(sale: Sale, world: World) -> None:
    asked = world.vendor.asked[sale.id]
    assert all(how == "refused" for how in asked[:-1]), f"the vendor was asked twice: {asked} {sale}"
    assert not asked or sale.job is not None, f"work without a job: {sale}"
    if sale.job == "complete":
        assert world.vendor.tasks.get(sale.id) == "made", f"delivered what was never made: {sale}"


def _check_end(sale: Sale, world: World) -> None:
    """What a buyer was told of an end stays so."""
    if sale.ended_at is not None:
        end = world.ends.setdefault(sale.id, (sale.job, sale.code, sale.ended_at))
        assert end == (sale.job, sale.code, sale.ended_at), f"it had ended as {end}: {sale}"
    if sale.code == FailureKind.CANCELLED:
        asked, task = world.vendor.asked[sale.id], world.vendor.tasks.get(sale.id, "stopped")
        assert task == "stopped", f"cancelled, and the vendor works: {task} {sale}"
        assert "open" not in asked, f"cancelled while the vendor may take it: {asked} {sale}"


def is_at_rest(database: Database) -> bool:
    """Tell whether nothing is left to do."""
    open_ = database.fetch("""
        SELECT count(*) FROM payments WHERE state IN ('claimed', 'unknown', 'held')
            OR (state IN ('rejected', 'released') AND expires_at IS NOT NULL)
        UNION ALL SELECT count(*) FROM jobs WHERE state IN ('pending', 'loading')
        UNION ALL SELECT count(*) FROM refunds WHERE state <> 'refunded'
        UNION ALL SELECT count(*) FROM model_workflows WHERE NOT ended""")
    return not any(row[0] for row in open_)


def check_at_rest(database: Database, world: World) -> list[str]:
    """Look for what must not be left over; return how each sale ended."""
    found, outside = check_always(database, world), Outside(world)
    taken = {sale.transaction for sale in found if sale.payment == "settled"}
    stray = {transaction for transaction, _ in outside.paid.values()} - taken
    assert not stray, f"money that belongs to no sale: {stray}"
    ends = [_end(sale) for sale in found]
    paid = sum(each[1].value for each in outside.paid.values())
    returned = sum(each[1].value for each in outside.returned.values())
    kept = sum(sale.amount for sale, end in zip(found, ends, strict=True) if end == "delivered")
    assert paid - returned == kept, "the books are not what the chains say"
    return ends


def _end(sale: Sale) -> str:
    if sale.payment == "settled":
        assert (sale.job, sale.refund) in (("complete", None), ("failed", "refunded")), f"neither nor: {sale}"
        return "delivered" if sale.job == "complete" else "refunded"
    assert sale.payment in ("rejected", "released"), f"open: {sale}"
    assert sale.job in (None, "failed"), f"a job without money: {sale}"
    return "never charged"
