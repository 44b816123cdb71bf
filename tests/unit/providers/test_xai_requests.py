"""xAI's requests and states: every order becomes a body that xAI takes; every answer means one thing."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stablestudio import catalog
from stablestudio.providers.answers import Reply, Unreadable
from stablestudio.providers.provider import Failed, FailureKind, Made, Running
from stablestudio.providers.xai import Xai
from stablestudio.providers.xai_requests import clip, edit, generation, picture, progress_of, refusal, words
from tests.providers.given import tiny
from tests.providers.schema import problems, schemas
from tests.providers.works import end_user, of_body, work
from tests.strategies import inputs

KEYS = sorted(Xai.models)
bodies = st.sampled_from(KEYS).flatmap(
    lambda key: st.tuples(st.just(key), inputs(next(each for each in catalog.OFFERINGS if each.key == key)))
)
DATA = "data:image/png;base64," + base64.b64encode(b"picture").decode()


def check(key: str, body: dict[str, Any]) -> dict[str, Any]:
    """Make the request of an order and hold it against what xAI's client and reference know."""
    order = of_body(key, body, model=Xai.models[key])
    if key == "grok-video/generate":
        endpoint, made = "videos/generations", clip(order, tiny(order), user=end_user(order.wallet))
    elif key == "grok/edit":
        endpoint, made = "images/edits", edit(order, tiny(order), user=end_user(order.wallet))
        sent = made.get("images") or [made["image"]]
        assert ("image" in made) is (len(body["images"]) == 1) is ("images" not in made)
        assert sent == [{"type": "image_url", "url": DATA}] * len(body["images"])
    else:
        endpoint, made = "images/generations", generation(order, user=end_user(order.wallet))
    assert problems(schemas("xai")[endpoint], made) == []
    return made


@pytest.mark.parametrize("key", KEYS)
def test_every_example_becomes_a_request_that_the_vendor_takes(key: str) -> None:
    offering = next(each for each in catalog.OFFERINGS if each.key == key)

    check(key, offering.input.example)


@settings(max_examples=60)
@given(bodies)
def test_every_order_becomes_a_request_that_the_vendor_takes(order: tuple[str, dict[str, Any]]) -> None:
    check(*order)


def test_every_offering_of_the_family_is_made() -> None:
    assert set(Xai.models) == {each.key for each in catalog.OFFERINGS if each.model.startswith("grok")}


def test_an_edit_without_a_ratio_keeps_the_images() -> None:
    assert "aspect_ratio" not in check("grok/edit", {"prompt": "x", "images": ["https://a.example/1"]})


def test_a_clip_says_all_that_was_ordered() -> None:
    ordered = {"prompt": "x", "duration": 9, "resolution": "480p", "aspect_ratio": "9:16", "image": "job:job_1"}

    assert check("grok-video/generate", ordered) == {
        "model": "grok-imagine-video",
        "prompt": "x",
        "duration": 9,
        "resolution": "480p",
        "aspect_ratio": "9:16",
        "image": {"url": DATA},
        "user": end_user(work("grok/edit").wallet),
    }


def test_a_clip_without_a_ratio_takes_the_vendors() -> None:
    assert "aspect_ratio" not in check("grok-video/generate", {"prompt": "x", "image": "job:job_1"})


def reply(document: object = None, *, status: int = 200, body: bytes | None = None) -> Reply:
    return Reply(status=status, headers={}, body=json.dumps(document).encode() if body is None else body)


@pytest.mark.parametrize(
    "document",
    [
        {"data": []},
        {"data": [{"respect_moderation": False}]},
        {"data": [{"respect_moderation": False, "url": "https://a.example/blank.jpg"}]},
        {"data": [{"respect_moderation": False, "b64_json": ""}]},
    ],
)
def test_a_blocked_picture_comes_as_success_and_is_a_refusal(document: dict[str, Any]) -> None:
    failure = picture(reply(document))

    assert isinstance(failure, Failed)
    assert failure.kind is FailureKind.MODERATION


def test_a_picture_is_found_in_each_form() -> None:
    assert picture(reply({"data": [{"b64_json": "YWJj", "respect_moderation": True}]})) == b"abc"
    assert picture(reply({"data": [{"url": "https://a.example/1.jpg"}]})) == "https://a.example/1.jpg"


@pytest.mark.parametrize("document", [{}, [], None, {"data": [{}]}, {"data": [{"b64_json": None, "url": ""}]}])
def test_an_answer_without_a_picture_says_so(document: object) -> None:
    with pytest.raises(Unreadable):
        picture(reply(document))


@pytest.mark.parametrize(
    ("status", "document", "kind"),
    [
        (400, {"code": "invalid", "error": "Generated image rejected by content moderation."}, FailureKind.MODERATION),
        (400, {"error": {"message": "Blocked by content policy", "code": None}}, FailureKind.MODERATION),
        (
            403,
            {"code": "denied", "error": "Content violates usage guidelines. SAFETY_CHECK_TYPE_BIO"},
            FailureKind.MODERATION,
        ),
        (400, {"code": "invalid", "error": "Incorrect API key provided: xa***"}, FailureKind.UPSTREAM_AUTH),
        (400, {"code": "invalid-argument", "error": "Zero Data Retention teams must"}, FailureKind.UPSTREAM_AUTH),
        (401, {"error": "no"}, FailureKind.UPSTREAM_AUTH),
        (403, {"error": "Your team has either used all available credits or reached"}, FailureKind.UPSTREAM_QUOTA),
        (403, {"error": "Your newly created team doesn't have any credits yet"}, FailureKind.UPSTREAM_QUOTA),
        (429, {"error": "reached its monthly spending limit"}, FailureKind.UPSTREAM_QUOTA),
        (429, {"error": "Too many requests"}, FailureKind.RATE_LIMITED),
        (404, {"code": "Some requested entity was not found", "error": "no"}, FailureKind.UPSTREAM_RETIRED),
        (400, {"error": "The model grok-x does not exist"}, FailureKind.UPSTREAM_RETIRED),
        (400, {"error": "The image does not exist"}, FailureKind.INVALID_INPUT),
        (422, {"error": "duration must be between 1 and 15"}, FailureKind.INVALID_INPUT),
        (400, "text", FailureKind.INVALID_INPUT),
    ],
)
def test_an_error_means_what_its_words_say(status: int, document: object, kind: FailureKind) -> None:
    assert refusal(reply(document, status=status)) is kind


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"error": {"message": "m", "type": "t", "code": "c"}}, "c: t: m"),
        ({"error": {"message": "m", "code": None}}, "m"),
        ({"code": "c", "error": "e"}, "c: e"),
        ({"error": "e"}, "e"),
        ({}, ""),
    ],
)
def test_the_words_of_an_error_are_found_in_each_shape(document: dict[str, Any], told: str) -> None:
    assert words(document) == told


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (reply(status=202, body=b""), Running()),
        (reply(status=202, body=b"<html>"), Running()),
        (reply({"status": "pending", "progress": 40}, status=202), Running(progress=40)),
        (reply({"progress": 12.5}, status=202), Running(progress=12)),
        (reply({"status": "pending"}), Running()),
        (reply({"status": "done", "video": {"url": "https://a.example/1.mp4"}}), Made()),
        (reply({"video": {"url": "https://a.example/1.mp4", "respect_moderation": True}}), Made()),
        (reply({"status": "dreaming"}), Running()),
        (reply({}), Running()),
        (reply([]), Running()),
        (reply(body=b"<html>"), Running()),
        (reply({"error": "Incorrect API key provided"}, status=400), Running()),
        (reply({"error": "no"}, status=401), Running()),
        (reply({"error": "spending limit"}, status=403), Running()),
    ],
)
def test_what_is_not_the_end_is_still_running(answer: Reply, state: object) -> None:
    assert progress_of("xai", answer) == state


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (reply({"status": "done", "video": {"url": "https://a.example/1", "respect_moderation": False}}), "moderation"),
        (reply({"video": {"url": "https://a.example/1", "respect_moderation": False}}), "moderation"),
        (reply({"status": "done", "video": {"respect_moderation": False}}), "moderation"),
        (reply({"status": "moderated"}), "moderation"),
        (reply({"status": "failed", "error": {"code": "content_policy_violation"}}), "moderation"),
        (
            reply({"status": "failed", "error": {"code": "x", "message": "rejected by content moderation"}}),
            "moderation",
        ),
        (reply({"error": "Generated video rejected by content moderation."}, status=400), "moderation"),
        (reply({"error": "Content violates usage guidelines"}, status=403), "moderation"),
        (reply({"status": "failed", "error": {"code": "internal", "message": "x"}}), "upstream_error"),
        (reply({"status": "failed"}), "upstream_error"),
        (reply({"status": "done"}), "upstream_error"),
        (reply({"status": "done", "video": None}), "upstream_error"),
        (reply({"error": {"message": "broken"}}), "upstream_error"),
        (reply({"error": "bad clip"}, status=422), "upstream_error"),
        (reply({"status": "expired"}), "upstream_timeout"),
    ],
)
def test_an_end_without_a_clip_says_why(answer: Reply, kind: str) -> None:
    failure = progress_of("xai", answer)

    assert isinstance(failure, Failed)
    assert failure.kind == kind
