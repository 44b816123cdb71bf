"""The tables. Times are integer milliseconds, token amounts integer base units, enumerations text with a CHECK."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _one_of(column: str, *values: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(f"{column} IN ({', '.join(repr(value) for value in values)})", name=column)


orders = sa.Table(
    "orders",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),  # the job has the same id
    sa.Column("wallet", sa.Text, nullable=False),  # "eip155:0x..", who paid and who may read
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("operation", sa.Text, nullable=False),
    sa.Column("input", sa.Text, nullable=False),  # JSON as validated
    sa.Column("price_micros", sa.BigInteger, nullable=False),
    sa.Column("idempotency_key", sa.Text),
    sa.Column("revision", sa.Integer, nullable=False),  # counts what a buyer can see change: payment, job, refund
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("webhook_url", sa.Text),  # who is told when the job ends
)
sa.Index("ix_orders_wallet_id", orders.c.wallet, orders.c.id)
# The same key of the same wallet can never open a second order; a rejected payment gives its key back as NULL.
sa.Index("uq_orders_wallet_idempotency_key", orders.c.wallet, orders.c.idempotency_key, unique=True)

payments = sa.Table(
    "payments",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("order_id", sa.Text, sa.ForeignKey("orders.id"), nullable=False, unique=True),
    sa.Column("rail", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),  # the rail's own name of the credential, e.g. payer and nonce
    sa.Column("fingerprint", sa.Text, nullable=False),  # SHA-256 of method, path and body
    sa.Column("credential", sa.Text, nullable=False),  # JSON: what the rail needs to settle and to look the outcome up
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("network", sa.Text, nullable=False),
    sa.Column("asset", sa.Text, nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("payer", sa.Text, nullable=False),  # as displayed on its network
    sa.Column("transaction", sa.Text),
    sa.Column("reason", sa.Text),
    sa.Column("claimed_at", sa.BigInteger, nullable=False),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
    # Until then a stranger could still settle what we gave back; NULL where nobody can any more.
    sa.Column("expires_at", sa.BigInteger),
    sa.Column("policy", sa.Text, nullable=False, server_default="accept"),  # when it is settled
    # held: verified, not settled before the work is done. released: held, and given back because the work failed.
    _one_of("state", "claimed", "held", "unknown", "settled", "rejected", "released"),
    _one_of("policy", "accept", "complete"),
)
# Money rule 1: a credential buys at most one order. A rejected one moved nothing and may be presented again.
sa.Index(
    "uq_payments_rail_key",
    payments.c.rail,
    payments.c.key,
    unique=True,
    sqlite_where=sa.text("state <> 'rejected'"),
    postgresql_where=sa.text("state <> 'rejected'"),
)
sa.Index(
    "ix_payments_open",
    payments.c.updated_at,
    sqlite_where=sa.text("state IN ('claimed', 'unknown')"),
    postgresql_where=sa.text("state IN ('claimed', 'unknown')"),
)

sa.Index(
    "ix_payments_rejected",
    payments.c.rail,
    payments.c.key,
    sqlite_where=sa.text("state = 'rejected'"),
    postgresql_where=sa.text("state = 'rejected'"),
)
sa.Index(
    "ix_payments_watched",
    payments.c.expires_at,
    sqlite_where=sa.text("state IN ('rejected', 'released') AND expires_at IS NOT NULL"),
    postgresql_where=sa.text("state IN ('rejected', 'released') AND expires_at IS NOT NULL"),
)
# What a payer could still take back: the exposure of orders that are settled after the work; and who did take it back.
sa.Index(
    "ix_payments_held",
    payments.c.payer,
    sqlite_where=sa.text("policy = 'complete' AND state IN ('held', 'rejected')"),
    postgresql_where=sa.text("policy = 'complete' AND state IN ('held', 'rejected')"),
)

# A buyer that gave up waiting and pays the same request again on another rail gets the first order.
echoes = sa.Table(
    "echoes",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),  # SHA-256 of the buyer's session, wallets, method, path and body
    sa.Column("rail", sa.Text, nullable=False),
    sa.Column("order_id", sa.Text, sa.ForeignKey("orders.id"), nullable=False, index=True),
    sa.Column("created_at", sa.BigInteger, nullable=False, index=True),
)

# Credentials that are never charged. Those that came as an echo get their order again; those without an order were over by
# somebody's clock, and their buyer was told that nothing was charged.
spared_credentials = sa.Table(
    "spared_credentials",
    metadata,
    sa.Column("rail", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("order_id", sa.Text, sa.ForeignKey("orders.id"), nullable=True, index=True),
    sa.Column("expires_at", sa.BigInteger, nullable=False, index=True),  # milliseconds
)

# Settlements that a facilitator may still be working on: whoever comes later must not ask another one.
settlement_attempts = sa.Table(
    "settlement_attempts",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("facilitator", sa.Text, nullable=False),
    sa.Column("spent", sa.Boolean, nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=False, index=True),  # Unix seconds
    sa.Column("created_at", sa.BigInteger, nullable=False),
)

# The right to be the one writer of something, such as a gas key's nonces, across processes.
leases = sa.Table(
    "leases",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=False),
)

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.Text, sa.ForeignKey("orders.id"), primary_key=True),
    sa.Column("wallet", sa.Text, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("progress", sa.Integer, nullable=False),
    sa.Column("provider", sa.Text),
    sa.Column("upstream_model", sa.Text),
    sa.Column("task", sa.Text),  # the provider's handle of the accepted work
    sa.Column("error_code", sa.Text),
    sa.Column("error", sa.Text),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
    sa.Column("finished_at", sa.BigInteger),
    sa.Column("deleted_at", sa.BigInteger),
    _one_of("state", "pending", "loading", "complete", "failed"),
)
sa.Index(
    "ix_jobs_open",
    jobs.c.updated_at,
    sqlite_where=sa.text("state IN ('pending', 'loading')"),
    postgresql_where=sa.text("state IN ('pending', 'loading')"),
)

# How long the last ones took: what buyers are told to expect.
sa.Index(
    "ix_jobs_complete",
    jobs.c.type,
    jobs.c.finished_at,
    sqlite_where=sa.text("state = 'complete'"),
    postgresql_where=sa.text("state = 'complete'"),
)

submissions = sa.Table(
    "submissions",
    metadata,
    # Money rule 4: the intent is on disk before the vendor is asked, once per attempt.
    sa.Column("job_id", sa.Text, sa.ForeignKey("jobs.id"), primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text),  # why it was refused
    sa.Column("retry_at", sa.BigInteger),  # when the vendor that refused may be asked again
    sa.Column("executor", sa.Text),  # who wrote the intent; NULL where one process has the database for itself
    _one_of("state", "intended", "accepted", "refused"),
)

# The processes that make jobs from a database that they share. Times are the database's: machines' clocks differ.
executors = sa.Table(
    "executors",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),  # one process' own, never used again
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("pid", sa.BigInteger, nullable=False),
    sa.Column("leased_at", sa.BigInteger, nullable=False),
    sa.Column("leased_until", sa.BigInteger, nullable=False),
)

uploads = sa.Table(
    "uploads",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("order_id", sa.Text, sa.ForeignKey("orders.id"), nullable=False, unique=True),
    sa.Column("wallet", sa.Text, nullable=False),
    sa.Column("pathname", sa.Text, nullable=False, unique=True),
    sa.Column("content_type", sa.Text, nullable=False),  # as announced; confirming compares it with the bytes
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("key", sa.Text, unique=True),  # where the file is kept
    sa.Column("size", sa.BigInteger),
    sa.Column("sha256", sa.Text),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=False),  # of the token
    sa.Column("stored_at", sa.BigInteger),
    sa.Column("confirmed_at", sa.BigInteger),
    _one_of("state", "reserved", "stored", "confirmed", "abandoned", "expired"),
)
sa.Index(
    "ix_uploads_open",
    uploads.c.expires_at,
    sqlite_where=sa.text("state IN ('reserved', 'stored')"),
    postgresql_where=sa.text("state IN ('reserved', 'stored')"),
)

sa.Index(
    "ix_uploads_confirmed",
    uploads.c.confirmed_at,
    sqlite_where=sa.text("state = 'confirmed'"),
    postgresql_where=sa.text("state = 'confirmed'"),
)

upload_parts = sa.Table(
    "upload_parts",
    metadata,
    sa.Column("upload_id", sa.Text, sa.ForeignKey("uploads.id"), primary_key=True),
    sa.Column("session", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("key", sa.Text, nullable=False, index=True),
    sa.Column("etag", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
)

copies = sa.Table(
    "copies",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("intake", sa.Text, nullable=False, index=True),  # the check of an order to be that fetched it
    sa.Column("order_id", sa.Text, index=True),  # whose it is since its payment was claimed; orders may be forgotten
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("content_type", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False, index=True),
)

assets = sa.Table(
    "assets",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("job_id", sa.Text, sa.ForeignKey("jobs.id"), nullable=False, index=True),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("content_type", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("width", sa.Integer, nullable=False),
    sa.Column("height", sa.Integer, nullable=False),
    sa.Column("milliseconds", sa.BigInteger),  # duration of a clip
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("blurhash", sa.Text),  # of a thumbnail
    sa.Column("expires_at", sa.BigInteger),  # full minutes, in milliseconds; NULL for ever, or until the job has ended
    # A file goes in two steps, so that a stop between them leaves a row that says what is still to be erased.
    sa.Column("gone", sa.Text),  # why nobody gets it any more
    sa.Column("gone_at", sa.BigInteger),
    sa.Column("erased_at", sa.BigInteger),
    _one_of("role", "result", "thumbnail", "poster"),
    _one_of("gone", "expired", "deleted"),
)
sa.Index(
    "ix_assets_kept",
    assets.c.expires_at,
    sqlite_where=sa.text("gone_at IS NULL AND expires_at IS NOT NULL"),
    postgresql_where=sa.text("gone_at IS NULL AND expires_at IS NOT NULL"),
)
sa.Index(
    "ix_assets_doomed",
    assets.c.key,
    sqlite_where=sa.text("gone_at IS NOT NULL AND erased_at IS NULL"),
    postgresql_where=sa.text("gone_at IS NOT NULL AND erased_at IS NULL"),
)

refunds = sa.Table(
    "refunds",
    metadata,
    sa.Column("order_id", sa.Text, sa.ForeignKey("orders.id"), primary_key=True),  # once per order
    sa.Column("payment_id", sa.Text, sa.ForeignKey("payments.id"), nullable=False, unique=True),
    sa.Column("rail", sa.Text, nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("recipient", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column(
        "signed", sa.Text
    ),  # JSON: the signed transfer, stored before it is sent so that a re-send is the same one
    sa.Column("transaction", sa.Text),
    sa.Column("reason", sa.Text),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
    sa.Column("signed_at", sa.BigInteger),  # of the first signature: what the daily cap counts
    sa.Column("approved_at", sa.BigInteger),  # a person said yes: caps do not hold it back any more
    _one_of("state", "pending", "waiting", "signed", "refunded"),
)
sa.Index("ix_refunds_rail_signed_at", refunds.c.rail, refunds.c.signed_at)
sa.Index(
    "ix_refunds_open",
    refunds.c.updated_at,
    sqlite_where=sa.text("state <> 'refunded'"),
    postgresql_where=sa.text("state <> 'refunded'"),
)

webhook_events = sa.Table(
    "webhook_events",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),  # the webhook-id, the same at every try
    sa.Column("order_id", sa.Text, sa.ForeignKey("orders.id"), nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("occurred_at", sa.BigInteger, nullable=False),
    sa.Column("due_at", sa.BigInteger, nullable=False),  # of the next try; while one is under way, of the one after it
    sa.Column("wallet", sa.Text, nullable=False, server_default=""),  # the order's
    sa.Column("receiver", sa.Text, nullable=False, server_default=""),  # the host that is called
    sa.Column("scheduled", sa.Integer, nullable=False, server_default="0"),  # tries that nobody asked for
    # Where somebody asked for the next try: the state until then, and when the schedule goes on if it was pending.
    sa.Column("asked", sa.Text),
    sa.Column("later_at", sa.BigInteger),
    _one_of("state", "pending", "delivered", "given_up"),
    sa.UniqueConstraint("order_id", "type", name="uq_webhook_events_order_id_type"),
)
sa.Index(
    "ix_webhook_events_open",
    webhook_events.c.due_at,
    webhook_events.c.id,
    webhook_events.c.wallet,
    webhook_events.c.receiver,
    sqlite_where=sa.text("state = 'pending'"),
    postgresql_where=sa.text("state = 'pending'"),
)

webhook_tries = sa.Table(
    "webhook_tries",
    metadata,
    sa.Column("event_id", sa.Text, sa.ForeignKey("webhook_events.id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("milliseconds", sa.BigInteger),  # NULL while it is under way, or where a stop cut it off
    sa.Column("status", sa.Integer),  # of the answer, where there was one
    sa.Column("reason", sa.Text),  # why there was none
)

used_nonces = sa.Table(
    "used_nonces",
    metadata,
    sa.Column("nonce", sa.Text, primary_key=True),
    sa.Column("expires_at", sa.BigInteger, nullable=False, index=True),
)

# The books were put back from a backup, and what was done between its making and the restore is in no row of theirs.
restores = sa.Table(
    "restores",
    metadata,
    sa.Column("restored_at", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("made_at", sa.BigInteger, nullable=False),
)

# Of the secret that every process of this database has in its data folder.
secret_marks = sa.Table(
    "secret_marks",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("mark", sa.Text, nullable=False),
)

# The embedded world's own books. Nothing of a sale reads them but through the rail and the provider they stand for.
ledger_balances = sa.Table(
    "ledger_balances",
    metadata,
    sa.Column("asset", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, primary_key=True),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.CheckConstraint("amount >= 0", name="amount"),
)

ledger_transactions = sa.Table(
    "ledger_transactions",
    metadata,
    sa.Column("block", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("hash", sa.Text, nullable=False, unique=True),
    sa.Column("asset", sa.Text, nullable=False),
    sa.Column("sender", sa.Text, nullable=False),
    sa.Column("recipient", sa.Text, nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("nonce", sa.Text),  # of the EIP-3009 authorization or the Tempo transaction; NULL for a mint
    sa.Column("mined_at", sa.BigInteger, nullable=False),
    sa.Column("memo", sa.Text),  # of a TIP-20 transfer
    sa.Column("failure", sa.Text),  # why it was mined as failed: nothing moved
)
# EIP-3009: an authorization nonce is spent once per token and authorizer.
sa.Index(
    "uq_ledger_transactions_authorization",
    ledger_transactions.c.asset,
    ledger_transactions.c.sender,
    ledger_transactions.c.nonce,
    unique=True,
)

sandbox_tasks = sa.Table(
    "sandbox_tasks",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("job_id", sa.Text, nullable=False, index=True),  # not unique: a double submit must be visible
    sa.Column("ready_at", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
)

# Solana's part of the ledger: what was executed, failures too, since a failed transaction is a fact of its chain.
ledger_solana_transactions = sa.Table(
    "ledger_solana_transactions",
    metadata,
    sa.Column("slot", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("signature", sa.Text, nullable=False, unique=True),  # base58, the fee payer's
    sa.Column("message_hash", sa.Text, nullable=False, unique=True),
    sa.Column("transaction", sa.Text, nullable=False),  # base64 as executed
    sa.Column("meta", sa.Text, nullable=False),  # JSON: err, logs, token balances before and after
    sa.Column("mined_at", sa.BigInteger, nullable=False),
)

# Of the storage: what stands in the file under this key, so that no process keeps files in another place than the others.
storage_marks = sa.Table(
    "storage_marks",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
