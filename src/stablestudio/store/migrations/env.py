"""Alembic's entry point: our tables only, the engine's are its own business; all revisions are one transaction."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context

from stablestudio.store.migrate import LOCK, bare_engine, is_ours
from stablestudio.store.tables import metadata

with bare_engine(context.config.attributes["url"]).connect().execution_options(upgrading=True) as connection:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_as_batch=True,
        include_name=is_ours,
        compare_type=True,
        transactional_ddl=True,  # which SQLite can, and Alembic does not ask of it by itself
    )
    with context.begin_transaction():
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        context.run_migrations()
