"""Whose webhooks are sent next: nobody's backlog keeps others waiting, and finding that out stays cheap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from stablestudio.jobs.webhook_turns import (
    AT_ONCE,
    AT_ONCE_EACH_RECEIVER,
    AT_ONCE_EACH_WALLET,
    choose,
    crowded,
)
from stablestudio.store import jobs, webhooks
from stablestudio.store.database import Database
from stablestudio.store.webhooks import WebhookEvent
from tests.doubles import NOW_MS, open_database, sell


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = open_database(tmp_path)
    yield database
    database.close()


class Line:
    """Messages that wait, in the order in which they were added."""

    def __init__(self, database: Database) -> None:
        self._engine = database.engine
        self._count = 0

    def add(self, count: int, *, wallet: str, host: str) -> None:
        with self._engine.begin() as connection:
            for _ in range(count):
                self._count += 1
                url = f"https://{host.format(self._count)}/hook"
                job_id = sell(connection, self._count, webhook_url=url, wallet=wallet.format(self._count))
                jobs.complete(connection, job_id=job_id, now=NOW_MS + self._count)

    def choose(self, *, busy: list[WebhookEvent] | None = None) -> list[WebhookEvent]:
        with self._engine.connect() as connection:
            return choose(connection, now=NOW_MS + 1_000_000, busy=busy or [])


@pytest.fixture
def line(database: Database) -> Line:
    return Line(database)


def test_a_receiver_with_a_long_line_leaves_room_for_those_behind_it(line: Line) -> None:
    line.add(3 * AT_ONCE, wallet="buyer{}", host="tarpit.example.com")
    line.add(1, wallet="honest", host="hooks.example.com")
    chosen = Counter(event.receiver for event in line.choose())
    assert chosen == {"tarpit.example.com": AT_ONCE_EACH_RECEIVER, "hooks.example.com": 1}


def test_a_buyer_with_many_receivers_leaves_room_for_those_behind_it(line: Line) -> None:
    line.add(3 * AT_ONCE, wallet="greedy", host="n{}.example.com")
    line.add(2, wallet="honest", host="hooks.example.com")
    chosen = Counter(event.wallet for event in line.choose())
    assert chosen == {"greedy": AT_ONCE_EACH_WALLET, "honest": 2}


def test_what_is_under_way_counts_and_is_not_begun_again(line: Line) -> None:
    line.add(10, wallet="buyer{}", host="hooks.example.com")
    first = line.choose()
    assert len(first) == AT_ONCE_EACH_RECEIVER
    assert line.choose(busy=first) == []
    following = line.choose(busy=first[:3])
    assert len(following) == 1
    assert following[0].id not in {event.id for event in first[:3]}


def test_no_more_begin_than_there_is_room_for_the_longest_due_first(line: Line) -> None:
    line.add(AT_ONCE + 20, wallet="buyer{}", host="n{}.example.com")
    chosen = line.choose()
    assert [event.due_at for event in chosen] == [NOW_MS + number for number in range(1, AT_ONCE + 1)]
    assert line.choose(busy=chosen) == []


def test_a_place_that_others_may_wait_for_is_told_apart(line: Line) -> None:
    line.add(AT_ONCE_EACH_RECEIVER, wallet="buyer{}", host="hooks.example.com")
    chosen = line.choose()
    assert crowded(chosen, by=chosen[0])
    assert not crowded(chosen[1:], by=chosen[1])


def test_looking_for_what_is_due_reads_an_index_of_open_messages_alone(database: Database) -> None:
    asked: list[tuple[str, tuple[object, ...]]] = []
    with database.engine.connect() as connection:
        (event,) = _events(database)

        @sa.event.listens_for(connection, "before_cursor_execute")
        def note(_connection: object, _cursor: object, sql: str, parameters: tuple[object, ...], *_: object) -> None:
            asked.append((sql, parameters))

        for after in (None, event):
            webhooks.due(connection, now=NOW_MS, limit=64, after=after, wallets=["w"], receivers=["r"])
        plans = [
            [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", parameters)]
            for sql, parameters in list(asked)
            if sql.startswith("SELECT")
        ]
    assert len(plans) == 2
    for plan in plans:
        assert plan[0].startswith("SEARCH webhook_events USING INDEX ix_webhook_events_open (due_at"), plan
        assert not any("SCAN" in step or "TEMP B-TREE" in step for step in plan), plan


def _events(database: Database) -> list[WebhookEvent]:
    with database.engine.begin() as connection:
        job_id = sell(connection, 1, webhook_url="https://hooks.example.com/")
        jobs.complete(connection, job_id=job_id, now=NOW_MS)
    with database.engine.connect() as connection:
        return webhooks.of_order(connection, job_id)
