"""Alembic's entry point: our tables only, the engine's are its own business."""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine

from stablestudio.store.tables import metadata


def _ours(name: str | None, kind: str, _parents: object) -> bool:
    return kind != "table" or name in metadata.tables


url = context.config.get_main_option("sqlalchemy.url")
assert url is not None
with create_engine(url).connect() as connection:
    context.configure(
        connection=connection, target_metadata=metadata, render_as_batch=True, include_name=_ours, compare_type=True
    )
    with context.begin_transaction():
        context.run_migrations()
