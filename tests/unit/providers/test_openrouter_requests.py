"""OpenRouter's requests and answers: every input fits, by the types of the vendor's own client."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stablestudio.providers.answers import Reply
from stablestudio.providers.lacks import objections
from stablestudio.providers.openrouter_requests import LACKS, MODELS, progress, refusal, request
from stablestudio.providers.provider import Failed, FailureKind, Made, NotAccepted, Running, Work
from tests.providers.given import tiny
from tests.providers.schema import problems, schemas
from tests.providers.wishes import wishes
from tests.providers.works import of_body, work
from tests.strategies import inputs


def asked(order: Work) -> dict[str, Any]:
    return request(order, tiny(order), model=MODELS[order.offering.key], user="u")


def wrong(body: dict[str, Any]) -> list[str]:
    """Return what the vendor would find wrong."""
    schema = schemas("openrouter")
    frames = [problems(schema["frame"], frame) for frame in body.get("frame_images", [])]
    references = [problems(schema[each["type"]], each) for each in body.get("input_references", [])]
    return [*problems(schema["request"], body), *(each for part in [*frames, *references] for each in part)]


@pytest.mark.parametrize("key", sorted(MODELS))
@given(data=st.data())
@settings(max_examples=60)
def test_every_input_fits_or_is_left_to_another_vendor(key: str, data: st.DataObject) -> None:
    order = of_body(key, data.draw(inputs(work(key).offering)))
    try:
        body = asked(order)
    except NotAccepted:
        assert objections(LACKS[key], order.input)
        return
    assert not objections(LACKS.get(key, ()), order.input)

    assert wrong(body) == []
    files = len(body.get("frame_images", [])) + len(body.get("input_references", []))
    assert files == len(order.input.media())
    assert body["generate_audio"] is getattr(order.input.output(), "audio", None)


def told(order: Work) -> object:
    """Return what is asked for work; None where it is left to another vendor."""
    try:
        return asked(order)
    except NotAccepted:
        return None


# The rest is done here, to the file that comes back, or the vendor has no such knob.
_UNHEARD: dict[str, set[str]] = {}


@pytest.mark.parametrize("key", sorted(MODELS))
def test_every_wish_of_the_buyer_reaches_openrouter(key: str) -> None:
    heard = [(name, told(one) != told(other)) for name, one, other in wishes(key) if told(one) and told(other)]

    assert heard
    assert {name for name, was_heard in heard if not was_heard} <= _UNHEARD.get(key.partition("/")[0], set())


def test_frames_and_references_go_into_their_own_lists() -> None:
    frames = asked(work("veo-3.1/generate", image="https://e.com/a.png", lastFrame="https://e.com/b.png"))
    references = asked(work("seedance/i2v"))

    assert [each["frame_type"] for each in frames["frame_images"]] == ["first_frame", "last_frame"]
    assert "input_references" not in frames
    assert [each["type"] for each in references["input_references"]] == ["image_url", "video_url", "audio_url"]


def test_what_to_avoid_is_said_in_words() -> None:
    assert asked(work("veo-3.1/generate", prompt="a pier", negativePrompt="people"))["prompt"] == "a pier Avoid: people"


@pytest.mark.parametrize("key", ["wan-2.6/t2v", "wan-2.6/i2v"])
def test_a_prompt_with_what_to_avoid_is_as_long_as_the_vendor_takes_and_no_longer(key: str) -> None:
    fits = work(key, prompt="a" * 1400, negativePrompt="b" * 92)
    assert len(asked(fits)["prompt"]) == 1500
    with pytest.raises(NotAccepted):
        asked(work(key, prompt="a" * 1400, negativePrompt="b" * 93))
    asked(work(key, prompt="a" * 1500))


def test_what_only_wan_knows_goes_to_wan_alone() -> None:
    body = asked(work("wan-2.6/t2v", multiShots=True))

    assert body["provider"] == {"options": {"alibaba": {"prompt_extend": True, "shot_type": "multi"}}}
    assert "provider" not in asked(work("seedance/t2v"))


def test_seedance_in_4k_and_in_a_free_shape() -> None:
    assert asked(work("seedance/t2v", upscaleResolution="4k"))["resolution"] == "4K"
    adaptive = asked(of_body("seedance/i2v", {"urls": ["https://e.com/a.png"], "aspectRatio": "adaptive"}))
    assert "aspect_ratio" not in adaptive


@pytest.mark.parametrize("state", ["pending", "in_progress", "new", None])
def test_a_job_that_is_not_over_runs(state: str | None) -> None:
    assert progress({"status": state}, None) == Running()


def test_a_completed_job_is_made() -> None:
    assert progress({"status": "completed"}, None) == Made()


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        ("Content filtered by safety system", FailureKind.MODERATION),
        ("The prompt was flagged", FailureKind.MODERATION),
        ("upstream exploded", FailureKind.UPSTREAM_ERROR),
        (None, FailureKind.UPSTREAM_ERROR),
    ],
)
def test_each_failure_has_its_kind(told: str | None, kind: FailureKind) -> None:
    failure = progress({"status": "failed", "error": told}, "r")

    assert isinstance(failure, Failed)
    assert failure.kind is kind


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (400, "duration must be one of 4, 6, 8", FailureKind.INVALID_INPUT),
        (401, "No auth credentials found", FailureKind.UPSTREAM_AUTH),
        (402, "Insufficient credits", FailureKind.UPSTREAM_QUOTA),
        (403, "Key limit exceeded (monthly limit)", FailureKind.UPSTREAM_QUOTA),
        (403, "Your chosen model requires moderation and your input was flagged", FailureKind.MODERATION),
        (404, "Model does not exist", FailureKind.UPSTREAM_RETIRED),
        (429, "Rate limit exceeded", FailureKind.RATE_LIMITED),
    ],
)
def test_each_refusal_has_its_kind(status: int, message: str, kind: FailureKind) -> None:
    body = json.dumps({"error": {"code": status, "message": message}}).encode()

    assert refusal(Reply(status=status, headers={}, body=body)) is kind
