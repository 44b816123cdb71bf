"""Bring a database to today's schema by its one Alembic history."""

from __future__ import annotations

import sqlite3
from pathlib import Path

# The newest revision in migrations/versions; a test compares. Alembic is imported only where there is work to do.
HEAD = "0008"


def upgrade(path: Path) -> bool:
    """Upgrade the database if it is behind; return whether anything was done."""
    if _current(path) == HEAD:
        return False
    from alembic import command  # noqa: PLC0415 - 0.7 s of import that most starts do not need

    command.upgrade(alembic_config(path), "head")
    return True


def alembic_config(path: Path):  # type: ignore[no-untyped-def]  # noqa: ANN201 - alembic's Config, imported late
    """Return Alembic's configuration for a database file."""
    from alembic.config import Config  # noqa: PLC0415 - as above

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("sqlalchemy.url", f"sqlite:///{path}")
    return config


def _current(path: Path) -> str | None:
    connection = sqlite3.connect(path)
    try:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.OperationalError:
        return None
    finally:
        connection.close()
    return str(row[0]) if row else None
