"""`stablestudio restore` into PostgreSQL: what was cut off or failed is no service, and the next restore ends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest

from stablestudio.config import RESTORING, load_secret
from stablestudio.server.premises import lock, require_secret
from stablestudio.store.restoring import RestoreUnfinished
from tests.postgres import PostgresServer


@dataclass(frozen=True)
class House:
    """A data folder and a database."""

    data: Path
    url: str

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self._run("-m", "stablestudio", *arguments, **environment)

    def run_changed(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command as a program that changes something first and calls it then."""
        return self._run("-c", program, *arguments)

    def _run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("STABLESTUDIO_")}
        return subprocess.run(
            [sys.executable, *arguments, "--data", str(self.data)],
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
    (old.data / "assets/marks").mkdir(parents=True)
    (old.data / "assets/marks/storage.txt").write_text("here")
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO storage_marks (key, value) VALUES ('marks/storage.txt', 'here')")
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
    failed = house.run_changed(program, "restore", str(backup))
    assert (failed.returncode, "it is away" in failed.stdout) == (2, True), failed
    assert house.rows("SELECT nspname FROM pg_namespace WHERE nspname IN ('dbos')") == []
    assert house.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == []
    assert [path.name for path in house.data.iterdir()] == ["lock"]
    assert house.run("restore", str(backup)).returncode == 0


def test_a_backup_of_a_file_is_refused_by_the_name_of_its_setting(backup: Path, house: House, tmp_path: Path) -> None:
    old = House(tmp_path / "file", "")
    assert old.run("db", "upgrade").returncode == 0
    load_secret(old.data)
    assert old.run("backup", str(tmp_path / "file.tar")).returncode == 0
    refused = house.run("restore", str(tmp_path / "file.tar"))
    assert (refused.returncode, json.loads(refused.stdout)["code"]) == (2, "database_differs"), refused
    assert "`database`" in json.loads(refused.stdout)["next"]
    assert house.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == []


def test_a_database_with_something_in_it_is_left_alone(backup: Path, house: House) -> None:
    with psycopg.connect(house.url) as connection:
        connection.execute("CREATE TABLE mine (id int)")
    refused = house.run("restore", str(backup))
    assert (refused.returncode, "place_not_empty" in refused.stdout) == (2, True), refused
    assert house.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == [("mine",)]


def test_a_restore_that_is_killed_when_all_is_whole_is_not_begun_anew(backup: Path, house: House) -> None:
    killed = house.run("restore", str(backup), STABLESTUDIO_FAILPOINT="restore.noted")
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    _expect_opened_by_the_next(backup, house)


def test_a_restore_whose_last_answer_is_lost_leaves_its_files_and_the_next_one_ends_it(
    backup: Path, house: House
) -> None:
    program = (
        "from stablestudio.operations import restore; from stablestudio.cli import main; import psycopg, sqlalchemy\n"
        "finish = restore._finish\n"
        "def lose(*given, **named):\n"
        "    finish(*given, **named)\n"
        "    raise sqlalchemy.exc.OperationalError('', None, psycopg.OperationalError('it is away'))\n"
        "restore._finish = lose; main()"
    )
    lost = house.run_changed(program, "restore", str(backup))
    assert (lost.returncode, "restore_uncertain" in lost.stdout, "it is away" in lost.stdout) == (2, True, True), lost
    files = _files(house.data)
    away = replace(house, url="postgresql://studio@127.0.0.1:1/none").run("restore", str(backup))
    assert (away.returncode, json.loads(away.stdout)["code"]) == (2, "restore_uncertain"), away
    assert _files(house.data) == files
    _expect_opened_by_the_next(backup, house)


def _expect_opened_by_the_next(backup: Path, house: House) -> None:
    """Expect that the service starts after the next restore, with the very files that were there before it."""
    with pytest.raises(RestoreUnfinished):
        lock(house.data)
    files = _files(house.data)
    assert {path.name for path in files} == {"lock", "secret", "storage.txt"}
    again = house.run("restore", str(backup))
    assert (again.returncode, json.loads(again.stdout)["counts"]["orders"]) == (0, 0), again
    assert _files(house.data) == files
    assert house.rows("SELECT count(*) FROM restores") == [(1,)]
    for command in (["db", "check"], ["audit"]):
        checked = house.run(*command)
        assert checked.returncode == 0, checked.stdout + checked.stderr
    lock(house.data).close()
    require_secret(house.url, load_secret(house.data), folder=house.data)


def _files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_ino for path in folder.rglob("*") if path.is_file()}


def test_what_is_whole_stays_where_another_backup_is_given(backup: Path, house: House, tmp_path: Path) -> None:
    assert house.run("restore", str(backup), "--stopped").returncode == 0
    assert house.run("backup", str(tmp_path / "other.tar")).returncode == 0
    (house.data / RESTORING).mkdir()
    files = _files(house.data)
    refused = house.run("restore", str(tmp_path / "other.tar"))
    assert (refused.returncode, "place_not_empty" in refused.stdout) == (2, True), refused
    assert _files(house.data) == files
    assert house.run("restore", str(backup)).returncode == 0
    assert _files(house.data) == files
    assert not (house.data / RESTORING).exists()
