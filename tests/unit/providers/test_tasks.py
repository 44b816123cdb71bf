"""What every vendor's task has in common."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stablestudio.providers.answers import Ambiguous, Reply
from stablestudio.providers.provider import Failed, FailureKind, Made, Running
from stablestudio.providers.tasks import Strangers, at, made_if, no_result, task_named, text, unknown_state
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


def test_a_task_that_stays_unknown_counts_as_forgotten_after_a_while() -> None:
    clock = ManualClock()
    strangers = Strangers(clock)
    assert strangers.meet("t", reply({})) == Running()
    clock.advance(119)
    assert strangers.meet("t", reply({})) == Running()
    assert strangers.meet("another", reply({})) == Running()
    clock.advance(2)
    told = strangers.meet("t", reply({}))

    assert isinstance(told, Failed)
    assert (told.kind, told.request_id) == (FailureKind.UPSTREAM_UNKNOWN, "r")


def test_a_task_that_became_known_is_no_stranger() -> None:
    clock = ManualClock()
    strangers = Strangers(clock)
    strangers.meet("t", reply({}))
    clock.advance(100)
    strangers.forget("t")
    clock.advance(100)

    assert strangers.meet("t", reply({})) == Running()


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
