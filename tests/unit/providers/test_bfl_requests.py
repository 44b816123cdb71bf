"""FLUX.2's requests and tasks, checked against the fields that the vendor's OpenAPI document names."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stablestudio.catalog import Offering
from stablestudio.providers.answers import Reply
from stablestudio.providers.bfl_requests import MODELS, MOST_PIXELS, NOT_FOUND, Sample, read, refusal, request, size
from stablestudio.providers.provider import Failed, FailureKind, Running
from tests.doubles import png
from tests.providers.orders import BY_KEY, files, order
from tests.strategies import inputs

OFFERINGS = [BY_KEY[key] for key in MODELS]
LINK = "https://example.com/a.png"

Side = Annotated[int, Field(ge=64, multiple_of=16)]


class Flux2Inputs(BaseModel):
    """The body of `/v1/flux-2-pro` and `/v1/flux-2-max` in api.bfl.ai's document of May 2026; sides per its guide."""

    model_config = ConfigDict(strict=True, extra="forbid")

    prompt: str
    input_image: str | None = None
    input_image_2: str | None = None
    input_image_3: str | None = None
    input_image_4: str | None = None
    input_image_5: str | None = None
    input_image_6: str | None = None
    input_image_7: str | None = None
    input_image_8: str | None = None
    seed: int | None = None
    width: Side | None = None
    height: Side | None = None
    safety_tolerance: Annotated[int, Field(ge=0, le=5)] = 2
    output_format: Literal["jpeg", "png", "webp"] | None = None
    webhook_url: str | None = None
    webhook_secret: str | None = None


class ResultResponse(BaseModel):
    """The answer of `/v1/get_result` in the same document."""

    model_config = ConfigDict(strict=True, extra="forbid")

    id: str
    status: Literal["Task not found", "Pending", "Request Moderated", "Content Moderated", "Ready", "Error"]
    result: Any = None
    progress: float | None = None
    details: dict[str, Any] | None = None
    preview: dict[str, Any] | None = None


def told(status: str, **more: Any) -> dict[str, Any]:
    document = {"id": "t_1", "status": status, **more}
    ResultResponse.model_validate(document)
    return document


@pytest.mark.parametrize("key", MODELS)
def test_the_request_of_each_example_fits_the_vendors_document(key: str) -> None:
    work = order(key)

    Flux2Inputs.model_validate(request(work, files(work)))


@given(st.sampled_from(OFFERINGS).flatmap(lambda offering: inputs(offering).map(lambda body: (offering, body))))
@settings(max_examples=150)
def test_any_input_gives_a_request_that_fits_the_vendors_document(asked: tuple[Offering, dict[str, Any]]) -> None:
    offering, body = asked
    work = order(offering.key, body | {"images": body["images"][:8]} if "images" in body else body)
    sent = Flux2Inputs.model_validate(request(work, files(work)))

    assert (sent.width or 0) * (sent.height or 0) <= MOST_PIXELS


@pytest.mark.parametrize(
    "wrong", [{"width": 1000}, {"safety_tolerance": 6}, {"output_format": "jpg"}, {"aspect_ratio": "1:1"}]
)
def test_the_judge_refuses_what_the_vendor_would(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Flux2Inputs.model_validate(request(order("flux-2-pro/generate"), ()) | wrong)


def test_the_buyers_choices_are_said_in_the_vendors_words() -> None:
    work = order(
        "flux-2-max/generate",
        {
            "prompt": "a boat",
            "aspect_ratio": "16:9",
            "resolution": "4 MP",
            "output_format": "jpg",
            "output_quality": 55,
            "safety_tolerance": 5,
            "prompt_upsampling": True,
        },
    )

    assert request(work, ()) == {
        "prompt": "a boat",
        "width": 2720,
        "height": 1536,
        "output_format": "png",
        "safety_tolerance": 5,
    }


@pytest.mark.parametrize("form", ["webp", "jpg", "png"])
def test_every_format_is_asked_for_without_loss_and_written_here(form: str) -> None:
    assert request(order("flux-2-pro/generate", {"output_format": form}), ())["output_format"] == "png"


def test_images_are_numbered_in_the_buyers_order() -> None:
    datas = [png((each, 1)) for each in range(1, 9)]
    work = order("flux-2-pro/edit", {"images": [LINK] * 8})
    body = request(work, files(work, datas=datas))

    names = ["input_image", *(f"input_image_{number}" for number in range(2, 9))]
    assert [base64.b64decode(body[name]) for name in names] == datas


@pytest.mark.parametrize(
    ("image", "resolution", "pixels"),
    [
        ((1024, 1024), "1 MP", (1024, 1024)),
        ((4000, 3000), "1 MP", (1184, 880)),
        ((3000, 4000), "2 MP", (1248, 1680)),
        ((1920, 1080), "4 MP", (2736, 1536)),
        ((9000, 10), "0.5 MP", (2048, 256)),
        ((10, 9000), "0.5 MP", (256, 2048)),
        ((0, 0), "1 MP", (1024, 1024)),
    ],
)
def test_an_edit_keeps_the_first_images_shape_at_the_paid_size(
    image: tuple[int, int], resolution: str, pixels: tuple[int, int]
) -> None:
    model = "flux-2-max/edit"
    work = order(model, {"images": [LINK], "resolution": resolution})

    made = size(work, files(work, size=image, datas=[png()]))

    assert made[0] * made[1] <= MOST_PIXELS
    assert made == pytest.approx(pixels, abs=16)


def test_a_shape_asked_for_goes_before_the_images() -> None:
    work = order("flux-2-pro/edit", {"images": [LINK], "aspect_ratio": "4:5"})

    assert size(work, files(work, size=(4000, 3000), datas=[png()])) == (912, 1152)


def test_an_input_of_another_family_is_our_own_mistake() -> None:
    with pytest.raises(TypeError):
        request(order("nano-banana/generate"), ())


# Answers


def failure(document: dict[str, Any]) -> FailureKind:
    found = read(document, request_id="req_1")
    assert isinstance(found, Failed)
    assert found.request_id == "req_1"
    return found.kind


def test_every_documented_state_is_understood() -> None:
    assert read(told("Pending", progress=0.25)) == Running(progress=25)
    assert read(told("Ready", result={"sample": "https://d.bfl.ai/x.png"})) == Sample("https://d.bfl.ai/x.png")
    assert read(told(NOT_FOUND)) == NOT_FOUND
    assert failure(told("Request Moderated", details={"Moderation Reasons": ["x"]})) is FailureKind.MODERATION
    assert failure(told("Content Moderated")) is FailureKind.MODERATION
    assert failure(told("Error")) is FailureKind.UPSTREAM_ERROR


@pytest.mark.parametrize("document", [{}, {"status": "Dreaming"}, {"status": 7}, {"status": ["Ready"]}])
def test_an_undocumented_state_decides_nothing(document: dict[str, Any]) -> None:
    assert read(document) is None


@pytest.mark.parametrize("result", [None, {}, {"sample": None}, {"sample": ""}, "x"])
def test_ready_without_a_file_is_the_vendors_failure(result: Any) -> None:
    assert failure(told("Ready", result=result)) is FailureKind.UPSTREAM_ERROR


@pytest.mark.parametrize("progress", [None, -1, 2, "half", True])
def test_a_progress_of_another_form_is_left_out(progress: Any) -> None:
    assert read({"status": "Pending", "progress": progress}) == Running()


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (402, b'{"detail":"Insufficient credits"}', FailureKind.UPSTREAM_QUOTA),
        (403, b'{"detail":"Not authenticated"}', FailureKind.UPSTREAM_AUTH),
        (404, b'{"detail":"Not Found"}', FailureKind.UPSTREAM_RETIRED),
        (422, b'{"detail":[{"loc":["body","width"],"msg":"x","type":"y"}]}', FailureKind.INVALID_INPUT),
        (400, b'{"detail":"Request Moderated"}', FailureKind.MODERATION),
        (418, b"", FailureKind.UPSTREAM_ERROR),
    ],
)
def test_a_refused_request_says_why(status: int, body: bytes, kind: FailureKind) -> None:
    assert refusal(Reply(status=status, headers={}, body=body)) is kind
