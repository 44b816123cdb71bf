"""Webhooks: whose turn it is, and tries that somebody asked for apart from those of the schedule."""

from __future__ import annotations

from urllib.parse import urlsplit

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_OPEN = sa.text("state = 'pending'")
_ADDED = ("wallet", "receiver", "scheduled", "asked", "later_at")


def upgrade() -> None:
    op.add_column("webhook_events", sa.Column("wallet", sa.Text(), nullable=False, server_default=""))
    op.add_column("webhook_events", sa.Column("receiver", sa.Text(), nullable=False, server_default=""))
    op.add_column("webhook_events", sa.Column("scheduled", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("webhook_events", sa.Column("asked", sa.Text(), nullable=True))
    op.add_column("webhook_events", sa.Column("later_at", sa.BigInteger(), nullable=True))
    op.drop_index("ix_webhook_events_open", "webhook_events")
    _create_index(["due_at", "id", "wallet", "receiver"])
    _fill(op.get_bind())


def downgrade() -> None:
    op.drop_index("ix_webhook_events_open", "webhook_events")
    for name in _ADDED:
        op.drop_column("webhook_events", name)
    _create_index(["due_at"])


def _create_index(columns: list[str]) -> None:
    op.create_index("ix_webhook_events_open", "webhook_events", columns, sqlite_where=_OPEN, postgresql_where=_OPEN)


def _fill(connection: sa.Connection) -> None:
    orders = sa.table("orders", sa.column("id"), sa.column("wallet"), sa.column("webhook_url"))
    events = sa.table("webhook_events", *map(sa.column, ("id", "order_id", "tries", "wallet", "receiver", "scheduled")))
    told = sa.select(events.c.id, events.c.tries, orders.c.wallet, orders.c.webhook_url)
    for row in connection.execute(told.join_from(events, orders, orders.c.id == events.c.order_id)).all():
        known = {"wallet": row.wallet, "receiver": urlsplit(row.webhook_url).hostname or "", "scheduled": row.tries}
        connection.execute(sa.update(events).where(events.c.id == row.id).values(known))
