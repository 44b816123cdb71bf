"""What every vendor's task has in common."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from stablestudio.providers.answers import Ambiguous, Reply, Unanswered, Unreadable
from stablestudio.providers.provider import Failed, FailureKind, Made, Running
from stablestudio.providers.tasks import (
    Strangers,
    at,
    forgotten,
    made_if,
    no_result,
    task_id,
    task_named,
    text,
    unknown_state,
)
from tests.doubles import ManualClock


def reply(document: Any) -> Reply:
    return Reply(status=200, headers={"x-request-id": "r"}, body=json.dumps(document).encode())


def test_a_path_leads_to_what_stands_there_or_to_nothing() -> None:
    document = {"a": [{"b": 7}], "c": None}

    assert at(document, "a", 0, "b") == 7
    assert at(document) == document
    for astray in (("a", 1), ("a", "b"), ("c", "d"), ("x",), ("a", 0, "b", "c")):
        assert at(document, *astray) is None


def test_a_task_that_is_not_named_was_perhaps_taken() -> None:
    assert task_named("v", reply({"output": {"task_id": "t"}}), "output", "task_id") == "t"
    for nameless in ("{}", '{"output": {}}', '{"output": {"task_id": 7}}', '{"output": {"task_id": ""}}', "[1]", "<"):
        with pytest.raises(Ambiguous):
            task_named("v", Reply(status=200, headers={}, body=nameless.encode()), "output", "task_id")


STRANGE = Reply(status=404, headers={"x-request-id": "r"}, body=b"{}")


@pytest.mark.parametrize("status", [404, 410])
def test_a_task_that_stays_unknown_counts_as_forgotten_after_a_while(status: int) -> None:
    clock = ManualClock()
    strangers, strange = Strangers(clock), replace(STRANGE, status=status)
    assert strangers.judge("v", "t", strange) == Running()
    clock.advance(119)
    assert strangers.judge("v", "t", strange) == Running()
    assert strangers.judge("v", "another", strange) == Running()
    clock.advance(2)
    told = strangers.judge("v", "t", strange)

    assert isinstance(told, Failed)
    assert (told.kind, told.request_id) == (FailureKind.UPSTREAM_UNKNOWN, "r")


def test_a_task_that_became_known_is_no_stranger() -> None:
    clock = ManualClock()
    strangers = Strangers(clock)
    strangers.judge("v", "t", STRANGE)
    clock.advance(100)
    assert strangers.judge("v", "t", reply({})) is None
    clock.advance(100)

    assert strangers.judge("v", "t", STRANGE) == Running()


def test_an_error_that_is_not_about_the_task_decides_nothing() -> None:
    refused = replace(STRANGE, status=401)
    strangers = Strangers(ManualClock())

    with pytest.raises(Unreadable, match="401"):
        strangers.judge("v", "t", refused)
    assert strangers.judge("v", "t", refused, is_verdict=lambda _: True) is None
    assert strangers.judge("v", "t", refused, is_unknown=lambda _: True) == Running()


def test_an_ended_task_is_not_lost_to_one_server_that_does_not_know_it() -> None:
    with pytest.raises(Unanswered):
        forgotten("v", STRANGE, Running())
    assert forgotten("v", STRANGE, None) is None
    assert isinstance(forgotten("v", STRANGE, no_result(STRANGE)), Failed)


@pytest.mark.parametrize("name", ["", ".", "..", "x" * 513, "a\nb", None, 7, ["a"]])
def test_an_id_that_cannot_be_one_is_no_id(name: object) -> None:
    assert task_id(name) is None
    with pytest.raises(Ambiguous):
        task_named("v", reply({"id": name}), "id")


def test_an_undocumented_state_is_logged_and_is_no_end(caplog: pytest.LogCaptureFixture) -> None:
    assert unknown_state("v", {"odd": 1}) == Running()
    assert caplog.records[0].message == "unknown_task_state"


def test_a_finished_task_needs_a_result() -> None:
    assert made_if("https://e.com/a", "r") == Made()
    for nothing in ("null", '""', "[]"):
        failure = made_if(json.loads(nothing), "r")
        assert isinstance(failure, Failed)
        assert failure.request_id == "r"
    assert no_result(reply({})).kind is FailureKind.UPSTREAM_UNKNOWN


def test_words_of_a_vendor_are_text() -> None:
    assert (text(None), text("a"), text(7)) == ("", "a", "7")
