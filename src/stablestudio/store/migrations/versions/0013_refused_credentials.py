"""Refused credentials: those that were over by one process' clock are not taken by another any more."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("spared_credentials") as batch:
        batch.alter_column("order_id", existing_type=sa.Text(), nullable=True)


def downgrade() -> None:
    op.execute("DELETE FROM spared_credentials WHERE order_id IS NULL")
    with op.batch_alter_table("spared_credentials") as batch:
        batch.alter_column("order_id", existing_type=sa.Text(), nullable=False)
