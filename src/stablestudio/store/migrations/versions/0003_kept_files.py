"""How long files are kept: when each expires, when it went and why, when its bytes were removed; its blurhash; posters."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_KEPT = sa.text("gone_at IS NULL AND expires_at IS NOT NULL")
_DOOMED = sa.text("gone_at IS NOT NULL AND erased_at IS NULL")
_COLUMNS = ("blurhash", "expires_at", "gone", "gone_at", "erased_at")


def upgrade() -> None:
    # Files from before keep NULL, which is for ever: nobody was told that they would go.
    with op.batch_alter_table("assets") as batch:
        batch.add_column(sa.Column("blurhash", sa.Text(), nullable=True))
        batch.add_column(sa.Column("expires_at", sa.BigInteger(), nullable=True))
        batch.add_column(sa.Column("gone", sa.Text(), nullable=True))
        batch.add_column(sa.Column("gone_at", sa.BigInteger(), nullable=True))
        batch.add_column(sa.Column("erased_at", sa.BigInteger(), nullable=True))
        batch.create_check_constraint(op.f("ck_assets_gone"), sa.text("gone IN ('expired', 'deleted')"))
    _allow(("result", "thumbnail", "poster"))
    op.create_index("ix_assets_kept", "assets", ["expires_at"], sqlite_where=_KEPT, postgresql_where=_KEPT)
    op.create_index("ix_assets_doomed", "assets", ["key"], sqlite_where=_DOOMED, postgresql_where=_DOOMED)


def downgrade() -> None:
    # The older code would hand out what is gone, and knows no posters.
    op.execute("DELETE FROM assets WHERE role = 'poster' OR gone_at IS NOT NULL")
    op.drop_index("ix_assets_doomed", "assets")
    op.drop_index("ix_assets_kept", "assets")
    _allow(("result", "thumbnail"))
    with op.batch_alter_table("assets") as batch:
        batch.drop_constraint(op.f("ck_assets_gone"), type_="check")
        for column in _COLUMNS:
            batch.drop_column(column)


def _allow(roles: Sequence[str]) -> None:
    """Let `role` have these values."""
    allowed = f"role IN ({', '.join(repr(role) for role in roles)})"
    with op.batch_alter_table("assets") as batch:
        batch.drop_constraint(op.f("ck_assets_role"), type_="check")
        batch.create_check_constraint(op.f("ck_assets_role"), sa.text(allowed))
