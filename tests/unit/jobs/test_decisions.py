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
    Refusal,
    Turn,
    failure,
    is_overdue,
    next_turn,
    nobody_took_it,
    retry_pause,
    shift_of,
    step,
)
from stablestudio.providers.provider import FailureKind, NotAccepted

_BUSY, _BROKEN = FailureKind.RATE_LIMITED, FailureKind.UPSTREAM_ERROR
_LASTING = (FailureKind.UPSTREAM_AUTH, FailureKind.UPSTREAM_QUOTA, FailureKind.UPSTREAM_RETIRED)
_SECONDS = st.floats(min_value=0, max_value=1e9)


@pytest.mark.parametrize(("elapsed", "wait"), [(0, 0.5), (2, 0.5), (8, 2), (20, 5), (3600, 5)])
def test_polls_are_eager_at_first_and_then_steady(elapsed: float, wait: float) -> None:
    assert Pace(steady=5).wait(elapsed) == wait


@given(_SECONDS, _SECONDS)
def test_the_pause_grows_within_its_bounds(one: float, other: float) -> None:
    pace = Pace(steady=15)
    early, late = sorted((one, other))
    assert 1.5 <= pace.wait(early) <= pace.wait(late) <= 15


@given(st.text(min_size=1))
def test_each_job_has_a_pace_of_its_own_near_the_models(job_id: str) -> None:
    shift = shift_of(job_id)
    assert -1 <= shift <= 1
    assert 4 <= Pace(steady=5).wait(3600, shift=shift) <= 6


def test_a_thousand_jobs_of_one_moment_are_not_asked_for_together() -> None:
    pauses = sorted(Pace(steady=5).wait(3600, shift=shift_of(f"job_{number:026d}")) for number in range(1000))
    assert all(pauses[place + 250] - pauses[place] > 0.3 for place in (0, 250, 500, 749))


def _refused(*kinds: FailureKind, by: str = "one", retry_at: int = 0) -> list[Refusal]:
    return [Refusal(provider=by, kind=kind, retry_at=retry_at) for kind in kinds]


def test_a_refused_submission_is_tried_again_and_then_fails() -> None:
    for times in range(MAX_ATTEMPTS):
        assert next_turn(["one"], _refused(*[_BROKEN] * times)) == Turn("one", 0)
    assert next_turn(["one"], _refused(*[_BROKEN] * MAX_ATTEMPTS)) is None
    assert next_turn(["one"], _refused(*[_BUSY] * (MAX_WAITS - 1))) == Turn("one", 0)
    assert next_turn(["one"], _refused(*[_BUSY] * MAX_WAITS)) is None


def test_another_vendor_is_asked_at_once_and_the_same_one_after_its_pause() -> None:
    busy = _refused(_BUSY, retry_at=7000)
    assert next_turn(["one", "two"], busy) == Turn("two", 0)
    both = busy + _refused(_BUSY, by="two", retry_at=500)
    assert next_turn(["one", "two"], both) == Turn("two", 500), "each vendor's own pause counts"


@pytest.mark.parametrize("final", [*_LASTING, FailureKind.INVALID_INPUT])
def test_who_will_refuse_again_is_not_asked_again_and_ends_nothing_for_the_others(final: FailureKind) -> None:
    assert next_turn(["one"], _refused(final)) is None
    assert next_turn(["one", "two"], _refused(_BUSY, retry_at=9) + _refused(final, by="two")) == Turn("one", 9)
    assert next_turn(["one", "two"], _refused(final) + _refused(_BUSY, by="two", retry_at=9)) == Turn("two", 9)


@pytest.mark.parametrize(
    ("kinds", "code"),
    [
        ((FailureKind.INVALID_INPUT, FailureKind.INVALID_INPUT), "invalid_input"),
        ((FailureKind.INVALID_INPUT, FailureKind.UPSTREAM_AUTH), "upstream_auth"),
        ((FailureKind.UPSTREAM_AUTH, FailureKind.INVALID_INPUT), "upstream_auth"),
        ((FailureKind.RATE_LIMITED, FailureKind.UPSTREAM_AUTH), "rate_limited"),
        ((), "upstream_retired"),
    ],
)
def test_a_failure_is_named_after_what_passes_and_else_after_what_the_operator_can_mend(
    kinds: tuple[FailureKind, ...], code: str
) -> None:
    assert nobody_took_it(_refused(*kinds))["code"] == code


def test_each_reason_has_a_sentence_of_its_own() -> None:
    told = {
        nobody_took_it(_refused(kind))["message"] for kind in (*_LASTING, _BUSY, _BROKEN, FailureKind.INVALID_INPUT)
    }
    assert len(told) == len(_LASTING) + 3


def test_a_vendor_that_asks_for_an_hour_gets_two_minutes() -> None:
    assert retry_pause(NotAccepted("later", retry_after=3600), times=1) == MAX_WAIT_SECONDS
    assert [retry_pause(NotAccepted("no"), times=times) for times in (1, 2, 3)] == [0.5, 1.0, 2.0]
    assert retry_pause(NotAccepted("soon", retry_after=-5), times=1) == 0.5


def test_steps_are_plain_json_that_the_engine_can_write_down() -> None:
    assert step("poll") == {"do": "poll", "wait": 0.0, "code": "", "message": ""}
    failed = failure(FailureKind.MODERATION, "No.")
    assert failed == {"do": "fail", "wait": 0.0, "code": "moderation", "message": "No."}
    assert type(failed["code"]) is str


def test_a_job_is_late_for_a_day_before_it_is_lost() -> None:
    assert HARD_DEADLINE_SECONDS == 86_400
    assert [is_overdue(elapsed) for elapsed in (0, 86_399.9, 86_400)] == [False, False, True]
