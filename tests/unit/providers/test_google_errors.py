"""Google's errors in our vocabulary: whose fault, and whether another vendor may be asked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stablestudio.providers.answers import Reply
from stablestudio.providers.google_errors import is_refusal, kind_of, kind_of_limit, kind_of_status
from stablestudio.providers.provider import FailureKind


def reply(status: int, message: str = "", /, *, listed: bool = False, **more: Any) -> Reply:
    error = {"error": {"code": status, "message": message, **more}}
    return Reply(status=status, headers={}, body=json.dumps([error] if listed else error).encode())


def info(reason: str) -> list[dict[str, str]]:
    return [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (reply(400, "Invalid aspect ratio.", status="INVALID_ARGUMENT"), FailureKind.INVALID_INPUT),
        (reply(400, "safety_settings is not a field.", status="INVALID_ARGUMENT"), FailureKind.INVALID_INPUT),
        (reply(400, "API key not valid.", details=info("API_KEY_INVALID")), FailureKind.UPSTREAM_AUTH),
        (reply(400, "x", listed=True, details=info("API_KEY_INVALID")), FailureKind.UPSTREAM_AUTH),
        (reply(400, "User location is not supported.", status="FAILED_PRECONDITION"), FailureKind.UPSTREAM_AUTH),
        (reply(400, "Please enable billing.", status="FAILED_PRECONDITION"), FailureKind.UPSTREAM_QUOTA),
        (reply(400, "The prompt was blocked by our safety filter.", status="INVALID_ARGUMENT"), FailureKind.MODERATION),
        (reply(400, "The image violates Google's usage guidelines."), FailureKind.MODERATION),
        (reply(400, "x", details=info("PROHIBITED_CONTENT")), FailureKind.MODERATION),
        (reply(401, "Who?", status="UNAUTHENTICATED"), FailureKind.UPSTREAM_AUTH),
        (reply(402), FailureKind.UPSTREAM_QUOTA),
        (reply(403, "No.", status="PERMISSION_DENIED"), FailureKind.UPSTREAM_AUTH),
        (reply(403, "Blocked by safety policy of your organisation."), FailureKind.UPSTREAM_AUTH),
        (reply(403, "Off.", details=info("BILLING_DISABLED")), FailureKind.UPSTREAM_QUOTA),
        (reply(404, "models/x is not found", status="NOT_FOUND"), FailureKind.UPSTREAM_RETIRED),
        (reply(413), FailureKind.INVALID_INPUT),
        (reply(409), FailureKind.UPSTREAM_ERROR),
    ],
)
def test_a_refused_request_says_whose_fault_it_is(answer: Reply, kind: FailureKind) -> None:
    assert kind_of(answer) is kind


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"7", b'{"error":"x"}', b'{"error":{"details":7}}', b'{"error":{"code":[]}}']
)
def test_an_error_of_any_form_is_read(body: bytes) -> None:
    assert kind_of(Reply(status=400, headers={}, body=body)) is FailureKind.INVALID_INPUT
    assert kind_of(Reply(status=403, headers={}, body=body)) is FailureKind.UPSTREAM_AUTH
    assert kind_of_limit(Reply(status=429, headers={}, body=body)) is FailureKind.RATE_LIMITED


def test_too_many_a_minute_passes_by_and_a_used_up_day_does_not() -> None:
    def limited(
        quota: str, message: str = "You exceeded your current quota, check your plan and billing details."
    ) -> Reply:
        failure = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota}]}
        return reply(429, message, status="RESOURCE_EXHAUSTED", details=[failure])

    assert kind_of_limit(limited("GenerateRequestsPerMinutePerProjectPerModel-FreeTier")) is FailureKind.RATE_LIMITED
    assert kind_of_limit(limited("GenerateRequestsPerDayPerProjectPerModel")) is FailureKind.UPSTREAM_QUOTA
    assert kind_of_limit(limited("x", "Your prepayment credits are depleted.")) is FailureKind.UPSTREAM_QUOTA


def test_a_tasks_error_without_a_code_may_still_be_a_refusal() -> None:
    assert is_refusal({"message": "The output was filtered under our policies."})
    assert is_refusal({"code": "IMAGE_SAFETY"})
    assert not is_refusal({"code": "API_KEY_SERVICE_BLOCKED", "message": "API key blocked"})
    assert not is_refusal({"code": 7, "message": "blocked by policy"})


@pytest.mark.parametrize("code", [None, "invalid", 13, 99, [], {}])
def test_a_tasks_error_of_any_form_is_the_vendors_failure(code: Any) -> None:
    assert kind_of_status({"code": code}) is FailureKind.UPSTREAM_ERROR
