"""Requests of the video protocol: every order becomes a body that the published schema and types take."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.video import Video
from openai.types.video_create_params import VideoCreateParams
from openai.types.video_seconds import VideoSeconds
from openai.types.video_size import VideoSize
from pydantic import TypeAdapter

from stablestudio import catalog
from stablestudio.providers.openai_videos import OpenAIVideos, percent, progress_of, request
from stablestudio.providers.provider import Failed, FailureKind, Made, Running
from tests.providers.given import tiny
from tests.providers.schema import problems, schemas
from tests.providers.works import of_body, work
from tests.strategies import inputs

KEYS = sorted(OpenAIVideos.models)
bodies = st.sampled_from(KEYS).flatmap(
    lambda key: st.tuples(st.just(key), inputs(next(each for each in catalog.OFFERINGS if each.key == key)))
)


def check(key: str, body: dict[str, Any]) -> dict[str, Any]:
    order = of_body(key, body, model=OpenAIVideos.models[key])
    made = request(order, tiny(order))
    assert problems(schemas("openai")["videos"], made) == []
    assert made.keys() <= VideoCreateParams.__annotations__.keys()
    TypeAdapter(VideoSeconds).validate_python(made["seconds"])
    TypeAdapter(VideoSize).validate_python(made["size"])
    assert ("input_reference" in made) is (body.get("input_reference") is not None)
    return made


@pytest.mark.parametrize("key", KEYS)
def test_every_example_becomes_a_request_that_the_vendor_takes(key: str) -> None:
    offering = next(each for each in catalog.OFFERINGS if each.key == key)

    check(key, offering.input.example)


@settings(max_examples=40)
@given(bodies)
def test_every_order_becomes_a_request_that_the_vendor_takes(order: tuple[str, dict[str, Any]]) -> None:
    check(*order)


def test_every_offering_of_the_family_is_made() -> None:
    assert set(OpenAIVideos.models) == {each.key for each in catalog.OFFERINGS if each.model.startswith("sora")}


def test_seconds_are_text_even_where_a_number_was_ordered() -> None:
    order = work("sora-2/generate", model="sora-2", seconds=12, input_reference=None)

    assert request(order, ()) == {
        "model": "sora-2",
        "prompt": "A golden retriever running on a beach at sunset, cinematic lighting",
        "seconds": "12",
        "size": "1280x720",
    }


@pytest.mark.parametrize(
    ("document", "answer"),
    [
        ({"status": "queued", "progress": 0}, Running(progress=0)),
        ({"status": "in_progress", "progress": 45}, Running(progress=45)),
        ({"status": "in_progress"}, Running()),
        ({"status": "processing", "progress": "45%"}, Running()),
        ({"status": "completed"}, Made()),
        ({"status": "dreaming"}, Running()),
        ({}, Running()),
        ({"status": None}, Running()),
        ({"status": ["x"]}, Running()),
    ],
)
def test_every_state_has_a_meaning_and_an_unknown_one_is_not_the_end(document: dict[str, Any], answer: object) -> None:
    assert progress_of("gateway", document, None) == answer


@pytest.mark.parametrize("status", ["failed", "cancelled", "canceled", "expired"])
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": "moderation_blocked", "message": "no"}, FailureKind.MODERATION),
        ({"code": "sentinel_block", "message": "no"}, FailureKind.MODERATION),
        ({"code": "video_generation_failed", "message": "no"}, FailureKind.UPSTREAM_ERROR),
        ({"code": "insufficient_quota"}, FailureKind.UPSTREAM_QUOTA),
        (None, FailureKind.UPSTREAM_ERROR),
        ("text", FailureKind.UPSTREAM_ERROR),
    ],
)
def test_a_failed_task_says_why(status: str, error: object, kind: FailureKind) -> None:
    failure = progress_of("gateway", {"status": status, "error": error}, "req_1")

    assert isinstance(failure, Failed)
    assert (failure.kind, failure.request_id) == (kind, "req_1")


def test_all_the_states_that_the_vendors_types_know_are_understood() -> None:
    states = Video.model_fields["status"].annotation.__args__  # type: ignore[union-attr] # a Literal

    for state in states:
        assert progress_of("openai", {"status": state}, None) != Running() or state in {"queued", "in_progress"}


@pytest.mark.parametrize(
    ("value", "shown"), [(0, 0), (99.6, 99), (100, 100), (101, None), (-1, None), ("5", None), (True, None)]
)
def test_only_a_percentage_is_shown_as_progress(value: object, shown: int | None) -> None:
    assert percent(value) == shown
