"""A data folder with books in it, and the operator's command line on it."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from click.testing import CliRunner, Result

from stablestudio.cli import main
from stablestudio.store import migrate
from stablestudio.store.database import connect
from stablestudio.store.tables import metadata


@dataclass(frozen=True)
class Office:
    """Where an operator works."""

    data: Path

    @classmethod
    def open(cls, data: Path, *, revision: str = migrate.HEAD) -> Office:
        """Make empty books of a schema's revision."""
        data.mkdir()
        office = cls(data)
        with closing(connect(office.url)) as database, database.engine.begin() as connection:
            metadata.create_all(connection)
            connection.exec_driver_sql("CREATE TABLE alembic_version (version_num TEXT)")
            connection.exec_driver_sql("INSERT INTO alembic_version VALUES (?)", (revision,))
        return office

    @property
    def path(self) -> Path:
        return self.data / "stablestudio.db"

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path}"

    def write(self, work: Callable[[sa.Connection], Any]) -> Any:
        with closing(connect(self.url)) as database:
            return asyncio.run(database.write(work))

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path)) as connection:
            found = connection.execute(sql).fetchall()
            connection.commit()
        return found

    def run(self, *arguments: str) -> Result:
        """Run a command on this folder; what it writes to standard output goes to no terminal."""
        return CliRunner().invoke(main, [*arguments, "--data", str(self.data)], catch_exceptions=False)

    def lines(self, *arguments: str) -> list[dict[str, Any]]:
        """Run a command whose output is one JSON object a line."""
        result = self.run(*arguments)
        assert result.exit_code == 0, result.output
        return [json.loads(line) for line in result.stdout.splitlines()]

    def json(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """Run a command whose output is one JSON document."""
        result = self.run(*arguments)
        assert result.exit_code == code, result.output
        document: dict[str, Any] = json.loads(result.stdout)
        return document
