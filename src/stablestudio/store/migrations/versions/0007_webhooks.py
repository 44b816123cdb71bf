"""Webhooks: who is told of an order, what is to be told, and each try."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_OPEN = sa.text("state = 'pending'")


def upgrade() -> None:
    op.add_column("orders", sa.Column("webhook_url", sa.Text(), nullable=True))
    op.create_table(
        "webhook_events",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("occurred_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("state IN ('pending', 'delivered', 'given_up')", name=op.f("ck_webhook_events_state")),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("fk_webhook_events_order_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_events")),
        sa.UniqueConstraint("order_id", "type", name=op.f("uq_webhook_events_order_id_type")),
    )
    op.create_index("ix_webhook_events_open", "webhook_events", ["due_at"], sqlite_where=_OPEN, postgresql_where=_OPEN)
    op.create_table(
        "webhook_tries",
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("milliseconds", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["event_id"], ["webhook_events.id"], name=op.f("fk_webhook_tries_event_id")),
        sa.PrimaryKeyConstraint("event_id", "number", name=op.f("pk_webhook_tries")),
    )


def downgrade() -> None:
    op.drop_table("webhook_tries")
    op.drop_table("webhook_events")
    op.drop_column("orders", "webhook_url")
