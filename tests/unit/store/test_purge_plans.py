"""What the purge asks of the database, it finds by an index: books of a million jobs are purged beside sales."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from stablestudio.store import assets, copies, uploads
from tests.doubles import NOW_MS, open_database

# Held by the orders that are open at the moment, however many have ended.
_SMALL = ("ix_jobs_open", "ix_payments_open", "ix_assets_doomed")
_QUESTIONS: dict[str, Callable[[sa.Connection], object]] = {
    "mark": lambda c: assets.mark_expired(c, before=NOW_MS, now=NOW_MS, limit=100),
    "erase": lambda c: assets.doomed(c, limit=100, after="jobs/x"),
    "note": lambda c: assets.note_erased(c, ["jobs/x"], now=NOW_MS),
    "look": lambda c: assets.tally(c, before=NOW_MS),
    "abandon uploads": lambda c: uploads.abandon(c, before=NOW_MS, limit=100),
    "expire uploads": lambda c: uploads.expire(c, before=NOW_MS, limit=100),
    "left of uploads": lambda c: uploads.left_over(c, after="uploads/x", limit=100),
    "unneeded of uploads": lambda c: uploads.unneeded(c, begun_before=NOW_MS, after="uploads/x", limit=100),
    "copies": lambda c: copies.unneeded(c, before=NOW_MS, after="inputs/x", limit=100),
}


@pytest.mark.parametrize("name", _QUESTIONS)
def test_no_question_of_the_purge_reads_a_whole_table(name: str, tmp_path: Path) -> None:
    database = open_database(tmp_path)
    asked: list[tuple[str, Any]] = []
    with database.engine.connect() as connection:
        sa.event.listen(connection, "before_cursor_execute", lambda *seen: asked.append((seen[2], seen[3])))
        _QUESTIONS[name](connection)
        statements = [each for each in asked if re.match("SELECT|UPDATE|WITH", each[0])]
        plans = [
            row[-1]
            for sql, terms in statements
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", terms)
        ]
    database.close()
    assert plans
    scans = [line for line in plans if line.startswith("SCAN") and not line.startswith(("SCAN CONSTANT", "SCAN ("))]
    assert [line for line in scans if not any(index in line for index in _SMALL)] == []
