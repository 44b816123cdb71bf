"""Interactions: the buyer's words in Google's, and every state that an interaction may be in."""

from __future__ import annotations

import base64
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stablestudio.catalog import Offering
from stablestudio.providers.interactions_requests import MODELS, Media, read, request
from stablestudio.providers.provider import Failed, FailureKind, Running
from tests.doubles import png
from tests.providers.orders import BY_KEY, files, order
from tests.providers.works import JOB
from tests.strategies import inputs

pytest.importorskip("google.genai", reason="Google's SDK is the judge here")

from google.genai._gaos.types.interactions import interaction, videoconfig, videoresponseformat

from tests.providers.google_sdk import Recorder

OFFERINGS = [BY_KEY[key] for key in MODELS]
OMNI = MODELS["veo-3.1/generate"]
A, B = "https://example.com/a.png", "https://example.com/b.png"
CLIP = base64.b64encode(b"clip").decode()


@pytest.fixture(scope="module")
def sdk() -> Recorder:
    return Recorder()


def sent_by_sdk(sdk: Recorder, body: dict[str, Any]) -> tuple[str, Any]:
    """Return what the SDK sends for the values of a body; it takes no argument that it does not know."""
    sdk.answer = {"id": "v1_1", "status": "queued"}
    sdk.developer.interactions.create(**body)
    return sdk.sent[-1].path, sdk.sent[-1].body


def known(union: Any) -> set[str]:
    """Return the words of an open union of the SDK, which would let any other pass."""
    return set(get_args(get_args(union)[0]))


@pytest.mark.parametrize("key", MODELS)
def test_the_request_of_each_example_is_the_sdks(key: str, sdk: Recorder) -> None:
    work = order(key)
    body = request(work, files(work), model=MODELS[key])

    assert sent_by_sdk(sdk, body) == ("/v1/interactions", body)


@given(st.sampled_from(OFFERINGS).flatmap(lambda offering: inputs(offering).map(lambda body: (offering, body))))
@settings(max_examples=60)
def test_any_input_gives_a_request_that_the_sdk_would_send(
    sdk: Recorder, asked: tuple[Offering, dict[str, Any]]
) -> None:
    offering, told = asked
    work = order(offering.key, told)
    body = request(work, files(work), model=MODELS[offering.key])

    assert sent_by_sdk(sdk, body)[1] == body
    assert len(body["input"][0]["content"]) == len(work.input.media()) + 1
    form = body["response_format"]
    if form["type"] == "video":
        assert form["resolution"] in known(videoresponseformat.Resolution)
        assert form["aspect_ratio"] in known(videoresponseformat.VideoResponseFormatAspectRatio)
        assert body["generation_config"]["video_config"]["task"] in known(videoconfig.Task)


def clip_request(**told: Any) -> dict[str, Any]:
    work = order("veo-3.1/generate", told)
    return request(work, files(work), model=OMNI)


def test_a_clip_is_asked_for_in_the_background_as_a_file_with_a_label_of_the_job() -> None:
    body = clip_request(prompt="waves", durationSeconds="8", resolution="1080p", aspectRatio="9:16")

    assert body == {
        "model": OMNI,
        "background": True,
        "store": True,
        "labels": {"stablestudio_job": JOB},
        "input": [{"type": "user_input", "content": [{"type": "text", "text": "waves"}]}],
        "response_format": {
            "type": "video",
            "aspect_ratio": "9:16",
            "resolution": "1080p",
            "duration": "8s",
            "delivery": "uri",
        },
        "generation_config": {"video_config": {"task": "text_to_video"}},
    }


def test_labels_are_what_the_vendor_allows() -> None:
    for key, value in clip_request()["labels"].items():
        for text in (key, value):
            assert len(text) <= 63
            assert set(text) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")
        assert key[0].isalpha()


@pytest.mark.parametrize(
    ("told", "task", "prompt"),
    [
        ({"image": A}, "image_to_video", "waves"),
        (
            {"image": A, "lastFrame": B, "durationSeconds": "8"},
            "image_to_video",
            "[# Sources <FIRST_FRAME>@Image1 <LAST_FRAME>@Image2] waves",
        ),
        ({"referenceImages": [A, B], "durationSeconds": "8"}, "reference_to_video", "waves"),
        ({"negativePrompt": "people"}, "text_to_video", "waves\nAvoid: people"),
    ],
)
def test_each_use_of_images_is_a_task_of_the_vendors(told: dict[str, Any], task: str, prompt: str) -> None:
    body = clip_request(prompt="waves", **told)

    assert body["generation_config"]["video_config"]["task"] == task
    assert body["input"][0]["content"][-1] == {"type": "text", "text": prompt}


def test_an_image_is_asked_for_with_its_tier_and_shape() -> None:
    work = order("nano-banana/edit", {"images": [A], "aspectRatio": "8:1", "thinkingLevel": "high"})
    data = png((3, 3))
    body = request(work, files(work, datas=[data]), model="gemini-nano-banana-2.1")

    assert body["response_format"] == {"type": "image", "aspect_ratio": "8:1", "image_size": "1K"}
    assert body["generation_config"] == {"thinking_level": "high"}
    assert body["input"][0]["content"][0] == {
        "type": "image",
        "data": base64.b64encode(data).decode(),
        "mime_type": "image/png",
    }


def test_a_model_without_the_512_tier_is_asked_for_1k() -> None:
    work = order("nano-banana/generate", {"imageSize": "512"})

    assert request(work, (), model="gemini-nano-banana-2.1")["response_format"]["image_size"] == "1K"
    assert request(work, (), model=MODELS["nano-banana/generate"])["response_format"]["image_size"] == "512"


# Answers


def told(status: str, *content: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return an interaction as the vendor tells it, with the input among its steps; the SDK can read it."""
    steps: list[dict[str, Any]] = [
        {"type": "user_input", "content": [{"type": "image", "data": CLIP, "mime_type": "image/png"}]},
        {"type": "thought", "signature": "aGk="},
    ]
    if content or "error" in more:
        steps.append({"type": "model_output", "content": list(content), **more})
    document = {"id": "v1_1", "status": status, "created": "2026-11-20T00:00:00Z", "steps": steps}
    interaction.Interaction.model_validate(document)
    return document


def video(**where: str) -> dict[str, Any]:
    return {"type": "video", "mime_type": "video/mp4", **where}


def failure(document: Any) -> FailureKind:
    found = read(document)
    assert isinstance(found, Failed)
    return found.kind


def test_every_documented_state_is_understood() -> None:
    states = known(interaction.InteractionStatus)

    assert {state for state in states if read(told(state)) is None} == set()
    assert {state for state in states if isinstance(read(told(state)), Running)} == {"queued", "in_progress"}


def test_an_undocumented_state_decides_nothing() -> None:
    assert read(told("dreaming")) is None
    assert read({}) is None
    assert read({"status": ["completed"]}) is None


BASE = "https://generativelanguage.googleapis.com/v1beta"


@pytest.mark.parametrize(
    "uri",
    ["files/abc-123", f"{BASE}/files/abc-123", f"{BASE}/files/abc-123:download?alt=media"],
)
def test_a_clip_is_a_file_named_by_any_spelling_of_its_address(uri: str) -> None:
    assert read(told("completed", video(uri=uri))) == Media(content_type="video/mp4", file="abc-123")


def test_a_clip_elsewhere_keeps_its_address() -> None:
    assert read(told("completed", video(uri="gs://bucket/a.mp4"))) == Media(
        content_type="video/mp4", url="gs://bucket/a.mp4"
    )


def test_media_may_come_inline() -> None:
    assert read(told("completed", video(data=CLIP))) == Media(content_type="video/mp4", data=b"clip")
    image = {"type": "image", "mime_type": "image/jpeg", "data": CLIP}
    assert read(told("completed", {"type": "text", "text": "Here."}, image)) == Media(
        content_type="image/jpeg", data=b"clip"
    )


def test_the_buyers_own_image_is_not_the_result() -> None:
    assert failure(told("completed")) is FailureKind.UPSTREAM_ERROR


def test_words_in_place_of_a_clip_are_a_refusal() -> None:
    found = read(told("completed", {"type": "text", "text": "I can't make that."}))

    assert isinstance(found, Failed)
    assert found.kind is FailureKind.MODERATION
    assert "I can't make that." in found.detail


def test_a_clip_that_was_billed_but_is_not_there_is_no_refusal() -> None:
    document = told("completed", {"type": "text", "text": "Done!"})
    document["usage"] = {"output_tokens_by_modality": [{"modality": "video", "tokens": 57920}]}

    assert failure(document) is FailureKind.UPSTREAM_ERROR


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 3, "message": "The prompt was blocked for violating our safety policies."}, FailureKind.MODERATION),
        ({"code": 3, "message": "Video must be 16:9."}, FailureKind.INVALID_INPUT),
        ({"code": 8, "message": "Try later."}, FailureKind.RATE_LIMITED),
        ({"code": 13, "message": "Internal error."}, FailureKind.UPSTREAM_ERROR),
        ({"code": 16, "message": "Who are you?"}, FailureKind.UPSTREAM_AUTH),
    ],
)
def test_the_error_of_a_step_says_why(error: dict[str, Any], kind: FailureKind) -> None:
    assert failure(told("failed", error=error)) is kind


def test_errors_beside_the_steps_say_why_too() -> None:
    document = told("failed") | {"errors": [{"code": "PROHIBITED_CONTENT", "message": "no"}]}
    interaction.Interaction.model_validate(document)

    assert failure(document) is FailureKind.MODERATION


def test_a_spent_budget_is_the_operators() -> None:
    assert failure(told("budget_exceeded")) is FailureKind.UPSTREAM_QUOTA


def test_what_an_incomplete_interaction_made_is_still_there() -> None:
    assert isinstance(read(told("incomplete", video(uri="files/a"))), Media)
    assert failure(told("incomplete")) is FailureKind.UPSTREAM_ERROR


@pytest.mark.parametrize(
    "document",
    [
        {"status": "completed", "steps": None},
        {"status": "completed", "steps": [None, {"type": "model_output", "content": 7, "error": "x"}]},
        {"status": "completed", "steps": [{"type": "model_output", "content": [None, {"type": "video", "uri": ""}]}]},
        {"status": "completed", "steps": [{"type": "model_output", "content": [{"type": "video", "data": "%%"}]}]},
        {"status": "failed", "errors": "x", "error": [1], "usage": 3},
    ],
)
def test_an_answer_of_any_other_form_is_the_vendors_failure(document: Any) -> None:
    assert failure(document) is FailureKind.UPSTREAM_ERROR
