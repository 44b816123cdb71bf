"""Veo on Vertex: the buyer's words in Google's, and everything that an operation may come to."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given, settings

from stablestudio.providers.provider import Failed, FailureKind, Running
from stablestudio.providers.vertex_veo_requests import MODELS, Clip, read, request, resource_of
from tests.doubles import png
from tests.providers.orders import BY_KEY, files, order
from tests.providers.works import JOB
from tests.strategies import inputs

pytest.importorskip("google.genai", reason="Google's SDK is the judge here")

from google.genai import types

from tests.providers.google_sdk import Recorder

A, B = "https://example.com/a.png", "https://example.com/b.png"
MODEL = MODELS["veo-3.1/generate"]
HOME = "projects/studio/locations/us-central1/publishers/google/models"
OPERATION = f"{HOME}/{MODEL}/operations/5e0a"
CLIP = base64.b64encode(b"clip").decode()


@pytest.fixture(scope="module")
def sdk() -> Recorder:
    return Recorder()


def image(part: dict[str, str] | None) -> types.Image | None:
    if part is None:
        return None
    return types.Image(image_bytes=base64.b64decode(part["bytesBase64Encoded"]), mime_type=part["mimeType"])


def sent_by_sdk(sdk: Recorder, body: dict[str, Any], *, model: str) -> tuple[str, Any]:
    """Return what the SDK sends for the values that a body of ours states."""
    instance, parameters = body["instances"][0], body["parameters"]
    references = [
        types.VideoGenerationReferenceImage(image=image(each["image"]), reference_type=each["referenceType"])
        for each in instance.get("referenceImages", [])
    ]
    sdk.answer = {"name": OPERATION}
    sdk.vertex.models.generate_videos(
        model=model,
        source=types.GenerateVideosSource(prompt=instance["prompt"], image=image(instance.get("image"))),
        config=types.GenerateVideosConfig(
            number_of_videos=parameters["sampleCount"],
            duration_seconds=parameters["durationSeconds"],
            aspect_ratio=parameters["aspectRatio"],
            resolution=parameters["resolution"],
            generate_audio=parameters["generateAudio"],
            negative_prompt=parameters.get("negativePrompt"),
            last_frame=image(instance.get("lastFrame")),
            reference_images=references or None,
            labels=body["labels"],
        ),
    )
    sent = sdk.sent[-1]
    for each in sent.body["instances"][0].get("referenceImages", []):
        each["referenceType"] = each["referenceType"].lower()  # as the documents of the REST interface spell it
    return sent.path, sent.body


def _operation() -> types.GenerateVideosOperation:
    return types.GenerateVideosOperation.model_validate({"name": OPERATION})


@pytest.mark.parametrize("key", MODELS)
def test_the_request_of_each_example_is_the_sdks(key: str, sdk: Recorder) -> None:
    work = order(key)
    body = request(work, files(work))

    assert sent_by_sdk(sdk, body, model=MODELS[key]) == (f"/v1beta1/{HOME}/{MODELS[key]}:predictLongRunning", body)


@given(inputs(BY_KEY["veo-3.1/generate"]))
@settings(max_examples=60)
def test_any_input_gives_a_request_that_the_sdk_would_send(sdk: Recorder, told: dict[str, Any]) -> None:
    work = order("veo-3.1/generate", told)
    body = request(work, files(work))

    assert sent_by_sdk(sdk, body, model=MODEL)[1] == body


def test_the_buyers_choices_are_said_in_googles_words() -> None:
    told = {"prompt": "waves", "durationSeconds": "4", "aspectRatio": "9:16", "negativePrompt": "people"}

    assert request(order("veo-3.1/generate", told), ()) == {
        "instances": [{"prompt": "waves"}],
        "parameters": {
            "sampleCount": 1,
            "durationSeconds": 4,
            "aspectRatio": "9:16",
            "resolution": "720p",
            "generateAudio": True,
            "negativePrompt": "people",
        },
        "labels": {"stablestudio_job": JOB},
    }


def test_frames_and_references_stand_where_the_vendor_looks_for_them() -> None:
    first, last = png((1, 1)), png((2, 2))

    def sent(**told: Any) -> dict[str, Any]:
        work = order("veo-3.1/generate", {"durationSeconds": "8"} | told)
        instance: dict[str, Any] = request(work, files(work, datas=[first, last][: len(work.input.media())]))[
            "instances"
        ][0]
        del instance["prompt"]
        return instance

    def part(data: bytes) -> dict[str, str]:
        return {"bytesBase64Encoded": base64.b64encode(data).decode(), "mimeType": "image/png"}

    assert sent(image=A) == {"image": part(first)}
    assert sent(image=A, lastFrame=B) == {"image": part(first), "lastFrame": part(last)}
    assert sent(referenceImages=[A, B]) == {
        "referenceImages": [
            {"image": part(first), "referenceType": "asset"},
            {"image": part(last), "referenceType": "asset"},
        ]
    }


def test_an_operation_is_asked_about_where_the_sdk_asks(sdk: Recorder) -> None:
    sdk.answer = {"name": OPERATION, "done": False}
    sdk.vertex.operations.get(_operation())

    assert sdk.sent[-1].path == f"/v1beta1/{resource_of(OPERATION)}:fetchPredictOperation"
    assert sdk.sent[-1].body == {"operationName": OPERATION}


@pytest.mark.parametrize("name", ["operations/5e0a", "", "projects/p/operations/1", "/models/m/operations/1"])
def test_an_operation_that_does_not_name_its_model_is_asked_about_elsewhere(name: str) -> None:
    assert resource_of(name) is None


# Answers


def done(sdk: Recorder, **response: Any) -> dict[str, Any]:
    """Return a finished operation, which the SDK reads as finished too."""
    document = {"name": OPERATION, "done": True, "response": response}
    sdk.answer = document
    assert sdk.vertex.operations.get(_operation()).done
    return document


def failure(document: Any) -> FailureKind:
    found = read(document)
    assert isinstance(found, Failed)
    return found.kind


@pytest.mark.parametrize("document", [{"name": OPERATION}, {"name": OPERATION, "done": False}, {}, {"done": "true"}])
def test_an_operation_runs_until_it_says_that_it_is_done(document: dict[str, Any]) -> None:
    assert read(document) == Running()


def test_the_clip_is_in_the_answer(sdk: Recorder) -> None:
    document = done(sdk, videos=[{"bytesBase64Encoded": CLIP, "mimeType": "video/mp4"}])

    assert read(document) == Clip(b"clip")


def test_a_clip_that_the_filter_took_is_a_refusal(sdk: Recorder) -> None:
    reasons = ["Veo could not generate videos. Support codes: 15236754"]

    assert failure(done(sdk, raiMediaFilteredCount=1, raiMediaFilteredReasons=reasons)) is FailureKind.MODERATION
    assert failure(done(sdk, raiMediaFilteredCount=1, videos=[])) is FailureKind.MODERATION


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        (
            3,
            "Veo could not generate videos because the input image violates Vertex AI's usage guidelines.",
            FailureKind.MODERATION,
        ),
        (3, "The prompt could not be submitted. Support codes: 29310472", FailureKind.MODERATION),
        (3, "Unsupported duration 7.", FailureKind.INVALID_INPUT),
        (4, "Deadline exceeded.", FailureKind.UPSTREAM_TIMEOUT),
        (7, "Permission denied: violates organization policies.", FailureKind.UPSTREAM_AUTH),
        (8, "Resource exhausted.", FailureKind.RATE_LIMITED),
        (13, "Internal error.", FailureKind.UPSTREAM_ERROR),
        (14, "High load.", FailureKind.UPSTREAM_ERROR),
    ],
)
def test_an_operations_error_says_why(code: int, message: str, kind: FailureKind) -> None:
    assert failure({"name": OPERATION, "done": True, "error": {"code": code, "message": message}}) is kind


@pytest.mark.parametrize(
    "response",
    [
        None,
        [],
        {},
        {"videos": [None, {"mimeType": "video/mp4"}]},
        {"videos": [{"gcsUri": "gs://bucket/a.mp4"}]},
        {"videos": [{"bytesBase64Encoded": "%%%"}]},
        {"videos": "x"},
    ],
)
def test_a_finished_operation_without_a_clip_is_the_vendors_failure(response: Any) -> None:
    assert failure({"done": True, "response": response}) is FailureKind.UPSTREAM_ERROR
