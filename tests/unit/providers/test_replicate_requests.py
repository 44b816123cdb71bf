"""Replicate's requests and answers: every input fits the schema of its model, whatever it asks for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stablestudio.providers.aggregate import order_of, routed
from stablestudio.providers.answers import Reply
from stablestudio.providers.inputs import data_url
from stablestudio.providers.lacks import objections
from stablestudio.providers.provider import Failed, FailureKind, Made, NotAccepted, Running, Work
from stablestudio.providers.replicate_models import LACKS, OFFERS
from stablestudio.providers.replicate_requests import (
    created_before,
    find_prediction,
    percent,
    place,
    progress,
    refusal,
    result_url,
)
from stablestudio.providers.routes import arguments, marking_seed
from tests.doubles import NOW_MS
from tests.providers.given import files_in, tiny
from tests.providers.schema import problems, schemas
from tests.providers.wishes import wishes
from tests.providers.works import JOB, end_user, of_body, work
from tests.strategies import inputs


def asked(order: Work) -> tuple[str, dict[str, Any]]:
    """Return the model that makes work, and its input."""
    route = routed(order, OFFERS, vendor="replicate")
    files = tiny(order)
    filled = arguments(route, order_of(order, files, [data_url(file) for file in files], user=end_user))
    return OFFERS[order.offering.key].model, filled


@pytest.mark.parametrize("key", sorted(OFFERS))
def test_the_example_of_each_offering_fits_its_model(key: str) -> None:
    model, body = asked(work(key))

    assert problems(schemas("replicate")[model], body) == []


@pytest.mark.parametrize("key", sorted(OFFERS))
@given(data=st.data())
@settings(max_examples=40)
def test_every_input_fits_its_model_or_is_left_to_another_vendor(key: str, data: st.DataObject) -> None:
    order = of_body(key, data.draw(inputs(work(key).offering)))
    try:
        model, sent = asked(order)
    except NotAccepted:
        assert objections(LACKS[key], order.input)
        return
    assert not objections(LACKS.get(key, ()), order.input)

    assert problems(schemas("replicate")[model], sent) == []
    assert files_in(sent) == len(order.input.media())
    assert sent.get("generate_audio", True) is getattr(order.input.output(), "audio", True)


def told(order: Work) -> object:
    """Return what is asked for work; None where it is left to another vendor."""
    try:
        return asked(order)
    except NotAccepted:
        return None


# Done here, to the file that comes back.
_UNHEARD = {
    "nano-banana": {"imageSize"},
}


@pytest.mark.parametrize("key", sorted(OFFERS))
def test_every_wish_of_the_buyer_reaches_replicate(key: str) -> None:
    heard = [(name, told(one) != told(other)) for name, one, other in wishes(key) if told(one) and told(other)]

    assert heard
    assert {name for name, was_heard in heard if not was_heard} <= _UNHEARD.get(key.partition("/")[0], set())


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("flux-2-max/edit", {"images": [f"https://e.com/{n}.png" for n in range(9)]}),
        ("grok/edit", {"images": ["https://e.com/a.png", "https://e.com/b.png"]}),
        ("grok/edit", {"aspect_ratio": "16:9"}),
        ("nano-banana/generate", {"thinkingLevel": "high"}),
        ("gpt-image-2/generate", {"size": "auto"}),
        ("gpt-image-1.5/edit", {"size": "auto"}),
        ("flux-2-pro/generate", {"safety_tolerance": 0}),
        ("flux-2-pro/generate", {"prompt_upsampling": True}),
        ("flux-2-max/generate", {"resolution": "4 MP", "aspect_ratio": "16:9"}),
        ("flux-2-max/edit", {"resolution": "4 MP", "aspect_ratio": "9:16"}),
        ("veo-3.1-fast/generate", {"referenceImages": ["https://e.com/a.png"]}),
        ("veo-3.1/generate", {"referenceImages": ["https://e.com/a.png"], "aspectRatio": "9:16"}),
    ],
)
def test_what_a_model_lacks_is_refused_so_that_another_vendor_may_make_it(key: str, changes: dict[str, Any]) -> None:
    with pytest.raises(NotAccepted) as refused:
        asked(work(key, **changes))

    assert refused.value.kind is FailureKind.INVALID_INPUT


def test_the_public_body_of_flux_reaches_replicate_with_one_name_changed() -> None:
    body = {
        "prompt": "x",
        "aspect_ratio": "3:2",
        "resolution": "2 MP",
        "output_format": "jpg",
        "output_quality": 55,
        "safety_tolerance": 3,
    }
    _, sent = asked(of_body("flux-2-pro/generate", body))

    assert {name: value for name, value in sent.items() if name != "seed"} == body
    _, edited = asked(work("flux-2-max/edit"))
    assert len(edited["input_images"]) == 2
    assert edited["aspect_ratio"] == "match_input_image"


def test_wan_is_asked_in_snake_case() -> None:
    body = {
        "prompt": "x",
        "duration": "10",
        "negativePrompt": "rain",
        "enablePromptExpansion": True,
        "multiShots": True,
        "audioUrl": "https://e.com/a.mp3",
        "seed": 9,
        "size": "1920*1080",
    }
    _, sent = asked(of_body("wan-2.6/t2v", body))

    assert sent["audio"].startswith("data:audio/wav")
    assert {name: value for name, value in sent.items() if name != "audio"} == {
        "prompt": "x",
        "duration": 10,
        "negative_prompt": "rain",
        "enable_prompt_expansion": True,
        "multi_shots": True,
        "seed": 9,
        "size": "1920*1080",
    }


def test_references_in_a_prompt_are_written_as_replicate_documents_them() -> None:
    _, sent = asked(work("seedance/i2v"))

    assert sent["prompt"].startswith("[Image1] keeps the character identity while [Video1]")
    assert "image" not in sent


def test_a_camera_that_cannot_be_told_is_fixed_by_words() -> None:
    older = {"prompt": "x", "image": "https://e.com/a.png", "camera_fixed": True, "seed": 5}
    _, sent = asked(of_body("seedance/i2v", older))

    assert (sent["prompt"], sent["seed"]) == ("x Fixed camera.", 5)


def test_the_tier_that_nano_banana_lacks_is_asked_for_larger_and_made_smaller() -> None:
    order = work("nano-banana/generate", imageSize="512", aspectRatio="16:9")
    route = routed(order, OFFERS, vendor="replicate")

    assert asked(order)[1]["resolution"] == "1K"
    assert route.within(order.input) == (688, 384)
    assert route.within(work("nano-banana/generate").input) is None


def test_without_a_seed_of_the_buyer_the_job_has_one_of_its_own() -> None:
    seeds = {asked(work("flux-2-pro/generate", job_id=f"job_{n}"))[1]["seed"] for n in range(50)}

    assert len(seeds) == 50
    assert asked(work("flux-2-pro/generate"))[1]["seed"] == marking_seed(JOB)
    assert asked(work("wan-2.6/t2v", seed=3))[1]["seed"] == 3


# Answers


def test_a_model_with_a_version_is_asked_for_by_it() -> None:
    assert place("google/veo-3.1") == ("/models/google/veo-3.1/predictions", {})
    assert place("google/veo-3.1:abc") == ("/predictions", {"version": "abc"})


@pytest.mark.parametrize("state", ["starting", "processing", "something_new", None])
def test_a_prediction_that_is_not_over_runs(state: str | None) -> None:
    assert progress({"status": state}, None) == Running()


def test_the_progress_bar_in_the_logs_is_read() -> None:
    logs = " 10%|█         | 1/10\n 45%|████      | 4/10 [00:01<00:01]"

    assert progress({"status": "processing", "logs": logs}, None) == Running(progress=45)
    assert percent("nothing") is None


def test_a_prediction_that_succeeded_is_made_only_with_an_output() -> None:
    assert progress({"status": "succeeded", "output": "https://e.com/a.png"}, None) == Made()
    assert progress({"status": "succeeded", "output": ["https://e.com/a.png"]}, None) == Made()
    for empty in ("null", "[]", '""'):
        assert isinstance(progress({"status": "succeeded", "output": json.loads(empty)}, None), Failed)


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        ("The input or output was flagged as sensitive. Please try again. (E005)", FailureKind.MODERATION),
        ("NSFW content detected. Try running it again", FailureKind.MODERATION),
        ("Your request was rejected by the safety system.", FailureKind.MODERATION),
        ("Invalid input: image is too small (E006)", FailureKind.INVALID_INPUT),
        ("Prediction timed out", FailureKind.UPSTREAM_TIMEOUT),
        ("Service is currently unavailable due to high demand. (E003)", FailureKind.UPSTREAM_ERROR),
        (None, FailureKind.UPSTREAM_ERROR),
    ],
)
def test_each_failure_has_its_kind(told: str | None, kind: FailureKind) -> None:
    failure = progress({"status": "failed", "error": told}, "req_1")

    assert isinstance(failure, Failed)
    assert (failure.kind, failure.detail) == (kind, told or "")


@pytest.mark.parametrize("state", ["canceled", "aborted"])
def test_a_prediction_that_was_stopped_has_failed(state: str) -> None:
    failure = progress({"status": state}, None)

    assert isinstance(failure, Failed)
    assert failure.kind is FailureKind.UPSTREAM_TIMEOUT


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, FailureKind.UPSTREAM_AUTH),
        (402, FailureKind.UPSTREAM_QUOTA),
        (404, FailureKind.UPSTREAM_RETIRED),
        (422, FailureKind.INVALID_INPUT),
        (429, FailureKind.RATE_LIMITED),
    ],
)
def test_each_refusal_has_its_kind(status: int, kind: FailureKind) -> None:
    body = json.dumps({"title": "No", "detail": "input: prompt is required", "status": status}).encode()

    assert refusal(Reply(status=status, headers={}, body=body)) is kind


def test_a_result_is_one_address_or_the_first_of_a_list() -> None:
    route = OFFERS["gpt-image-2/generate"].routes[0]

    assert result_url({"output": "https://e.com/a"}, route) == "https://e.com/a"
    assert result_url({"output": ["https://e.com/a", "https://e.com/b"]}, route) == "https://e.com/a"
    for nothing in ("null", "[]", "{}", "7", "[7]"):
        assert result_url({"output": json.loads(nothing)}, route) is None


def test_a_prediction_is_found_by_the_seed_of_its_job_and_its_model() -> None:
    mine: dict[str, Any] = {"id": "p2", "model": "a/b", "input": {"prompt": "x", "seed": 5}}
    others: list[dict[str, Any]] = [
        {"id": "p1", "model": "a/b", "input": {"prompt": "x", "seed": 6}},
        {"id": "p0", "model": "a/c", "input": {"prompt": "x", "seed": 5}},
        {"id": "pX", "model": "a/b", "input": None},
    ]

    assert find_prediction([*others, mine], model="a/b", asked={"seed": 5}) == mine
    assert find_prediction(others, model="a/b", asked={"seed": 5}) is None


def test_only_a_moment_that_can_be_read_ends_the_search() -> None:
    assert created_before({"created_at": "2020-01-01T00:00:00.123Z"}, NOW_MS)
    assert not created_before({"created_at": "2099-01-01T00:00:00Z"}, NOW_MS)
    assert not created_before({"created_at": "2020-01-01T00:00:00"}, NOW_MS)
    assert not created_before({"created_at": "yesterday"}, NOW_MS)
    assert not created_before({}, NOW_MS)
