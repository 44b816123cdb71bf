"""Every rail: payments that are held, refunds that wait for a person, the notes of facilitators, gas keys and Solana."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_WATCHED = sa.text("state IN ('rejected', 'released') AND expires_at IS NOT NULL")
_HELD = sa.text("policy = 'complete' AND state IN ('held', 'rejected')")
_REJECTED = sa.text("state = 'rejected'")
_PAYMENTS = ("claimed", "unknown", "settled", "rejected")
_REFUNDS = ("pending", "signed", "refunded")


def upgrade() -> None:
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_table(
        "settlement_attempts",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("facilitator", sa.Text(), nullable=False),
        sa.Column("spent", sa.Boolean(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_settlement_attempts")),
    )
    op.create_index(op.f("ix_settlement_attempts_expires_at"), "settlement_attempts", ["expires_at"])
    op.create_table(
        "echoes",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("rail", sa.Text(), nullable=False),
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("fk_echoes_order_id")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_echoes")),
    )
    op.create_index(op.f("ix_echoes_created_at"), "echoes", ["created_at"])
    op.create_index(op.f("ix_echoes_order_id"), "echoes", ["order_id"])
    op.create_table(
        "spared_credentials",
        sa.Column("rail", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("fk_spared_credentials_order_id")),
        sa.PrimaryKeyConstraint("rail", "key", name=op.f("pk_spared_credentials")),
    )
    op.create_index(op.f("ix_spared_credentials_order_id"), "spared_credentials", ["order_id"])
    op.create_index(op.f("ix_spared_credentials_expires_at"), "spared_credentials", ["expires_at"])
    op.create_table(
        "ledger_solana_transactions",
        sa.Column("slot", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.Column("message_hash", sa.Text(), nullable=False),
        sa.Column("transaction", sa.Text(), nullable=False),
        sa.Column("meta", sa.Text(), nullable=False),
        sa.Column("mined_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("slot", name=op.f("pk_ledger_solana_transactions")),
        sa.UniqueConstraint("message_hash", name=op.f("uq_ledger_solana_transactions_message_hash")),
        sa.UniqueConstraint("signature", name=op.f("uq_ledger_solana_transactions_signature")),
    )
    op.add_column("ledger_transactions", sa.Column("memo", sa.Text(), nullable=True))
    op.add_column("ledger_transactions", sa.Column("failure", sa.Text(), nullable=True))
    op.add_column("submissions", sa.Column("reason", sa.Text(), nullable=True))
    op.add_column("submissions", sa.Column("retry_at", sa.BigInteger(), nullable=True))
    op.add_column("payments", sa.Column("expires_at", sa.BigInteger(), nullable=True))
    op.add_column("refunds", sa.Column("signed_at", sa.BigInteger(), nullable=True))
    op.add_column("refunds", sa.Column("approved_at", sa.BigInteger(), nullable=True))
    _allow("payments", ("claimed", "held", "unknown", "settled", "rejected", "released"))
    with op.batch_alter_table("payments") as batch:
        batch.add_column(sa.Column("policy", sa.Text(), server_default="accept", nullable=False))
        batch.create_check_constraint(op.f("ck_payments_policy"), sa.text("policy IN ('accept', 'complete')"))
    _allow("refunds", ("pending", "waiting", "signed", "refunded"))
    op.create_index("ix_payments_watched", "payments", ["expires_at"], sqlite_where=_WATCHED, postgresql_where=_WATCHED)
    op.create_index(
        "ix_payments_rejected", "payments", ["rail", "key"], sqlite_where=_REJECTED, postgresql_where=_REJECTED
    )
    op.create_index("ix_payments_held", "payments", ["payer"], sqlite_where=_HELD, postgresql_where=_HELD)
    op.create_index("ix_refunds_rail_signed_at", "refunds", ["rail", "signed_at"])


def downgrade() -> None:
    op.execute("DELETE FROM ledger_transactions WHERE failure IS NOT NULL")  # the older ledger knows transfers only
    op.execute("UPDATE refunds SET state = 'pending' WHERE state = 'waiting'")
    # The older code settles what it finds claimed, and knows nothing of released payments but that nothing moved.
    op.execute("UPDATE payments SET state = 'claimed' WHERE state = 'held'")
    op.execute("UPDATE payments SET state = 'rejected' WHERE state = 'released'")
    op.drop_index("ix_refunds_rail_signed_at", "refunds")
    op.drop_index("ix_payments_held", "payments")
    op.drop_index("ix_payments_rejected", "payments")
    op.drop_index("ix_payments_watched", "payments")
    with op.batch_alter_table("payments") as batch:
        batch.drop_constraint(op.f("ck_payments_policy"), type_="check")
        batch.drop_column("policy")
    _allow("payments", _PAYMENTS)
    _allow("refunds", _REFUNDS)
    for table, column in (
        ("refunds", "approved_at"),
        ("refunds", "signed_at"),
        ("payments", "expires_at"),
        ("submissions", "retry_at"),
        ("submissions", "reason"),
        ("ledger_transactions", "failure"),
        ("ledger_transactions", "memo"),
    ):
        with op.batch_alter_table(table) as batch:
            batch.drop_column(column)
    for table in ("ledger_solana_transactions", "spared_credentials", "echoes", "settlement_attempts", "leases"):
        op.drop_table(table)


def _allow(table: str, states: Sequence[str]) -> None:
    """Let a table's `state` have these values."""
    name = op.f(f"ck_{table}_state")
    allowed = f"state IN ({', '.join(repr(state) for state in states)})"
    with op.batch_alter_table(table) as batch:
        batch.drop_constraint(name, type_="check")
        batch.create_check_constraint(name, sa.text(allowed))
