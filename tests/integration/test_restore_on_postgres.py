"""`stablestudio restore` into PostgreSQL: what was cut off or failed is no service, and the next restore ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest

from stablestudio.config import load_secret
from tests.postgres import PostgresServer


@dataclass(frozen=True)
class House:
    """A data folder and a database."""

    data: Path
    url: str

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("STABLESTUDIO_")}
        return subprocess.run(
            [sys.executable, "-m", "stablestudio", *arguments, "--data", str(self.data)],
            env=clean | {"STABLESTUDIO_DATABASE": self.url} | environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(query.encode()).fetchall()


@pytest.fixture
def backup(postgres: PostgresServer, tmp_path: Path) -> Iterator[Path]:
    """A backup of books in which nothing is sold yet."""
    url = postgres.create_upgraded()
    old = House(tmp_path / "old", url)
    old.data.mkdir()
    load_secret(old.data)
    done = old.run("backup", str(tmp_path / "b.tar"))
    assert done.returncode == 0, done.stdout + done.stderr
    yield tmp_path / "b.tar"
    postgres.drop(url)


@pytest.fixture
def house(postgres: PostgresServer, tmp_path: Path) -> Iterator[House]:
    url = postgres.create()
    yield House(tmp_path / "new", url)
    postgres.drop(url)


def test_books_of_a_restore_that_was_killed_are_used_by_nobody_and_the_next_one_notes_itself(
    backup: Path, house: House, tmp_path: Path
) -> None:
    killed = house.run("restore", str(backup), STABLESTUDIO_FAILPOINT="restore.loaded")
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    other = replace(house, data=tmp_path / "other")
    for command in (["db", "check"], ["db", "upgrade"], ["audit"], ["serve", "--port", "0"]):
        refused = other.run(*command)
        assert (refused.returncode, "was cut off" in refused.stdout + refused.stderr) == (2, True), refused
    again = house.run("restore", str(backup))
    assert again.returncode == 0, again.stdout + again.stderr
    assert house.rows("SELECT count(*) FROM restores") == [(1,)]
    assert house.run("audit").returncode == 0
    assert not (house.data / ".restoring").exists()


def test_a_restore_that_fails_after_the_load_leaves_the_database_empty(backup: Path, house: House) -> None:
    program = (
        "from stablestudio.store import restores; from stablestudio.cli import main; import psycopg, sqlalchemy\n"
        "def fail(*_, **__): raise sqlalchemy.exc.OperationalError('', None, psycopg.OperationalError('it is away'))\n"
        "restores.note = fail; main()"
    )
    environment = os.environ | {"STABLESTUDIO_DATABASE": house.url}
    arguments = [sys.executable, "-c", program, "restore", str(backup), "--data", str(house.data)]
    failed = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (failed.returncode, "it is away" in failed.stdout) == (2, True), failed
    assert house.rows("SELECT nspname FROM pg_namespace WHERE nspname IN ('dbos')") == []
    assert house.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == []
    assert [path.name for path in house.data.iterdir()] == ["lock"]
    assert house.run("restore", str(backup)).returncode == 0


def test_a_database_with_something_in_it_is_left_alone(backup: Path, house: House) -> None:
    with psycopg.connect(house.url) as connection:
        connection.execute("CREATE TABLE mine (id int)")
    refused = house.run("restore", str(backup))
    assert (refused.returncode, "place_not_empty" in refused.stdout) == (2, True), refused
    assert house.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == [("mine",)]
