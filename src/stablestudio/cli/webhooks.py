"""`stablestudio webhooks`: see what buyers were told, and have it told again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import click

from stablestudio.cli.books import OperatorMistake, open_books, operates
from stablestudio.cli.output import Output
from stablestudio.clock import SystemClock, iso
from stablestudio.config import Settings
from stablestudio.store import webhooks as store
from stablestudio.store.database import Database
from stablestudio.store.webhooks import Try, WebhookEvent

_STATES = ("pending", "delivered", "given_up")
_HEADS = ("MESSAGE", "ORDER", "TYPE", "STATE", "TRIES", "LAST", "NEXT TRY", "URL")


class WebhookNotFound(OperatorMistake):
    """No message was to be told of this order."""

    status = 404
    hint = "See `stablestudio webhooks list` for the orders whose buyers want to be told."


@click.group()
def webhooks() -> None:
    """Look after what buyers are told. A running service takes a change up within seconds."""


@webhooks.command(name="list", short_help="List messages, newest first.")
@click.option(
    "--state", "states", type=click.Choice(_STATES), multiple=True, help="Only these; all but delivered else."
)
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="How many at most.")
@operates
def list_(out: Output, settings: Settings, *, states: Sequence[str], limit: int) -> None:
    """List messages, newest first: a table, or one JSON object a line where that is asked for or no terminal is there."""
    with open_books(settings) as database:
        events, tries = asyncio.run(_look(database, states=states or ("pending", "given_up"), limit=limit))
    last = {each.event_id: each for each in tries}
    rows = [_row(event, last.get(event.id)) for event in events]
    table = _table(rows) if rows else ["Nobody waits to be told anything."]
    out.listing([_document(event, last.get(event.id)) for event in events], *table)


@webhooks.command(short_help="Tell an order's messages, or all that were given up, once more.")
@click.argument("order", required=False)
@click.option("--all", "everything", is_flag=True, help="All messages that were given up.")
@operates
def redeliver(out: Output, settings: Settings, *, order: str | None, everything: bool) -> None:
    """Tell the messages of ORDER, or all that were given up, once more and at once."""
    if (order is None) is not everything:
        raise click.UsageError("Give an ORDER, or --all.")
    now = SystemClock().now_ms()
    with open_books(settings) as database:
        ids = asyncio.run(database.write(lambda connection: store.redeliver(connection, order_id=order, now=now)))
    if order is not None and not ids:
        raise WebhookNotFound(f"There is no message of an order {order!r}.")
    out.result({"success": True, "messages": ids}, f"In line: {len(ids)}.", *ids)


async def _look(database: Database, *, states: Sequence[str], limit: int) -> tuple[list[WebhookEvent], list[Try]]:
    events = await database.read(lambda connection: store.listed(connection, states=states, limit=limit))
    ids = [event.id for event in events]
    return events, await database.read(lambda connection: store.tries_of(connection, ids))


def _document(event: WebhookEvent, last: Try | None) -> dict[str, Any]:
    """Return a message for programs; null is what is not known or not so."""
    return {
        "id": event.id,
        "order": event.order_id,
        "type": event.type,
        "state": event.state,
        "url": event.url,
        "tries": event.tries,
        "occurredAt": iso(event.occurred_at),
        "nextTryAt": iso(event.due_at) if event.state == "pending" else None,
        "lastStatus": last.status if last else None,
        "lastReason": last.reason if last else None,
    }


def _row(event: WebhookEvent, last: Try | None) -> tuple[str, ...]:
    told = "" if last is None else str(last.status or last.reason or "cut off")
    due = iso(event.due_at) if event.state == "pending" else ""
    return (event.id, event.order_id, event.type, event.state, str(event.tries), told, due, event.url)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    everything = [_HEADS, *rows]
    widths = [max(len(row[column]) for row in everything) for column in range(len(_HEADS))]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in everything
    ]
