"""Restores: from which moments the books were put back; and bytes of uploads by their key, in which order they are purged."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "restores",
        sa.Column("restored_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("restored_at", name=op.f("pk_restores")),
    )
    op.create_index("ix_upload_parts_key", "upload_parts", ["key"])


def downgrade() -> None:
    op.drop_index("ix_upload_parts_key", "upload_parts")
    op.drop_table("restores")
