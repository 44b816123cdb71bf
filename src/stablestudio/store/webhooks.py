"""Queries of webhooks: what is to be told of an order, written in the commit that makes it true, and each try to tell."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from stablestudio.ids import new_id
from stablestudio.store.database import tell
from stablestudio.store.tables import orders, webhook_events, webhook_tries

# What listeners of the database hear when there is something to tell.
NEWS = "webhooks"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookEvent:
    """Something that the buyer of an order is told at `url`; times in milliseconds."""

    id: str
    order_id: str
    type: str
    state: str
    tries: int
    occurred_at: int
    due_at: int
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One try to tell; without `milliseconds` it is under way, or a stop cut it off."""

    event_id: str
    number: int
    at: int
    milliseconds: int | None
    status: int | None
    reason: str | None


# Written out so that SQLite sees that the index of open events has them all; a bound value hides it.
_OPEN = webhook_events.c.state == sa.literal_column("'pending'")
_EVENT = sa.select(webhook_events, orders.c.webhook_url.label("url")).join_from(
    webhook_events, orders, orders.c.id == webhook_events.c.order_id
)


def add(connection: sa.Connection, *, order_id: str, type_: str, now: int) -> None:
    """Note that the buyer is to be told, where it asked for that; in the transaction that makes it true."""
    values = {
        "id": new_id("msg"),
        "type": type_,
        "state": "pending",
        "tries": 0,
        "occurred_at": now,
        "due_at": now,
    }
    row = [sa.literal(value, webhook_events.c[name].type) for name, value in values.items()]
    wanted = sa.select(orders.c.id, *row).where(orders.c.id == order_id, orders.c.webhook_url.is_not(None))
    if connection.execute(sa.insert(webhook_events).from_select(["order_id", *values], wanted)).rowcount:
        tell(connection, NEWS)


def due(connection: sa.Connection, *, now: int, limit: int) -> list[WebhookEvent]:
    """Return what may be told now (ms), the longest due first."""
    statement = _EVENT.where(_OPEN, webhook_events.c.due_at <= now).order_by(webhook_events.c.due_at).limit(limit)
    return _events(connection, statement)


def take(connection: sa.Connection, *, event: WebhookEvent, now: int, until: int) -> bool:
    """Begin the next try; `False` if somebody else did. Whatever happens to this one, another is due at `until` (ms)."""
    number = event.tries + 1
    taken = _move(
        connection, event.id, webhook_events.c.tries == event.tries, values={"tries": number, "due_at": until}
    )
    if taken:
        connection.execute(sa.insert(webhook_tries).values(event_id=event.id, number=number, at=now))
    return taken


def record(connection: sa.Connection, *, done: Try, state: str, due_at: int) -> None:
    """Write down how a try ended, and what follows: `delivered`, `given_up`, or `pending` until `due_at` (ms)."""
    facts = {"milliseconds": done.milliseconds, "status": done.status, "reason": done.reason}
    same = (webhook_tries.c.event_id == done.event_id, webhook_tries.c.number == done.number)
    connection.execute(sa.update(webhook_tries).where(*same).values(facts))
    newest = webhook_events.c.tries == done.number
    _move(connection, done.event_id, newest, values={"state": state, "due_at": due_at})


def redeliver(connection: sa.Connection, *, now: int, order_id: str | None = None) -> list[str]:
    """Let all messages of an order be told once more, or all that were given up; return their ids."""
    chosen = webhook_events.c.order_id == order_id if order_id else webhook_events.c.state == "given_up"
    ids = list(connection.scalars(sa.select(webhook_events.c.id).where(chosen)))
    if ids:
        statement = sa.update(webhook_events).where(webhook_events.c.id.in_(ids))
        connection.execute(statement.values(state="pending", due_at=now))
        tell(connection, NEWS)
    return ids


def of_order(connection: sa.Connection, order_id: str) -> list[WebhookEvent]:
    """Return what the buyer of an order was or is to be told, oldest first."""
    statement = _EVENT.where(webhook_events.c.order_id == order_id)
    return _events(connection, statement.order_by(webhook_events.c.occurred_at, webhook_events.c.id))


def listed(connection: sa.Connection, *, states: Collection[str], limit: int) -> list[WebhookEvent]:
    """Return messages in these states, newest first."""
    statement = _EVENT.where(webhook_events.c.state.in_(states)).order_by(webhook_events.c.id.desc())
    return _events(connection, statement.limit(limit))


def tries_of(connection: sa.Connection, event_ids: Sequence[str]) -> list[Try]:
    """Return every try to tell these messages, oldest first."""
    statement = sa.select(webhook_tries).where(webhook_tries.c.event_id.in_(event_ids))
    rows = connection.execute(statement.order_by(webhook_tries.c.event_id, webhook_tries.c.number))
    return [Try(**row._mapping) for row in rows]  # noqa: SLF001 - SQLAlchemy's public name for it


def url_of(connection: sa.Connection, order_id: str) -> str | None:
    """Return where an order's buyer wants to be told."""
    return connection.execute(sa.select(orders.c.webhook_url).where(orders.c.id == order_id)).scalar()


def _events(connection: sa.Connection, statement: sa.Select[Any]) -> list[WebhookEvent]:
    return [WebhookEvent(**row._mapping) for row in connection.execute(statement)]  # noqa: SLF001


def _move(connection: sa.Connection, event_id: str, *where: sa.ColumnElement[bool], values: dict[str, Any]) -> bool:
    """Change an open message by compare-and-set."""
    statement = sa.update(webhook_events).where(webhook_events.c.id == event_id, _OPEN, *where).values(values)
    return connection.execute(statement).rowcount == 1
