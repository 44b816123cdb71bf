"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "ledger_balances",
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("amount >= 0", name=op.f("ck_ledger_balances_amount")),
        sa.PrimaryKeyConstraint("asset", "owner", name=op.f("pk_ledger_balances")),
    )
    op.create_table(
        "ledger_transactions",
        sa.Column("block", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("nonce", sa.Text(), nullable=True),
        sa.Column("mined_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("block", name=op.f("pk_ledger_transactions")),
        sa.UniqueConstraint("hash", name=op.f("uq_ledger_transactions_hash")),
    )
    with op.batch_alter_table("ledger_transactions", schema=None) as batch_op:
        batch_op.create_index("uq_ledger_transactions_authorization", ["asset", "sender", "nonce"], unique=True)

    op.create_table(
        "orders",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("wallet", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column("input", sa.Text(), nullable=False),
        sa.Column("price_micros", sa.BigInteger(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_orders")),
    )
    with op.batch_alter_table("orders", schema=None) as batch_op:
        batch_op.create_index("ix_orders_wallet_id", ["wallet", "id"], unique=False)
        batch_op.create_index("uq_orders_wallet_idempotency_key", ["wallet", "idempotency_key"], unique=True)

    op.create_table(
        "sandbox_tasks",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("ready_at", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sandbox_tasks")),
    )
    with op.batch_alter_table("sandbox_tasks", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_sandbox_tasks_job_id"), ["job_id"], unique=False)

    op.create_table(
        "used_nonces",
        sa.Column("nonce", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("nonce", name=op.f("pk_used_nonces")),
    )
    with op.batch_alter_table("used_nonces", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_used_nonces_expires_at"), ["expires_at"], unique=False)

    op.create_table(
        "jobs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("wallet", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("progress", sa.Integer(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=True),
        sa.Column("upstream_model", sa.Text(), nullable=True),
        sa.Column("task", sa.Text(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("state IN ('pending', 'loading', 'complete', 'failed')", name=op.f("ck_jobs_state")),
        sa.ForeignKeyConstraint(["id"], ["orders.id"], name=op.f("fk_jobs_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.create_index(
            "ix_jobs_open",
            ["updated_at"],
            unique=False,
            sqlite_where=sa.text("state IN ('pending', 'loading')"),
            postgresql_where=sa.text("state IN ('pending', 'loading')"),
        )

    op.create_table(
        "payments",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("rail", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("credential", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("payer", sa.Text(), nullable=False),
        sa.Column("transaction", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("claimed_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("state IN ('claimed', 'unknown', 'settled', 'rejected')", name=op.f("ck_payments_state")),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("fk_payments_order_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payments")),
        sa.UniqueConstraint("order_id", name=op.f("uq_payments_order_id")),
    )
    with op.batch_alter_table("payments", schema=None) as batch_op:
        batch_op.create_index(
            "ix_payments_open",
            ["updated_at"],
            unique=False,
            sqlite_where=sa.text("state IN ('claimed', 'unknown')"),
            postgresql_where=sa.text("state IN ('claimed', 'unknown')"),
        )
        batch_op.create_index(
            "uq_payments_rail_key",
            ["rail", "key"],
            unique=True,
            sqlite_where=sa.text("state <> 'rejected'"),
            postgresql_where=sa.text("state <> 'rejected'"),
        )

    op.create_table(
        "assets",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("milliseconds", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("role IN ('result', 'thumbnail')", name=op.f("ck_assets_role")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_assets_job_id")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_assets")),
    )
    with op.batch_alter_table("assets", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_assets_job_id"), ["job_id"], unique=False)

    op.create_table(
        "refunds",
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("payment_id", sa.Text(), nullable=False),
        sa.Column("rail", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("signed", sa.Text(), nullable=True),
        sa.Column("transaction", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("state IN ('pending', 'signed', 'refunded')", name=op.f("ck_refunds_state")),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("fk_refunds_order_id")),
        sa.ForeignKeyConstraint(["payment_id"], ["payments.id"], name=op.f("fk_refunds_payment_id")),
        sa.PrimaryKeyConstraint("order_id", name=op.f("pk_refunds")),
        sa.UniqueConstraint("payment_id", name=op.f("uq_refunds_payment_id")),
    )
    with op.batch_alter_table("refunds", schema=None) as batch_op:
        batch_op.create_index(
            "ix_refunds_open",
            ["updated_at"],
            unique=False,
            sqlite_where=sa.text("state <> 'refunded'"),
            postgresql_where=sa.text("state <> 'refunded'"),
        )

    op.create_table(
        "submissions",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("state IN ('intended', 'accepted', 'refused')", name=op.f("ck_submissions_state")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_submissions_job_id")),
        sa.PrimaryKeyConstraint("job_id", "attempt", name=op.f("pk_submissions")),
    )


def downgrade() -> None:
    op.drop_table("submissions")
    with op.batch_alter_table("refunds", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_refunds_open",
            sqlite_where=sa.text("state <> 'refunded'"),
            postgresql_where=sa.text("state <> 'refunded'"),
        )

    op.drop_table("refunds")
    with op.batch_alter_table("assets", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_assets_job_id"))

    op.drop_table("assets")
    with op.batch_alter_table("payments", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_payments_rail_key",
            sqlite_where=sa.text("state <> 'rejected'"),
            postgresql_where=sa.text("state <> 'rejected'"),
        )
        batch_op.drop_index(
            "ix_payments_open",
            sqlite_where=sa.text("state IN ('claimed', 'unknown')"),
            postgresql_where=sa.text("state IN ('claimed', 'unknown')"),
        )

    op.drop_table("payments")
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_jobs_open",
            sqlite_where=sa.text("state IN ('pending', 'loading')"),
            postgresql_where=sa.text("state IN ('pending', 'loading')"),
        )

    op.drop_table("jobs")
    with op.batch_alter_table("used_nonces", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_used_nonces_expires_at"))

    op.drop_table("used_nonces")
    with op.batch_alter_table("sandbox_tasks", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_sandbox_tasks_job_id"))

    op.drop_table("sandbox_tasks")
    with op.batch_alter_table("orders", schema=None) as batch_op:
        batch_op.drop_index("uq_orders_wallet_idempotency_key")
        batch_op.drop_index("ix_orders_wallet_id")

    op.drop_table("orders")
    with op.batch_alter_table("ledger_transactions", schema=None) as batch_op:
        batch_op.drop_index("uq_ledger_transactions_authorization")

    op.drop_table("ledger_transactions")
    op.drop_table("ledger_balances")
