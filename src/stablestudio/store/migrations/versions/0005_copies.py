"""Copies: files of orders' inputs that were fetched from elsewhere."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "copies",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("intake", sa.Text(), nullable=False),
        sa.Column("order_id", sa.Text(), nullable=True),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_copies")),
    )
    op.create_index(op.f("ix_copies_intake"), "copies", ["intake"])
    op.create_index(op.f("ix_copies_order_id"), "copies", ["order_id"])
    op.create_index(op.f("ix_copies_created_at"), "copies", ["created_at"])


def downgrade() -> None:
    op.drop_table("copies")
