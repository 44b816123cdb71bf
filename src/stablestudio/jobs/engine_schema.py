"""Which version the engine's own tables in a database have, and which one this program's engine needs."""

from __future__ import annotations

from dbos._migration import get_migration_versions, get_sqlite_migration_versions

from stablestudio.store.database import is_file
from stablestudio.store.migrate import bare_engine


def versions(url: str) -> tuple[int, int]:
    """Return both: the version found, 0 where there is none, and the one needed. Nothing is changed."""
    engine = bare_engine(url)
    try:
        if is_file(url):
            return get_sqlite_migration_versions(engine)
        return get_migration_versions(engine, "dbos", True)  # noqa: FBT003 - the engine's own signature
    finally:
        engine.dispose()
