"""PostgreSQL's own tools reach the database as the service does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stablestudio.store import backup
from stablestudio.store.database import place_of
from tests.postgres import PostgresServer, require_binaries


def test_copying_and_loading_use_every_option_of_the_url(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{require_binaries()}{os.pathsep}{os.environ['PATH']}")
    source, target = postgres.create_upgraded(), postgres.create()
    with backup.snapshot(f"{source}&connect_timeout=9&sslmode=disable", tmp_path) as (dump, _):
        read_only = f"{target}&options=-c%20default_transaction_read_only%3Don"
        with pytest.raises(backup.DatabaseNotCopied, match="read-only"):
            backup.load(dump, read_only)
        backup.load(dump, target)
    with backup.engine(target) as opened, opened.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM orders").scalar() == 0


@pytest.mark.parametrize(
    ("url", "place"),
    [
        (
            "postgresql://me:hidden@db.example:6543/books?sslkey=/my/key&password=hidden",
            "postgresql://db.example:6543/books",
        ),
        ("postgresql://me@/books?host=/run/pg", "postgresql:///books?host=%2Frun%2Fpg"),
        ("sqlite:////var/books.db", "/var/books.db"),
    ],
)
def test_the_place_of_a_database_is_told_without_its_secrets(url: str, place: str) -> None:
    assert place_of(url) == place
