"""The decisions about refunds, without a clock and without a database."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablestudio.payments.rail import Rejected
from stablestudio.payments.refund_policy import (
    PATIENCE_MS,
    Pay,
    RefundLimits,
    TryLater,
    Wait,
    decide,
    judge,
    room,
)
from stablestudio.store.refunds import Refund
from tests.doubles import NOW_MS

REFUND = Refund(
    order_id="job_1",
    payment_id="pay_1",
    rail="x402:eip155:84532:0x00",
    amount=45_000,
    recipient="0x00",
    state="pending",
    signed=None,
    transaction=None,
    reason="upstream_error",
    created_at=NOW_MS,
    updated_at=NOW_MS,
    signed_at=None,
    approved_at=None,
)
LIMITS = RefundLimits(daily_cap=100_000, minimum=10_000)


def _decide(refund: Refund, *, spent: int = 0, limits: RefundLimits | None = LIMITS, now: int = NOW_MS) -> Pay | Wait:
    return decide(refund, spent_today=spent, limits=limits, now=now)


@pytest.mark.parametrize("state", ["pending", "signed"])
def test_what_a_restore_may_have_forgotten_waits_for_a_person(state: str) -> None:
    refund = replace(REFUND, state=state, signed_at=NOW_MS if state == "signed" else None)
    assert decide(refund, spent_today=0, limits=LIMITS, now=NOW_MS + 10**6, forgotten=True) == Wait(reason="restored")
    approved = replace(refund, approved_at=NOW_MS)
    assert decide(approved, spent_today=0, limits=LIMITS, now=NOW_MS + 10**6, forgotten=True) == Pay()


@pytest.mark.parametrize(
    ("amount", "spent", "expected"),
    [
        (45_000, 0, Pay()),
        (45_000, 55_000, Pay()),
        (45_000, 55_001, Wait(reason="daily_cap")),
        (100_001, 0, Wait(reason="daily_cap")),
        (10_000, 0, Pay()),
        (9_999, 0, Wait(reason="below_minimum")),
    ],
)
def test_cap_and_minimum_are_kept_to_the_unit(amount: int, spent: int, expected: Pay | Wait) -> None:
    assert _decide(replace(REFUND, amount=amount), spent=spent) == expected


def test_without_limits_everything_is_paid() -> None:
    assert _decide(replace(REFUND, amount=10**18), spent=10**18, limits=RefundLimits()) == Pay()
    assert room(RefundLimits(), spent_today=5) is None
    assert room(LIMITS, spent_today=100_001) == -1


def test_without_a_rail_nothing_is_paid() -> None:
    assert _decide(replace(REFUND, approved_at=NOW_MS), limits=None) == Wait(reason="rail_missing")


@pytest.mark.parametrize("standing", [{"approved_at": NOW_MS}, {"signed_at": NOW_MS - 1}])
@pytest.mark.parametrize("amount", [1, 10**12])
def test_what_a_person_approved_or_passed_the_limits_once_is_paid(standing: dict[str, int], amount: int) -> None:
    assert _decide(replace(REFUND, amount=amount, **standing), spent=10**12) == Pay()  # type: ignore[arg-type]


@pytest.mark.parametrize("reason", ["daily_cap", "below_minimum", "rail_missing"])
def test_what_a_rule_holds_back_goes_on_when_the_rule_allows_it(reason: str) -> None:
    assert _decide(replace(REFUND, state="waiting", reason=reason)) == Pay()


def test_what_waits_for_a_person_goes_on_by_nobody_else() -> None:
    assert _decide(replace(REFUND, state="waiting", reason="recipient_refused")) == Wait(reason="recipient_refused")


def test_a_pause_is_kept_to_the_millisecond() -> None:
    tried = replace(REFUND, updated_at=NOW_MS + 8_000)
    assert tried.due_at == NOW_MS + 16_000
    assert _decide(tried, now=tried.due_at - 1) == Wait(reason="pause", until=tried.due_at)
    assert _decide(tried, now=tried.due_at) == Pay()


@given(tries=st.integers(1, 30), took=st.integers(0, 30_000))
def test_pauses_never_shrink_and_never_pass_two_minutes(tries: int, took: int) -> None:
    refund, pauses = REFUND, []
    for _ in range(tries):
        refund = replace(refund, updated_at=refund.due_at + took + 1)
        pauses.append(refund.due_at - refund.updated_at)
    assert pauses == sorted(pauses)
    assert all(5_000 <= pause <= 120_000 for pause in pauses)


@pytest.mark.parametrize(
    ("reason", "after_ms", "expected"),
    [
        ("insufficient_funds", 10 * PATIENCE_MS, TryLater()),
        ("settlement_unavailable", 10 * PATIENCE_MS, TryLater()),
        ("payment_expired", 10 * PATIENCE_MS, TryLater()),
        ("simulation_failed", PATIENCE_MS - 1, TryLater()),
        ("simulation_failed", PATIENCE_MS, Wait(reason="simulation_failed")),
        ("recipient_account_missing", 0, Wait(reason="recipient_account_missing")),
        ("recipient_refused", 0, Wait(reason="recipient_refused")),
        ("refund_recipient_invalid", 0, Wait(reason="refund_recipient_invalid")),
        ("payer_unknown", 0, Wait(reason="payer_unknown")),
        ("nonce_already_used", 0, Wait(reason="nonce_already_used")),
    ],
)
def test_only_a_person_can_mend_what_does_not_pass(reason: str, after_ms: int, expected: TryLater | Wait) -> None:
    assert judge(Rejected(reason=reason, message=""), refund=REFUND, now=NOW_MS + after_ms) == expected


def test_patience_begins_anew_with_an_approval() -> None:
    approved = replace(REFUND, approved_at=NOW_MS + PATIENCE_MS)
    assert judge(Rejected(reason="x", message=""), refund=approved, now=NOW_MS + PATIENCE_MS + 1) == TryLater()
