"""The commands of the schema, on both stores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from stablestudio.cli import main
from stablestudio.store import migrate
from stablestudio.store.database import AWAY_HINT
from tests.postgres import PostgresServer


@pytest.fixture(params=["sqlite", "postgres"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder whose books are not there yet."""
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        monkeypatch.setenv("STABLESTUDIO_DATABASE", server.create())
    return tmp_path / "data"


def run(folder: Path, *arguments: str, code: int = 0) -> dict[str, Any]:
    result = CliRunner().invoke(main, ["db", *arguments, "--data", str(folder)], catch_exceptions=False)
    assert result.exit_code == code, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_an_upgrade_makes_the_tables_and_a_check_finds_them_equal(folder: Path) -> None:
    assert run(folder, "check", code=1) == {
        "success": False,
        "found": None,
        "schema": migrate.HEAD,
        "differences": [],
        "hint": "Next: stablestudio db upgrade, with the newest program that uses this database.",
    }
    assert run(folder, "upgrade")["before"] is None
    assert run(folder, "upgrade")["before"] == migrate.HEAD
    assert run(folder, "check")["success"] is True


def test_a_check_names_what_differs(folder: Path) -> None:
    run(folder, "upgrade")
    with migrate.bare_engine(_url(folder)).begin() as connection:
        connection.execute(sa.text("DROP INDEX ix_refunds_open"))
    [difference] = run(folder, "check", code=1)["differences"]
    assert difference == "index ix_refunds_open: missing in the database"
    with migrate.bare_engine(_url(folder)).begin() as connection:
        connection.execute(sa.text("ALTER TABLE jobs ADD COLUMN foo TEXT"))
    assert "jobs.foo: in the database only" in run(folder, "check", code=1)["differences"]


def test_a_check_sees_that_the_engine_s_tables_are_not_there(folder: Path) -> None:
    folder.mkdir()
    migrate.upgrade(_url(folder))
    [difference] = run(folder, "check", code=1)["differences"]
    assert difference.startswith("the engine's schema: none, this program needs ")
    run(folder, "upgrade")
    run(folder, "check")


def test_newer_books_are_refused_in_a_sentence(folder: Path) -> None:
    run(folder, "upgrade")
    with migrate.bare_engine(_url(folder)).begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    refused = run(folder, "upgrade", code=2)
    assert "9999, newer than this program's" in refused["error"]
    assert "with the newest program" in refused["next"]


def test_the_other_commands_read_the_same_books(folder: Path) -> None:
    run(folder, "upgrade")
    result = CliRunner().invoke(main, ["audit", "--data", str(folder)], catch_exceptions=False)
    assert (result.exit_code, json.loads(result.stdout)["orders"]) == (0, 0)


def test_a_database_that_is_not_there_is_named_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STABLESTUDIO_DATABASE", "postgresql://me:hidden@127.0.0.1:1/none")
    (tmp_path / "secret").write_text("ab" * 32)
    for command in (["db", "check"], ["db", "upgrade"], ["audit"], ["refunds", "list"], ["backup", "x"], ["workers"]):
        result = CliRunner().invoke(main, [*command, "--data", str(tmp_path)], catch_exceptions=False)
        assert result.exit_code == 2, result.output
        assert "127.0.0.1" in result.output
        assert "hidden" not in result.output


def test_a_database_that_is_not_there_is_told_on_one_line_and_is_to_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STABLESTUDIO_DATABASE", "postgresql://me:hidden@127.0.0.1:1/none")
    for command in (["db", "check"], ["db", "upgrade"], ["audit"]):
        result = CliRunner().invoke(main, [*command, "--data", str(tmp_path)], catch_exceptions=False)
        told = json.loads(result.stdout)
        assert (told["code"], told["next"]) == ("books_unreadable", AWAY_HINT)
        assert "Connection refused Is the server running" in told["error"]
        assert told["error"].endswith("connections?")


def test_a_file_that_cannot_be_read_is_no_server_to_start(tmp_path: Path) -> None:
    (tmp_path / "stablestudio.db").write_bytes(b"no database at all" * 100)
    for command in (["db", "check"], ["audit"]):
        result = CliRunner().invoke(main, [*command, "--data", str(tmp_path)], catch_exceptions=False)
        told = json.loads(result.stdout)
        assert told["code"] == "books_unreadable"
        assert told["error"].endswith("file is not a database.")
        assert told["next"].startswith("Run this as the user")


def test_a_wrong_database_url_is_told_by_every_command_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STABLESTUDIO_DATABASE", "postgresql://me:hid@den@127.0.0.1:1/none")
    for command in (["db", "check"], ["serve"], ["backup", "x"], ["restore", "x"], ["workers"]):
        result = CliRunner().invoke(main, [*command, "--data", str(tmp_path)], catch_exceptions=False)
        assert result.exit_code == 2, result.output
        assert "database: a URL such as" in result.output
        assert not any(part in result.output for part in ("hid@", "den@", "Traceback"))


def _url(folder: Path) -> str:
    from stablestudio.config import load_settings

    return load_settings({"data": folder}).books
