"""Google's errors (`google.rpc.Status`, in HTTP bodies and inside tasks) in our own vocabulary. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from stablestudio.providers.answers import Reply
from stablestudio.providers.provider import FailureKind

# Whole words of enum-like fields only: a key's refusal carries API_KEY_SERVICE_BLOCKED.
_REFUSAL = re.compile(
    r"(IMAGE_)?(SAFETY|PROHIBITED_CONTENT|RECITATION)|BLOCKLIST|SPII|MODEL_ARMOR|JAILBREAK", re.IGNORECASE
)
# In prose only the phrases of a refusal count: messages also name fields such as safety_settings.
_REFUSED = re.compile(
    r"\b(blocked|filtered|refused|violat\w+)\b[^.]*\b(safety|polic(y|ies)|guidelines|practices)\b|\bsupport codes?:",
    re.IGNORECASE,
)
_BILLING = re.compile(r"\bbilling\b", re.IGNORECASE)
# Not "billing": every 429 advises to look at one's "plan and billing details".
_DEPLETED = re.compile(r"\bcredits?\b[^.]*\b(depleted|exhausted|used up)\b", re.IGNORECASE)
_KEY_REASONS = frozenset({"API_KEY_INVALID", "API_KEY_SERVICE_BLOCKED", "API_KEY_EXPIRED"})
_INVALID_ARGUMENT = 3  # google.rpc.Code
_BY_CODE = {
    _INVALID_ARGUMENT: FailureKind.INVALID_INPUT,
    4: FailureKind.UPSTREAM_TIMEOUT,
    7: FailureKind.UPSTREAM_AUTH,
    8: FailureKind.RATE_LIMITED,
    16: FailureKind.UPSTREAM_AUTH,
}
_BY_STATUS = {
    401: FailureKind.UPSTREAM_AUTH,
    402: FailureKind.UPSTREAM_QUOTA,
    404: FailureKind.UPSTREAM_RETIRED,
    413: FailureKind.INVALID_INPUT,
}


def error_in(reply: Reply) -> Mapping[str, Any]:
    """Return the error of an answer, empty where it has none; Google's front servers wrap it in a list."""
    error = reply.document.get("error")
    return error if isinstance(error, dict) else {}


def kind_of(reply: Reply) -> FailureKind:
    """Name the reason of a 4xx answer to a request."""
    error = error_in(reply)
    if reply.status == 400:
        return _bad_request(error)
    if reply.status == 403:
        return FailureKind.UPSTREAM_QUOTA if _speaks_of_billing(error) else FailureKind.UPSTREAM_AUTH
    return _BY_STATUS.get(reply.status, FailureKind.UPSTREAM_ERROR)


def kind_of_limit(reply: Reply) -> FailureKind:
    """Name the reason of a 429: too many a minute passes by, a used-up day or credit does not."""
    error = error_in(reply)
    used_up = _DEPLETED.search(message_of(error)) or any("PerDay" in quota for quota in _quotas(error))
    return FailureKind.UPSTREAM_QUOTA if used_up else FailureKind.RATE_LIMITED


def kind_of_status(error: Mapping[str, Any]) -> FailureKind:
    """Name the reason of an error that a task ended with."""
    code = error.get("code")
    if is_refusal(error):
        return FailureKind.MODERATION
    return _BY_CODE.get(code, FailureKind.UPSTREAM_ERROR) if isinstance(code, int) else FailureKind.UPSTREAM_ERROR


def is_refusal(error: Mapping[str, Any]) -> bool:
    """Tell whether the vendor's content rules speak here."""
    tokens = (error.get("code"), error.get("status"), *_reasons(error))
    if any(isinstance(token, str) and _REFUSAL.fullmatch(token) for token in tokens):
        return True
    code = error.get("code")
    about_the_input = code is None or isinstance(code, str) or code in (_INVALID_ARGUMENT, 400)
    return about_the_input and bool(_REFUSED.search(message_of(error)))


def message_of(error: Mapping[str, Any]) -> str:
    """Return the vendor's own words, for the operator."""
    message = error.get("message")
    return message if isinstance(message, str) else ""


def _bad_request(error: Mapping[str, Any]) -> FailureKind:
    if _KEY_REASONS.intersection(_reasons(error)):
        return FailureKind.UPSTREAM_AUTH
    if is_refusal(error):
        return FailureKind.MODERATION
    if error.get("status") == "FAILED_PRECONDITION":  # the account: billing is off, or its country is not served
        return FailureKind.UPSTREAM_QUOTA if _speaks_of_billing(error) else FailureKind.UPSTREAM_AUTH
    return FailureKind.INVALID_INPUT


def _speaks_of_billing(error: Mapping[str, Any]) -> bool:
    return bool(_BILLING.search(message_of(error))) or "BILLING_DISABLED" in _reasons(error)


def _details(error: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    details = error.get("details")
    return (each for each in details if isinstance(each, dict)) if isinstance(details, list) else iter(())


def _reasons(error: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(reason for each in _details(error) if isinstance(reason := each.get("reason"), str))


def _quotas(error: Mapping[str, Any]) -> Iterator[str]:
    for detail in _details(error):
        violations = detail.get("violations")
        for each in violations if isinstance(violations, list) else ():
            if isinstance(each, dict) and isinstance(each.get("quotaId"), str):
                yield each["quotaId"]
