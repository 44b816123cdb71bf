"""The list of who makes jobs."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from stablestudio.cli import main
from stablestudio.jobs.lease import Lease
from tests.postgres import PostgresServer


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["workers", *arguments], catch_exceptions=False)


def test_each_lease_is_told_with_its_process_and_its_jobs(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.create_upgraded()
    monkeypatch.setenv("STABLESTUDIO_DATABASE", url)
    assert (run("--data", str(tmp_path)).exit_code, run("--data", str(tmp_path)).stdout) == (0, "")
    lease = Lease(url, seconds=600)
    asyncio.run(lease.take())
    told = json.loads(run("--data", str(tmp_path), "--json").stdout)
    lease.close()
    assert 0 < told.pop("leaseSecondsLeft") <= 600
    assert told.pop("since")
    assert told.pop("host")
    assert told == {"id": lease.executor, "pid": os.getpid(), "jobs": 0}


def test_a_database_in_a_file_has_no_workers_to_list(tmp_path: Path) -> None:
    answer = run("--data", str(tmp_path))
    assert answer.exit_code == 2
    assert "one process" in answer.output
