"""What an operator sees of webhooks and can do about them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sqlalchemy as sa

from stablestudio.store import jobs
from stablestudio.store import webhooks as store
from tests.doubles import NOW_MS, order, sell

from .books import Office

PENDING, DELIVERED, GIVEN_UP, SILENT = range(1, 5)
URL = "https://hooks.example.com/studio"


def _write(connection: sa.Connection) -> None:
    for number in (PENDING, DELIVERED, GIVEN_UP, SILENT):
        job_id = sell(connection, number, webhook_url=None if number == SILENT else URL)
        jobs.complete(connection, job_id=job_id, now=NOW_MS)
    for number, state, status in ((DELIVERED, "delivered", 204), (GIVEN_UP, "given_up", None)):
        (event,) = store.of_order(connection, order(number).id)
        store.take(connection, event=event, now=NOW_MS, until=NOW_MS + 20_000)
        reason = None if status else "hooks.example.com did not answer in time."
        done = store.Try(event_id=event.id, number=1, at=NOW_MS, milliseconds=5, status=status, reason=reason)
        store.record(connection, done=done, state=state, due_at=NOW_MS)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    made = Office.open(tmp_path / "data")
    made.write(_write)
    return made


def _states(office: Office) -> dict[str, str]:
    return dict(office.rows("SELECT order_id, state FROM webhook_events"))


def test_what_is_not_delivered_is_listed_as_one_object_a_line(office: Office) -> None:
    told = {each["order"]: each for each in office.lines("webhooks", "list")}
    assert set(told) == {order(PENDING).id, order(GIVEN_UP).id}
    pending, given_up = told[order(PENDING).id], told[order(GIVEN_UP).id]
    assert (pending["state"], pending["type"], pending["tries"], pending["url"]) == ("pending", "job.complete", 0, URL)
    assert pending["nextTryAt"] is not None
    assert (given_up["tries"], given_up["nextTryAt"]) == (1, None)
    assert given_up["lastReason"] == "hooks.example.com did not answer in time."
    (delivered,) = office.lines("webhooks", "list", "--state", "delivered")
    assert (delivered["order"], delivered["lastStatus"]) == (order(DELIVERED).id, 204)


def test_the_messages_of_an_order_are_told_again(office: Office) -> None:
    told = json.loads(office.run("webhooks", "redeliver", order(DELIVERED).id).stdout)
    assert len(told["messages"]) == 1
    assert _states(office)[order(DELIVERED).id] == "pending"
    assert _states(office)[order(GIVEN_UP).id] == "given_up"


def test_all_that_were_given_up_are_told_again(office: Office) -> None:
    told = json.loads(office.run("webhooks", "redeliver", "--all").stdout)
    assert len(told["messages"]) == 1
    assert _states(office)[order(GIVEN_UP).id] == "pending"
    assert _states(office)[order(DELIVERED).id] == "delivered"


def test_an_order_without_messages_is_told_apart(office: Office) -> None:
    result = office.run("webhooks", "redeliver", order(SILENT).id)
    assert result.exit_code != 0
    assert "webhook_not_found" in result.stdout
    assert office.run("webhooks", "redeliver").exit_code == 2
