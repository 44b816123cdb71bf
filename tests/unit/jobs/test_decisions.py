"""What follows what, in the making of a job; no clock, no network, no database."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablestudio.jobs.decisions import (
    HARD_DEADLINE_SECONDS,
    MAX_ATTEMPTS,
    MAX_WAIT_SECONDS,
    MAX_WAITS,
    Pace,
    after_refusal,
    failure,
    is_overdue,
    shift_of,
    step,
)
from stablestudio.providers.provider import FailureKind, NotAccepted

_SECONDS = st.floats(min_value=0, max_value=1e9)


@pytest.mark.parametrize(("elapsed", "wait"), [(0, 0.2), (0.5, 0.2), (2, 0.5), (8, 2), (20, 5), (3600, 5)])
def test_polls_are_eager_at_first_and_then_steady(elapsed: float, wait: float) -> None:
    assert Pace(steady=5).wait(elapsed) == wait


@given(_SECONDS, _SECONDS)
def test_the_pause_grows_within_its_bounds(one: float, other: float) -> None:
    pace = Pace(first=0.2, steady=15)
    early, late = sorted((one, other))
    assert 0.2 <= pace.wait(early) <= pace.wait(late) <= 15


@given(st.text(min_size=1))
def test_each_job_has_a_pace_of_its_own_near_the_models(job_id: str) -> None:
    shift = shift_of(job_id)
    assert -1 <= shift <= 1
    assert 4 <= Pace(steady=5).wait(3600, shift=shift) <= 6


def test_a_thousand_jobs_of_one_moment_are_not_asked_for_together() -> None:
    pauses = sorted(Pace(steady=5).wait(3600, shift=shift_of(f"job_{number:026d}")) for number in range(1000))
    assert all(pauses[place + 250] - pauses[place] > 0.3 for place in (0, 250, 500, 749))


def test_a_refused_submission_is_tried_again_and_then_fails() -> None:
    steps = [after_refusal(attempt, NotAccepted("busy"), another=False) for attempt in range(1, MAX_ATTEMPTS + 2)]
    assert [(one["do"], one["wait"]) for one in steps] == [("submit", 0.5), ("submit", 1.0), ("fail", 0), ("fail", 0)]
    assert steps[-1]["code"] == FailureKind.UPSTREAM_ERROR


def test_another_vendor_is_asked_at_once_and_the_same_one_after_a_pause() -> None:
    busy = NotAccepted("slow down", kind=FailureKind.RATE_LIMITED, retry_after=7)
    assert after_refusal(1, busy, another=True) == step("submit")
    assert after_refusal(1, busy, another=False) == step("submit", wait=7)
    for attempt in range(1, MAX_WAITS):
        assert after_refusal(attempt, busy, another=False)["do"] == "submit"
    assert after_refusal(MAX_WAITS, busy, another=False)["code"] == "rate_limited"


@pytest.mark.parametrize("kind", [FailureKind.UPSTREAM_AUTH, FailureKind.UPSTREAM_QUOTA, FailureKind.UPSTREAM_RETIRED])
def test_who_will_refuse_again_is_not_asked_again(kind: FailureKind) -> None:
    assert after_refusal(1, NotAccepted("no", kind=kind), another=False)["code"] == kind.value
    assert after_refusal(1, NotAccepted("no", kind=kind), another=True) == step("submit")


def test_a_vendor_that_asks_for_an_hour_gets_two_minutes() -> None:
    later = NotAccepted("later", kind=FailureKind.RATE_LIMITED, retry_after=3600)
    assert after_refusal(1, later, another=False)["wait"] == MAX_WAIT_SECONDS


def test_steps_are_plain_json_that_the_engine_can_write_down() -> None:
    assert step("poll") == {"do": "poll", "wait": 0.0, "code": "", "message": ""}
    failed = failure(FailureKind.MODERATION, "No.")
    assert failed == {"do": "fail", "wait": 0.0, "code": "moderation", "message": "No."}
    assert type(failed["code"]) is str


def test_a_job_is_late_for_a_day_before_it_is_lost() -> None:
    assert HARD_DEADLINE_SECONDS == 86_400
    assert [is_overdue(elapsed) for elapsed in (0, 86_399.9, 86_400)] == [False, False, True]
