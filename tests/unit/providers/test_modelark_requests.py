"""ModelArk's requests and answers: both forms of Seedance inputs, as the vendor's own client types them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stablestudio.providers.answers import Reply
from stablestudio.providers.modelark_requests import (
    MODELS,
    SEEDANCE,
    SEEDANCE_1_5,
    find_task,
    listed,
    marker,
    model_for,
    progress,
    refusal,
    request,
    result_url,
)
from stablestudio.providers.provider import Failed, FailureKind, Made, Running, Work
from stablestudio.providers.seedance_inputs import exact_size, respelled
from tests.providers.given import tiny
from tests.providers.schema import problems, schemas
from tests.providers.wishes import wishes
from tests.providers.works import of_body, work
from tests.strategies import inputs

USER = "u" * 64


def asked(order: Work, *, older_model: str | None = SEEDANCE_1_5) -> dict[str, Any]:
    """Return the body that work is asked for with."""
    model = model_for(order, model=MODELS[order.offering.key], older_model=older_model)
    body = request(order, tiny(order), model=model, older=model == older_model, user=USER)
    assert not isinstance(body, Failed)
    return body


def wrong(body: dict[str, Any]) -> list[str]:
    """Return what the vendor would find wrong."""
    schema = schemas("modelark")
    parts = [problems(schema[part["type"]], part) for part in body["content"]]
    return [*problems(schema["request"], body), *(each for part in parts for each in part)]


@pytest.mark.parametrize("key", sorted(MODELS))
def test_the_example_of_each_offering_fits(key: str) -> None:
    assert wrong(asked(work(key))) == []


@pytest.mark.parametrize("key", sorted(MODELS))
@given(data=st.data())
@settings(max_examples=60)
def test_every_input_fits_and_says_nothing_that_its_model_does_not_take(key: str, data: st.DataObject) -> None:
    order = of_body(key, data.draw(inputs(work(key).offering)))
    body = asked(order)

    assert wrong(body) == []
    assert 4 <= body["duration"] <= 15
    if body["model"] != SEEDANCE_1_5:
        assert not {"seed", "camera_fixed", "frames"} & body.keys()
    roles = [part["role"] for part in body["content"] if "role" in part]
    assert not ({"first_frame", "last_frame"} & set(roles) and any(role.startswith("reference") for role in roles))
    assert len(roles) == len(order.input.media())
    assert body["generate_audio"] is getattr(order.input.output(), "audio", None)


# The rest is done here, to the file that comes back, or the vendor has no such knob.
_UNHEARD: dict[str, set[str]] = {}


@pytest.mark.parametrize("key", sorted(MODELS))
def test_every_wish_of_the_buyer_reaches_modelark(key: str) -> None:
    heard = [(name, asked(one) != asked(other)) for name, one, other in wishes(key)]

    assert heard
    assert {name for name, was_heard in heard if not was_heard} <= _UNHEARD.get(key.partition("/")[0], set())


def test_text_goes_first_and_files_follow_in_their_order_and_roles() -> None:
    content = asked(work("seedance/i2v"))["content"]

    assert [part["type"] for part in content] == ["text", "image_url", "video_url", "audio_url"]
    assert [part.get("role") for part in content[1:]] == ["reference_image", "reference_video", "reference_audio"]
    assert content[0]["text"].startswith("@Image1 keeps the character identity while @Video1")
    assert content[1]["image_url"]["url"].startswith("data:image/png;base64,")
    assert content[2]["video_url"]["url"] == "https://example.com/input"
    assert content[3]["audio_url"]["url"].startswith("data:audio/wav;base64,")


def test_one_or_two_frames_are_the_first_and_the_last() -> None:
    body: dict[str, Any] = {"prompt": "x", "urls": ["https://e.com/a.png", "https://e.com/b.png"]}
    two = asked(of_body("seedance/i2v", body))["content"]
    one = asked(of_body("seedance/i2v", body | {"urls": ["https://e.com/a.png"]}))["content"]

    assert [part.get("role") for part in two] == [None, "first_frame", "last_frame"]
    assert [part.get("role") for part in one] == [None, "first_frame"]


def test_an_image_alone_needs_no_words() -> None:
    body = asked(of_body("seedance/i2v", {"urls": ["https://e.com/a.png"]}))

    assert [part["type"] for part in body["content"]] == ["image_url"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"outputResolution": "1080p", "aspectRatio": "21:9"}, ("1080p", "21:9")),
        ({"resolution": "720x960"}, ("720p", "3:4")),
        ({"upscaleResolution": "4k", "outputResolution": "480p"}, ("4k", "16:9")),
    ],
)
def test_tier_and_shape_follow_from_every_way_to_say_them(body: dict[str, str], expected: tuple[str, str]) -> None:
    sent = asked(of_body("seedance/t2v", {"prompt": "x", **body}))

    assert (sent["resolution"], sent["ratio"]) == expected


def test_an_adaptive_shape_stays_adaptive() -> None:
    body = {"urls": ["https://e.com/a.png"], "aspectRatio": "adaptive"}

    assert asked(of_body("seedance/i2v", body))["ratio"] == "adaptive"


OLDER = {"prompt": "x", "image": "https://e.com/a.png", "last_image": "https://e.com/b.png", "duration": 12}


def test_the_older_form_says_the_same_to_todays_model() -> None:
    body = asked(
        of_body("seedance-fast/i2v", {**OLDER, "aspect_ratio": "9:16", "resolution": "480p", "generate_audio": False})
    )

    assert body["model"] == "dreamina-seedance-2-0-fast-260128"
    assert (body["ratio"], body["resolution"], body["duration"]) == ("9:16", "480p", 12)
    assert body["generate_audio"] is False


@pytest.mark.parametrize(
    ("wish", "sent"), [({"seed": 0}, {"seed": 0}), ({"camera_fixed": True}, {"camera_fixed": True})]
)
def test_what_only_seedance_1_5_takes_is_made_by_it(wish: dict[str, Any], sent: dict[str, Any]) -> None:
    body = asked(of_body("seedance/i2v", OLDER | wish))

    assert body["model"] == SEEDANCE_1_5
    assert body.items() >= sent.items()


@pytest.mark.parametrize("wish", [{}, {"seed": -1}, {"camera_fixed": False}])
def test_no_wish_of_the_older_form_is_no_reason_for_the_older_model(wish: dict[str, Any]) -> None:
    assert asked(of_body("seedance/i2v", OLDER | wish))["model"] == SEEDANCE


def test_without_an_older_model_the_camera_is_fixed_by_words() -> None:
    body = asked(of_body("seedance/i2v", {**OLDER, "camera_fixed": True, "seed": 4}), older_model=None)

    assert body["model"] == SEEDANCE
    assert body["content"][0]["text"] == "x Fixed camera."
    assert not {"seed", "camera_fixed"} & body.keys()


def test_a_clip_without_a_public_address_cannot_be_referred_to() -> None:
    order = work("seedance/i2v")
    failure = request(order, tiny(order, url=None), model=SEEDANCE, older=False, user=USER)

    assert isinstance(failure, Failed)
    assert failure.kind is FailureKind.INVALID_INPUT
    assert failure.message.startswith("'urls[1]': ")


def test_a_callback_of_the_buyer_never_reaches_the_vendor() -> None:
    sent = asked(work("seedance/t2v", callBackUrl="https://example.com/hook"))

    assert "hook" not in json.dumps(sent)


def test_the_marker_tells_jobs_apart_and_buyers_together() -> None:
    one, other = marker(USER, "job_1"), marker(USER, "job_2")

    assert one != other
    assert one[:32] == other[:32] == "u" * 32
    assert len(one) <= 64
    assert asked(work("seedance/t2v"))["safety_identifier"] == marker(USER, work("seedance/t2v").job_id)


def test_mentions_are_respelled_and_addresses_are_not() -> None:
    told = respelled("@IMAGE1 and @image02, mail a@image1.com or x@@video1", "[{kind} {number}]")

    assert told.startswith("[Image 1] and [Image 2]")
    assert "a@image1.com" in told


def test_exact_pixels_are_known_where_the_buyer_asked_for_them() -> None:
    assert exact_size(work("seedance/t2v", resolution="1280x540", aspectRatio=None, outputResolution=None).input) == (
        1280,
        540,
    )
    assert exact_size(work("seedance/t2v").input) is None
    assert exact_size(of_body("seedance/i2v", {**OLDER, "resolution": "720p"}).input) is None
    assert exact_size(work("wan-2.6/i2v").input) is None


# Answers


@pytest.mark.parametrize("state", ["queued", "running", "dreaming", None])
def test_a_task_that_is_not_over_runs(state: str | None) -> None:
    assert progress({"id": "cgt-1", "status": state}, None) == Running()


def test_a_task_that_succeeded_is_made_only_with_a_clip() -> None:
    assert progress({"status": "succeeded", "content": {"video_url": "https://e.com/a.mp4"}}, None) == Made()
    assert isinstance(progress({"status": "succeeded", "content": None}, None), Failed)


@pytest.mark.parametrize(
    ("task", "kind"),
    [
        ({"status": "failed", "error": {"code": "OutputVideoSensitiveContentDetected"}}, FailureKind.MODERATION),
        (
            {"status": "failed", "error": {"code": "OutputVideoSensitiveContentDetected.PolicyViolation"}},
            FailureKind.MODERATION,
        ),
        ({"status": "failed", "error": {"code": "InvalidParameter.TaskTypeConstraint"}}, FailureKind.INVALID_INPUT),
        (
            {"status": "failed", "error": {"code": "InternalServiceError", "message": "oops"}},
            FailureKind.UPSTREAM_ERROR,
        ),
        ({"status": "failed"}, FailureKind.UPSTREAM_ERROR),
        ({"status": "expired"}, FailureKind.UPSTREAM_TIMEOUT),
        ({"status": "cancelled"}, FailureKind.UPSTREAM_ERROR),
    ],
)
def test_each_end_without_a_clip_has_its_kind(task: dict[str, Any], kind: FailureKind) -> None:
    failure = progress(task, "req_1")

    assert isinstance(failure, Failed)
    assert (failure.kind, failure.request_id) == (kind, "req_1")


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "InputTextSensitiveContentDetected", FailureKind.MODERATION),
        (400, "InputImageSensitiveContentDetected.PrivacyInformation", FailureKind.MODERATION),
        (400, "InvalidParameter", FailureKind.INVALID_INPUT),
        (401, "AuthenticationError", FailureKind.UPSTREAM_AUTH),
        (403, "AccountOverdueError", FailureKind.UPSTREAM_QUOTA),
        (404, "ModelNotOpen", FailureKind.UPSTREAM_AUTH),
        (404, "InvalidEndpointOrModel.NotFound", FailureKind.UPSTREAM_RETIRED),
        (429, "RateLimitExceeded.EndpointRPMExceeded", FailureKind.RATE_LIMITED),
        (429, "ServerOverloaded", FailureKind.RATE_LIMITED),
        (429, "SetLimitExceeded", FailureKind.UPSTREAM_QUOTA),
        (429, "QuotaExceeded", FailureKind.UPSTREAM_QUOTA),
    ],
)
def test_each_refusal_has_its_kind(status: int, code: str, kind: FailureKind) -> None:
    body = json.dumps({"error": {"code": code, "message": "no", "type": "x", "param": ""}}).encode()

    assert refusal(Reply(status=status, headers={}, body=body)) is kind


def test_a_page_of_tasks_is_read_under_either_name() -> None:
    task = {"id": "cgt-1", "safety_identifier": "m"}

    assert listed({"items": [task], "total": 1}) == listed({"data": [task]}) == [task]
    assert listed({"items": "no"}) == listed({}) == []
    assert find_task([{"id": "cgt-0"}, task], safety_identifier="m") == task
    assert find_task([{"id": "cgt-0"}], safety_identifier="m") is None


def test_a_result_is_an_address_or_an_object_with_one() -> None:
    assert result_url({"content": {"video_url": "https://e.com/a"}}) == "https://e.com/a"
    assert result_url({"content": {"video_url": {"url": "https://e.com/a"}}}) == "https://e.com/a"
    assert result_url({"content": {"video_url": ""}}) is None
