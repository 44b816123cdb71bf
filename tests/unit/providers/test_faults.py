"""Failures of vendors: one vocabulary, a clean sentence for the buyer, the raw word for the operator."""

from __future__ import annotations

import pytest

from stablestudio.providers.answers import Ambiguous
from stablestudio.providers.faults import SENTENCES, VendorUnusable, failed, kind_of, turned_down, unusable
from stablestudio.providers.http import Reply
from stablestudio.providers.provider import FailureKind, NotAccepted


def reply(status: int, body: bytes = b'{"error":"no"}') -> Reply:
    return Reply(status=status, headers={"x-request-id": "req_1"}, body=body)


@pytest.mark.parametrize("kind", FailureKind)
def test_every_kind_has_a_sentence_fit_for_buyers(kind: FailureKind) -> None:
    assert SENTENCES[kind].endswith(".")
    assert failed(kind).message == SENTENCES[kind]


def test_the_vendors_word_is_kept_apart_and_short() -> None:
    failure = failed(FailureKind.UPSTREAM_ERROR, detail="x" * 5000, request_id="req_1")

    assert failure.message == SENTENCES[FailureKind.UPSTREAM_ERROR]
    assert (len(failure.detail), failure.request_id) == (500, "req_1")


@pytest.mark.parametrize("kind", [FailureKind.MODERATION, FailureKind.INVALID_INPUT])
def test_work_that_is_at_fault_itself_fails(kind: FailureKind) -> None:
    failure = turned_down(kind, reply(400))

    assert (failure.kind, failure.request_id, failure.detail) == (kind, "req_1", '{"error":"no"}')


@pytest.mark.parametrize(
    "kind", sorted(set(FailureKind) - {FailureKind.MODERATION, FailureKind.INVALID_INPUT, FailureKind.UPSTREAM_TIMEOUT})
)
def test_for_any_other_reason_another_vendor_may_be_asked(kind: FailureKind) -> None:
    with pytest.raises(NotAccepted) as caught:
        turned_down(kind, reply(403))

    assert (caught.value.kind, caught.value.request_id) == (kind, "req_1")


def test_a_vendor_whose_time_ran_out_may_have_begun() -> None:
    with pytest.raises(Ambiguous):
        turned_down(FailureKind.UPSTREAM_TIMEOUT, reply(400))


def test_nothing_that_looks_like_a_key_is_kept() -> None:
    for key in ("AIza" + "b" * 35, "ya29.a0-b_c", "eyJhbGciOiJS.eyJpc3MiOi.c2ln", "sk-" + "a" * 40):
        assert failed(FailureKind.UPSTREAM_ERROR, detail=f"no {key}!").detail == "no [key]!"
    assert failed(FailureKind.UPSTREAM_ERROR, detail="Bearer abcdefgh no").detail == "Bearer [key] no"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, FailureKind.INVALID_INPUT),
        (401, FailureKind.UPSTREAM_AUTH),
        (402, FailureKind.UPSTREAM_QUOTA),
        (403, FailureKind.UPSTREAM_AUTH),
        (404, FailureKind.UPSTREAM_RETIRED),
        (409, FailureKind.UPSTREAM_ERROR),
        (422, FailureKind.INVALID_INPUT),
        (429, FailureKind.RATE_LIMITED),
    ],
)
def test_a_bare_status_has_its_usual_meaning(status: int, kind: FailureKind) -> None:
    assert kind_of(status) is kind


@pytest.mark.parametrize(("status", "word"), [(401, "key"), (402, "credit"), (404, "address"), (500, "unexpectedly")])
def test_a_vendor_that_cannot_be_used_tells_the_operator_why(status: int, word: str) -> None:
    with pytest.raises(VendorUnusable, match=word) as caught:
        unusable("openai", reply(status))

    assert "openai" in caught.value.message
