"""The databases of the model: one for all that a process does, or one for each of two processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stablestudio.store.database import Database, connect
from tests.doubles import open_database
from tests.postgres import PostgresServer


@pytest.fixture(params=["sqlite", "postgres"])
def databases(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Database]]:
    """An empty database for each process that there may be."""
    if request.param == "sqlite":
        opened = [open_database(tmp_path)]
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        url = server.create_upgraded()
        opened = [connect(url), connect(url)]
    yield opened
    for database in opened:
        database.close()
    if request.param == "postgres":
        server.drop(url)
