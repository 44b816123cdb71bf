"""DashScope's requests and answers for Wan."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stablestudio.providers.answers import Reply
from stablestudio.providers.dashscope_requests import MODELS, is_forgotten, progress, refusal, request, result_url
from stablestudio.providers.provider import Failed, FailureKind, Made, Running, Work
from tests.providers.given import tiny
from tests.providers.wishes import wishes
from tests.providers.works import of_body, work
from tests.strategies import inputs

_INPUT = {"prompt", "negative_prompt", "audio_url", "img_url"}
_PARAMETERS = {"size", "resolution", "duration", "prompt_extend", "shot_type", "seed", "watermark"}


def asked(order: Work) -> dict[str, Any]:
    body = request(order, tiny(order), model=MODELS[order.offering.key])
    assert not isinstance(body, Failed)
    return body


@pytest.mark.parametrize("key", sorted(MODELS))
@given(data=st.data())
@settings(max_examples=60)
def test_every_input_is_said_within_what_the_vendor_documents(key: str, data: st.DataObject) -> None:
    body = asked(of_body(key, data.draw(inputs(work(key).offering))))

    given_, chosen = body["input"], body["parameters"]
    assert body.keys() == {"model", "input", "parameters"}
    assert given_.keys() <= _INPUT
    assert chosen.keys() <= _PARAMETERS
    assert ("img_url" in given_) == ("resolution" in chosen) == (key == "wan-2.6/i2v")
    assert chosen.get("size", "1280*720") in {"1280*720", "720*1280", "1920*1080", "1080*1920"}
    assert chosen.get("resolution", "720P") in {"720P", "1080P"}
    assert chosen["duration"] in {5, 10, 15}
    assert chosen["shot_type"] == "single" or chosen["prompt_extend"] is True
    assert 0 <= chosen.get("seed", 0) <= 2**31 - 1


# The rest is done here, to the file that comes back, or the vendor has no such knob.
_UNHEARD: dict[str, set[str]] = {}


@pytest.mark.parametrize("key", sorted(MODELS))
def test_every_wish_of_the_buyer_reaches_dashscope(key: str) -> None:
    heard = [(name, asked(one) != asked(other)) for name, one, other in wishes(key)]

    assert heard
    assert {name for name, was_heard in heard if not was_heard} <= _UNHEARD.get(key.partition("/")[0], set())


def test_each_wish_has_its_field() -> None:
    body = {
        "prompt": "x",
        "image": "https://e.com/a.png",
        "resolution": "1080p",
        "duration": 15,
        "negativePrompt": "rain",
        "multiShots": True,
        "audioUrl": "https://e.com/a.mp3",
        "seed": 0,
    }
    sent = asked(of_body("wan-2.6/i2v", body))

    assert sent["input"].pop("img_url").startswith("data:image/png;base64,")
    assert sent == {
        "model": "wan2.6-i2v",
        "input": {"prompt": "x", "negative_prompt": "rain", "audio_url": "https://example.com/input"},
        "parameters": {
            "resolution": "1080P",
            "duration": 15,
            "prompt_extend": True,
            "shot_type": "multi",
            "seed": 0,
            "watermark": False,
        },
    }


def test_an_input_of_another_model_is_a_fault_of_the_configuration() -> None:
    with pytest.raises(TypeError):
        request(work("grok-video/generate"), (), model="wan2.6-t2v")


def task(status: str | None, **more: Any) -> dict[str, Any]:
    return {"request_id": "r", "output": {"task_id": "t", "task_status": status, **more}}


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "SOMETHING", None])
def test_a_task_that_is_not_over_runs(state: str | None) -> None:
    assert progress(task(state), None) == Running()
    assert progress({}, None) == Running()


def test_a_task_that_succeeded_is_made_only_with_a_clip() -> None:
    assert progress(task("SUCCEEDED", video_url="https://e.com/a.mp4"), None) == Made()
    assert isinstance(progress(task("SUCCEEDED"), None), Failed)
    assert result_url(task("SUCCEEDED", video_url="https://e.com/a.mp4")) == "https://e.com/a.mp4"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("DataInspectionFailed", FailureKind.MODERATION),
        ("IPInfringementSuspect", FailureKind.MODERATION),
        ("InvalidParameter", FailureKind.INVALID_INPUT),
        ("InvalidParameter.DataInspection", FailureKind.INVALID_INPUT),
        ("InternalError.Timeout", FailureKind.UPSTREAM_TIMEOUT),
        ("InternalError.Algo", FailureKind.UPSTREAM_ERROR),
        ("", FailureKind.UPSTREAM_ERROR),
    ],
)
def test_each_failure_of_a_task_has_its_kind(code: str, kind: FailureKind) -> None:
    failure = progress(task("FAILED", code=code, message="why"), None)

    assert isinstance(failure, Failed)
    assert (failure.kind, failure.request_id) == (kind, "r")
    assert "why" in failure.detail or not code


def test_a_failure_told_beside_the_output_is_read_as_well() -> None:
    failure = progress({**task("FAILED"), "code": "DataInspectionFailed", "message": "no"}, None)

    assert isinstance(failure, Failed)
    assert failure.kind is FailureKind.MODERATION


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "DataInspectionFailed", FailureKind.MODERATION),
        (400, "InvalidParameter", FailureKind.INVALID_INPUT),
        (400, "InvalidURL", FailureKind.INVALID_INPUT),
        (400, "Arrearage", FailureKind.UPSTREAM_QUOTA),
        (403, "AllocationQuota.FreeTierOnly", FailureKind.UPSTREAM_QUOTA),
        (403, "AccessDenied.Unpurchased", FailureKind.UPSTREAM_QUOTA),
        (403, "AccessDenied", FailureKind.UPSTREAM_AUTH),
        (401, "InvalidApiKey", FailureKind.UPSTREAM_AUTH),
        (404, "ModelNotFound", FailureKind.UPSTREAM_RETIRED),
        (429, "Throttling.RateQuota", FailureKind.RATE_LIMITED),
        (429, "Throttling.AllocationQuota", FailureKind.RATE_LIMITED),
    ],
)
def test_each_refusal_has_its_kind(status: int, code: str, kind: FailureKind) -> None:
    body = json.dumps({"code": code, "message": "no", "request_id": "r"}).encode()

    assert refusal(Reply(status=status, headers={}, body=body)) is kind


def test_a_task_that_is_unknown_is_told_from_one_that_runs() -> None:
    assert is_forgotten(task("UNKNOWN"))
    assert not is_forgotten(task("RUNNING"))
    assert not is_forgotten({})
