"""What is decided about a refund: pay it, let it wait, sign it anew. Pure: rows and facts in, decisions out."""

from __future__ import annotations

from dataclasses import dataclass

from stablestudio.payments.rail import Rejected
from stablestudio.store.refunds import BELOW_MINIMUM, DAILY_CAP, HELD_BY_RULE, RAIL_MISSING, RESTORED, Refund

DAY_MS = 24 * 3600 * 1000
# A refusal that nobody here has heard of may pass; one that lasts longer than this is for a person.
PATIENCE_MS = 30 * 60 * 1000
EXPIRED, PURSE_EMPTY, PAYER_UNKNOWN = "payment_expired", "insufficient_funds", "payer_unknown"
# They pass by themselves or once the operator has acted, whoever is to be paid.
_PASSING = frozenset({EXPIRED, PURSE_EMPTY, "payment_not_yet_valid", "settlement_unavailable", "transaction_reverted"})
# They are about this one refund, and nothing that we do again and again will change them.
_LASTING = frozenset({PAYER_UNKNOWN, "nonce_already_used"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundLimits:
    """What a rail's refund key may pay without a person, in base units of its token."""

    daily_cap: int | None = None  # in any 24 hours; None: no cap
    minimum: int = 0  # less than this costs more than it returns


@dataclass(frozen=True, slots=True)
class Pay:
    """Sign it if it is not signed, and send it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Do nothing now: until that moment (ms), or where it is None until the reason is gone or a person acts."""

    reason: str
    until: int | None = None


@dataclass(frozen=True, slots=True)
class TryLater:
    """Keep it owed and try again after a pause."""


def decide(
    refund: Refund, *, spent_today: int, limits: RefundLimits | None, now: int, forgotten: bool = False
) -> Pay | Wait:
    """Decide whether a refund is paid now (ms).

    `spent_today` is what the rail signed in the last 24 hours without a person's approval; `limits` are None where
    there is no such rail. A person's approval overrides cap and minimum, and what was signed once has passed them.
    `forgotten` tells that it may have been paid in the time that a restore of the books has forgotten.
    """
    if limits is None:
        return Wait(reason=RAIL_MISSING)
    if refund.state == "waiting" and refund.reason not in HELD_BY_RULE:
        return Wait(reason=refund.reason or "")
    if refund.state != "waiting" and refund.due_at > now:
        return Wait(reason="pause", until=refund.due_at)
    if refund.approved_at is not None:
        return Pay()
    rule = RESTORED if forgotten else _rule(refund, limits, spent_today=spent_today)
    return Pay() if rule is None else Wait(reason=rule)


def _rule(refund: Refund, limits: RefundLimits, *, spent_today: int) -> str | None:
    """Return which limit holds a refund back, if one does."""
    if refund.signed_at is not None:
        return None
    if refund.amount < limits.minimum:
        return BELOW_MINIMUM
    left = room(limits, spent_today=spent_today)
    return None if left is None or refund.amount <= left else DAILY_CAP


def judge(rejected: Rejected, *, refund: Refund, now: int) -> TryLater | Wait:
    """Decide what follows where a rail says at `now` (ms) that certainly nothing moved."""
    reason = rejected.reason
    if reason in _PASSING:
        return TryLater()
    began = max(refund.created_at, refund.approved_at or 0)
    if reason in _LASTING or "recipient" in reason or now - began >= PATIENCE_MS:
        return Wait(reason=reason)
    return TryLater()


def room(limits: RefundLimits, *, spent_today: int) -> int | None:
    """Return what the daily cap has left, in base units; None without a cap."""
    return None if limits.daily_cap is None else limits.daily_cap - spent_today
