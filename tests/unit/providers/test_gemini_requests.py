"""Gemini's requests and answers: the buyer's words in Google's, checked against Google's own SDK."""

from __future__ import annotations

import base64
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stablestudio.catalog import Offering
from stablestudio.providers.gemini_requests import MODELS, read, request
from stablestudio.providers.provider import Failed, FailureKind, Output, Work
from tests.doubles import png
from tests.providers.orders import BY_KEY, files, order
from tests.strategies import inputs

pytest.importorskip("google.genai", reason="Google's SDK is the judge here")

from google.genai import types

from tests.providers.google_sdk import Recorder, plain

OFFERINGS = [BY_KEY[key] for key in MODELS]
IMAGE = png()
B64 = base64.b64encode(IMAGE).decode()


@pytest.fixture(scope="module")
def sdk() -> Recorder:
    return Recorder()


def sent_by_sdk(sdk: Recorder, body: dict[str, Any], *, model: str) -> tuple[str, Any]:
    """Return what the SDK sends for the values that a body of ours states; its types refuse unknown fields."""
    sdk.answer = {"candidates": []}
    sdk.developer.models.generate_content(
        model=model,
        contents=[types.Content.model_validate(each) for each in body["contents"]],
        config=types.GenerateContentConfig.model_validate(body["generationConfig"]),
    )
    return sdk.sent[-1].path, plain(sdk.sent[-1].body)


@pytest.mark.parametrize("key", MODELS)
def test_the_request_of_each_example_is_the_sdks(key: str, sdk: Recorder) -> None:
    work = order(key)
    body = request(work, files(work), model=MODELS[key])

    assert sent_by_sdk(sdk, body, model=MODELS[key]) == (f"/v1/models/{MODELS[key]}:generateContent", body)


@given(st.sampled_from(OFFERINGS).flatmap(lambda offering: inputs(offering).map(lambda body: (offering, body))))
@settings(max_examples=60)
def test_any_input_gives_a_request_that_the_sdk_would_send(
    sdk: Recorder, asked: tuple[Offering, dict[str, Any]]
) -> None:
    offering, told = asked
    work = order(offering.key, told)
    body = request(work, files(work), model=MODELS[offering.key])

    assert sent_by_sdk(sdk, body, model=MODELS[offering.key])[1] == body
    assert len(body["contents"][0]["parts"]) == len(work.input.media()) + 1


def test_the_buyers_choices_are_said_in_googles_words() -> None:
    work = order(
        "nano-banana/generate",
        {"prompt": "a fox", "aspectRatio": "1:8", "imageSize": "512", "thinkingLevel": "high"},
    )

    assert request(work, (), model=MODELS["nano-banana/generate"]) == {
        "contents": [{"role": "user", "parts": [{"text": "a fox"}]}],
        "generationConfig": {
            "responseModalities": ["IMAGE"],
            "imageConfig": {"aspectRatio": "1:8", "imageSize": "512"},
            "thinkingConfig": {"thinkingLevel": "HIGH"},
        },
    }


def test_the_images_come_in_the_buyers_order_before_the_words_about_them() -> None:
    work = order("nano-banana-pro/edit", {"images": ["https://example.com/a.png", "https://example.com/b.png"]})
    first, second = png((1, 1)), png((2, 2))

    parts = request(work, files(work, datas=(first, second)), model="gemini-3-pro-image")["contents"][0]["parts"]

    sent = [base64.b64decode(part["inlineData"]["data"]) for part in parts[:2]]
    assert sent == [first, second]
    assert parts[2] == {"text": "a cat"}


def test_a_shape_left_to_the_model_is_not_named() -> None:
    config = request(order("nano-banana-pro/generate", {}), (), model="gemini-3-pro-image")["generationConfig"]

    assert config == {"responseModalities": ["IMAGE"], "imageConfig": {"imageSize": "1K"}}


@pytest.mark.parametrize(
    ("model", "size", "asked"),
    [
        ("gemini-nano-banana-2.1", "512", "1K"),
        ("gemini-nano-banana-2.1", "2K", "2K"),
        ("gemini-3.1-flash-image", "512", "512"),
    ],
)
def test_a_model_without_the_512_tier_is_asked_for_1k(model: str, size: str, asked: str) -> None:
    body = request(order("nano-banana/generate", {"imageSize": size}), (), model=model)

    assert body["generationConfig"]["imageConfig"]["imageSize"] == asked


def test_an_input_of_another_family_is_our_own_mistake() -> None:
    with pytest.raises(TypeError):
        request(order("veo-3.1/generate"), (), model="gemini-3-pro-image")


# Answers


def answer(*parts: dict[str, Any], **candidate: Any) -> dict[str, Any]:
    """Return an answer in Google's form, which its SDK can read."""
    document = {
        "candidates": [{"content": {"role": "model", "parts": list(parts)}, "finishReason": "STOP"} | candidate]
    }
    types.GenerateContentResponse.model_validate(document)
    return document


def inline(data: str = B64, kind: str = "image/png") -> dict[str, Any]:
    return {"inlineData": {"mimeType": kind, "data": data}}


def kind_of(document: Any) -> FailureKind:
    found = read(document, request_id="req_1")
    assert isinstance(found, Failed)
    assert found.request_id == "req_1"
    return found.kind


def test_the_first_image_of_the_answer_is_the_result() -> None:
    found = read(answer({"text": "Here it is."}, inline(kind="image/jpeg")))

    assert found == Output(data=IMAGE, content_type="image/jpeg")


def test_base64_is_read_in_either_alphabet() -> None:
    data = IMAGE + bytes([251, 255, 254])
    found = read(answer(inline(base64.urlsafe_b64encode(data).decode().rstrip("="))))

    assert isinstance(found, Output)
    assert found.data == data


def test_a_draft_from_the_models_thoughts_is_not_the_result() -> None:
    draft = base64.b64encode(b"draft").decode()
    found = read(answer(inline(draft) | {"thought": True}, inline()))

    assert isinstance(found, Output)
    assert found.data == IMAGE


REFUSED = (
    "SAFETY",
    "IMAGE_SAFETY",
    "PROHIBITED_CONTENT",
    "IMAGE_PROHIBITED_CONTENT",
    "RECITATION",
    "BLOCKLIST",
    "SPII",
)


@pytest.mark.parametrize("reason", [*REFUSED, "IMAGE_RECITATION", "MODEL_ARMOR", "ESCALATION"])
def test_a_refusal_of_the_result_is_an_answer_without_an_image(reason: str) -> None:
    assert kind_of(answer(finishReason=reason)) is FailureKind.MODERATION


@pytest.mark.parametrize("reason", [each.value for each in types.BlockedReason if "UNSPECIFIED" not in each.value])
def test_every_block_of_the_prompt_is_a_refusal(reason: str) -> None:
    document = {"promptFeedback": {"blockReason": reason}}
    types.GenerateContentResponse.model_validate(document)

    assert kind_of(document) is FailureKind.MODERATION


@pytest.mark.parametrize("reason", [each.value for each in types.FinishReason])
def test_every_reason_to_stop_without_an_image_is_a_failure(reason: str) -> None:
    assert isinstance(read(answer(finishReason=reason)), Failed)


def test_words_in_place_of_an_image_are_the_vendors_failure_and_kept_for_the_operator() -> None:
    found = read(answer({"text": "I would rather talk."}))

    assert isinstance(found, Failed)
    assert found.kind is FailureKind.UPSTREAM_ERROR
    assert "I would rather talk." in found.detail
    assert "rather" not in found.message


def test_an_operators_account_in_disgrace_is_not_the_buyers_fault() -> None:
    assert kind_of(answer(finishReason="PUP_LIMITED_DISABLED")) is FailureKind.UPSTREAM_AUTH


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"candidates": None},
        {"candidates": [None, 7]},
        {"candidates": [{"content": None}]},
        {
            "candidates": [
                {"content": {"parts": [None, {"inlineData": None}, {"inlineData": {"mimeType": "image/png"}}]}}
            ]
        },
        {"candidates": [{"content": {"parts": [{"inlineData": {"mimeType": "image/png", "data": "%%%"}}]}}]},
        {"candidates": [{"content": {"parts": [{"inlineData": {"mimeType": "text/html", "data": B64}}]}}]},
        {"promptFeedback": []},
    ],
)
def test_an_answer_of_any_other_form_is_the_vendors_failure(document: Any) -> None:
    assert kind_of(document) is FailureKind.UPSTREAM_ERROR


def test_the_sdk_names_every_ratio_that_is_sold() -> None:
    from google.genai._gaos.types.interactions import imageresponseformat

    known = get_args(get_args(imageresponseformat.ImageResponseFormatAspectRatio)[0])
    sold = {ratio for key in MODELS for ratio in _ratios(order(key))}
    assert sold <= set(known)


def _ratios(work: Work) -> list[str]:
    schema = work.offering.input.model_json_schema()["properties"]["aspectRatio"]
    return list(schema["enum"])
