"""Queries of webhooks: what is to be told of an order, written in the commit that makes it true, and each try to tell."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from stablestudio.ids import new_id
from stablestudio.store.database import tell
from stablestudio.store.tables import jobs, orders, webhook_events, webhook_tries

# What listeners of the database hear when there is something to tell.
NEWS = "webhooks"
# Tries of each message that are remembered, the newest.
MOST_TRIES = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookEvent:
    """Something that the buyer of an order is told at `url`; times in milliseconds.

    Where somebody `asked` for the next try, that is the state until then; one that was pending goes on at `later_at`.
    """

    id: str
    order_id: str
    type: str
    state: str
    tries: int
    occurred_at: int
    due_at: int
    wallet: str
    receiver: str
    scheduled: int
    asked: str | None
    later_at: int | None
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
    """Note that the buyer is to be told, where it asked for that; in the transaction that makes it true.

    Nothing is told of a job that its owner deleted, who could neither see nor stop it.
    """
    wanted = (
        sa.select(orders.c.webhook_url, orders.c.wallet)
        .join_from(orders, jobs, jobs.c.id == orders.c.id, isouter=True)
        .where(orders.c.id == order_id, orders.c.webhook_url.is_not(None), jobs.c.deleted_at.is_(None))
    )
    if (order := connection.execute(wanted).first()) is None:
        return
    message = sa.insert(webhook_events).values(
        id=new_id("msg"),
        order_id=order_id,
        type=type_,
        state="pending",
        tries=0,
        occurred_at=now,
        due_at=now,
        wallet=order.wallet,
        receiver=urlsplit(order.webhook_url).hostname or "",
    )
    connection.execute(message)
    tell(connection, NEWS)


def due(
    connection: sa.Connection,
    *,
    now: int,
    limit: int,
    after: WebhookEvent | None = None,
    wallets: Collection[str] = (),
    receivers: Collection[str] = (),
) -> list[WebhookEvent]:
    """Return what may be told now (ms), the longest due first, but nothing of these wallets and for these receivers.

    A further page begins `after` the last one's last message.
    """
    found = _EVENT.where(_OPEN, webhook_events.c.due_at <= now)
    found = found.where(webhook_events.c.wallet.not_in(wallets), webhook_events.c.receiver.not_in(receivers))
    if after is not None:
        behind = sa.or_(webhook_events.c.due_at > after.due_at, webhook_events.c.id > after.id)
        found = found.where(webhook_events.c.due_at >= after.due_at, behind)
    return _events(connection, found.order_by(webhook_events.c.due_at, webhook_events.c.id).limit(limit))


def take(connection: sa.Connection, *, event: WebhookEvent, now: int, until: int) -> bool:
    """Begin the next try; `False` if somebody else did. Whatever happens to this one, another is due at `until` (ms)."""
    number = event.tries + 1
    begun = {"tries": number, "scheduled": event.scheduled + (event.asked is None), "due_at": until}
    taken = _move(connection, event.id, webhook_events.c.tries == event.tries, values=begun)
    if taken:
        connection.execute(sa.insert(webhook_tries).values(event_id=event.id, number=number, at=now))
    return taken


def record(connection: sa.Connection, *, done: Try, state: str, due_at: int) -> None:
    """Write down how a try ended, and what follows: `delivered`, `given_up`, or `pending` until `due_at` (ms)."""
    facts = {"milliseconds": done.milliseconds, "status": done.status, "reason": done.reason}
    own = webhook_tries.c.event_id == done.event_id
    connection.execute(sa.update(webhook_tries).where(own, webhook_tries.c.number == done.number).values(facts))
    connection.execute(sa.delete(webhook_tries).where(own, webhook_tries.c.number <= done.number - MOST_TRIES))
    newest = webhook_events.c.tries == done.number
    follows = {"state": state, "due_at": due_at, "asked": None, "later_at": None}
    _move(connection, done.event_id, newest, values=follows)


def redeliver(connection: sa.Connection, *, now: int, order_id: str | None = None) -> list[str]:
    """Have all messages of an order told once more, or all that were given up; return their ids.

    What is being told already, or about to be, stays as it is, and so does the schedule of what is not heard yet.
    """
    event = webhook_events.c
    chosen = event.order_id == order_id if order_id else event.state == "given_up"
    ids = list(connection.scalars(sa.select(event.id).where(chosen)))
    open_try = sa.exists().where(
        webhook_tries.c.event_id == event.id,
        webhook_tries.c.number == event.tries,
        webhook_tries.c.milliseconds.is_(None),
    )
    at_rest = sa.or_(event.state != "pending", sa.and_(event.due_at > now, ~open_try))
    later_at = sa.case((event.state == "pending", event.due_at))
    asked = {"asked": event.state, "later_at": later_at, "state": "pending", "due_at": now}
    if connection.execute(sa.update(webhook_events).where(chosen, at_rest).values(asked)).rowcount:
        tell(connection, NEWS)
    return ids


def end(connection: sa.Connection, *, order_id: str) -> None:
    """Tell nothing more of an order."""
    pending = sa.update(webhook_events).where(webhook_events.c.order_id == order_id, _OPEN)
    connection.execute(pending.values(state="given_up"))


def last_try_at(connection: sa.Connection, order_id: str) -> int | None:
    """Return when the last try to tell something of an order began (ms)."""
    begun = sa.select(sa.func.max(webhook_tries.c.at)).join_from(
        webhook_tries, webhook_events, webhook_events.c.id == webhook_tries.c.event_id
    )
    return connection.execute(begun.where(webhook_events.c.order_id == order_id)).scalar()


def of_order(connection: sa.Connection, order_id: str) -> list[WebhookEvent]:
    """Return what the buyer of an order was or is to be told, oldest first."""
    statement = _EVENT.where(webhook_events.c.order_id == order_id)
    return _events(connection, statement.order_by(webhook_events.c.occurred_at, webhook_events.c.id))


def listed(connection: sa.Connection, *, states: Collection[str], limit: int) -> list[WebhookEvent]:
    """Return messages in these states, newest first."""
    statement = _EVENT.where(webhook_events.c.state.in_(states)).order_by(webhook_events.c.id.desc())
    return _events(connection, statement.limit(limit))


def tries_of(connection: sa.Connection, event_ids: Sequence[str]) -> list[Try]:
    """Return the newest tries to tell these messages, oldest first."""
    statement = (
        sa.select(webhook_tries)
        .join_from(webhook_tries, webhook_events, webhook_events.c.id == webhook_tries.c.event_id)
        .where(webhook_events.c.id.in_(event_ids), webhook_tries.c.number > webhook_events.c.tries - MOST_TRIES)
    )
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
