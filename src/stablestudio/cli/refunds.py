"""`stablestudio refunds`: see what is owed, let a waiting refund go, try again at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import click

from stablestudio.cli.books import OperatorMistake, open_books, operates
from stablestudio.cli.output import Output
from stablestudio.clock import SystemClock, iso
from stablestudio.config import Settings
from stablestudio.money import Money
from stablestudio.store import refunds as store
from stablestudio.store.database import Database
from stablestudio.store.refunds import RefundView

_STATES = ("pending", "waiting", "signed", "refunded")
_OPEN = _STATES[:3]
_HEADS = ("ORDER", "STATE", "AMOUNT", "TOKEN", "RAIL", "TO", "AGE", "NEXT TRY", "REASON", "TRANSACTION")


class RefundNotFound(OperatorMistake):
    """This order has no refund."""

    status = 404
    hint = "See `stablestudio refunds list` for the orders that money is owed for."


class RefundNotWaiting(OperatorMistake):
    """This refund does not wait for anybody."""

    status = 409
    hint = "Only waiting refunds are approved; `stablestudio refunds list` tells the states."


@click.group()
def refunds() -> None:
    """Look after the money that goes back. A running service takes a change up within seconds."""


@refunds.command(name="list", short_help="List what is owed, oldest first.")
@click.option("--state", "states", type=click.Choice(_STATES), multiple=True, help="Only these; all but refunded else.")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="How many at most.")
@operates
def list_(out: Output, settings: Settings, *, states: Sequence[str], limit: int) -> None:
    """List refunds, oldest first: a table, or one JSON object a line where that is asked for or no terminal is there."""
    with open_books(settings) as database:
        query = database.read(lambda connection: store.listed(connection, states=states or _OPEN, limit=limit + 1))
        found = asyncio.run(query)
    now = SystemClock().now_ms()
    table = _table(found[:limit], now=now) if found else ["No refunds are owed."]
    out.listing([_document(view, now=now) for view in found[:limit]], *table)
    if len(found) > limit:
        out.say(f"There are more than these {limit}: see them with --limit.")
    if waiting := sum(view.refund.state == "waiting" for view in found[:limit]):
        out.say(f"Waiting: {waiting}. Next: stablestudio refunds approve ORDER")


@refunds.command(short_help="Let a waiting refund go.")
@click.argument("order")
@operates
def approve(out: Output, settings: Settings, *, order: str) -> None:
    """Let the waiting refund of ORDER go, whatever daily cap and minimum say."""
    with open_books(settings) as database:
        view = asyncio.run(_approve(database, order, now=SystemClock().now_ms()))
    _tell(out, view, "is approved and in line")


@refunds.command(short_help="Try a refund, or all, at once.")
@click.argument("order", required=False)
@click.option("--all", "everything", is_flag=True, help="All that neither have arrived nor wait because of a limit.")
@operates
def retry(out: Output, settings: Settings, *, order: str | None, everything: bool) -> None:
    """Try the refund of ORDER, or all, at once instead of after its pause."""
    if (order is None) is not everything:
        raise click.UsageError("Give an ORDER, or --all.")
    with open_books(settings) as database:
        if order is not None:
            return _tell(out, asyncio.run(_retry(database, order)), "is in line")
        orders = asyncio.run(database.write(store.retry_all))
    out.result({"success": True, "orders": orders}, f"In line: {len(orders)}.", *orders)
    return None


async def _approve(database: Database, order: str, *, now: int) -> RefundView:
    approved = await database.write(lambda connection: store.approve(connection, order_id=order, now=now))
    view = await _view(database, order)
    if not approved and view.refund.approved_at is None:
        told = f"in transaction {view.refund.transaction}" if view.refund.transaction else "and pays without approval"
        raise RefundNotWaiting(f"The refund of {order} is {view.refund.state} {told}.")
    return view


async def _retry(database: Database, order: str) -> RefundView:
    view = await _view(database, order)
    if view.refund.state == "waiting" and view.refund.reason in store.HELD_BY_RULE:
        told = f"The refund of {order} waits because of a rule ({view.refund.reason}), and would wait again."
        raise RefundNotWaiting(told, hint=f"Let it go with `stablestudio refunds approve {order}`.")
    await database.write(lambda connection: store.retry(connection, order_id=order))
    return await _view(database, order)


async def _view(database: Database, order: str) -> RefundView:
    view = await database.read(lambda connection: store.view(connection, order))
    if view is None:
        raise RefundNotFound(f"There is no refund of an order {order!r}.")
    return view


def _tell(out: Output, view: RefundView, done: str) -> None:
    refund = view.refund
    arrived = f"has arrived in transaction {refund.transaction}"
    line = f"The refund of {refund.order_id} {arrived if refund.state == 'refunded' else done}."
    document = {"success": True, "refund": _document(view, now=SystemClock().now_ms())}
    out.result(document, line, *_table([view], now=SystemClock().now_ms()))


def _document(view: RefundView, *, now: int) -> dict[str, Any]:
    """Return a refund for programs; null is what is not known or not so."""
    refund = view.refund
    return {
        "order": refund.order_id,
        "state": refund.state,
        "reason": refund.reason,
        "amount": _dollars(view),
        "currency": "USD",
        "amountAtomic": str(refund.amount),
        "asset": view.asset,
        "network": view.network,
        "rail": refund.rail,
        "recipient": refund.recipient,
        "transaction": refund.transaction,
        "createdAt": iso(refund.created_at),
        "ageSeconds": max(0, now - refund.created_at) // 1000,
        "signedAt": _moment(refund.signed_at),
        "approvedAt": _moment(refund.approved_at),
        "lastTryAt": _moment(refund.updated_at if refund.tried_for else None),
        "nextTryAt": _moment(_next_try(view, now=now)),
    }


def _table(views: Sequence[RefundView], *, now: int) -> list[str]:
    rows = [_HEADS, *(_row(view, now=now) for view in views)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _row(view: RefundView, *, now: int) -> tuple[str, ...]:
    refund = view.refund
    due = _next_try(view, now=now)
    dollars = _dollars(view)
    return (
        refund.order_id,
        refund.state,
        f"${dollars}" if dollars else f"{refund.amount} units",
        _short(view.asset),
        f"{refund.rail.partition(':')[0]} {view.network}",
        _short(refund.recipient),
        _span(now - refund.created_at),
        "" if due is None else "now" if due <= now else f"in {_span(due - now)}",
        refund.reason or "",
        _short(refund.transaction or ""),
    )


def _dollars(view: RefundView) -> str | None:
    """Return what the refund is worth: the order's price, unless something else than what was paid goes back."""
    return str(Money(view.price_micros)) if view.refund.amount == view.paid else None


def _next_try(view: RefundView, *, now: int) -> int | None:
    return max(now, view.refund.due_at) if view.refund.state in ("pending", "signed") else None


def _moment(ms: int | None) -> str | None:
    return None if ms is None else iso(ms)


def _short(text: str) -> str:
    return text if len(text) <= 14 else f"{text[:6]}..{text[-4:]}"


def _span(ms: int) -> str:
    seconds = max(0, ms) // 1000
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
