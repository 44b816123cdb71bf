"""A database that goes away while a process starts: it says so in one line, and a supervisor starts the next one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stablestudio.store.database import AWAY_HINT

# The schema is read; then the server is gone.
_PROGRAM = """
import psycopg, sqlalchemy
from stablestudio.cli import main
from stablestudio.store import {module}

def gone(*_, **__):
    raise sqlalchemy.exc.OperationalError("", None, psycopg.OperationalError("the server closed the connection"))

{module}.{name} = gone
main()
"""


@pytest.mark.parametrize(
    ("module", "name"), [("migrate", "current"), ("secret_marks", "agrees"), ("restores", "latest")]
)
def test_a_database_that_goes_away_between_two_looks_is_one_line_and_exit_code_2(
    tmp_path: Path, module: str, name: str
) -> None:
    told = _refused("-c", _PROGRAM.format(module=module, name=name), "serve", "--port", "0", "--data", str(tmp_path))
    assert "database: it cannot be used: the server closed the connection" in told


def test_a_start_without_its_database_says_on_one_line_what_is_to_be_done(tmp_path: Path) -> None:
    told = _refused(
        *("-m", "stablestudio", "serve", "--port", "0", "--data", str(tmp_path)),
        STABLESTUDIO_DATABASE="postgresql://me:hidden@127.0.0.1:1/none",
    )
    assert "Connection refused Is the server running on that host and accepting TCP/IP connections?" in told
    assert AWAY_HINT in told
    assert not any(part in told for part in ("hidden", "\\u000a", "\\n", "?."))


def _refused(*arguments: str, **environment: str) -> str:
    """Run what does not start because of its settings, and return what it says."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("STABLESTUDIO_")}
    started = subprocess.run(
        [sys.executable, *arguments],
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    told = started.stdout + started.stderr
    assert started.returncode == 2, told
    assert "Traceback" not in told
    return told
