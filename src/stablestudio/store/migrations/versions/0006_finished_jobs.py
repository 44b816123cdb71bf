"""Finished jobs in the order of their end, by offering: how long they take."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_COMPLETE = sa.text("state = 'complete'")


def upgrade() -> None:
    op.create_index(
        "ix_jobs_complete", "jobs", ["type", "finished_at"], sqlite_where=_COMPLETE, postgresql_where=_COMPLETE
    )


def downgrade() -> None:
    op.drop_index("ix_jobs_complete", "jobs")
