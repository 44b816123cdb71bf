"""OpenAI's image requests: every order becomes a body that OpenAI's own schema and types take."""

from __future__ import annotations

import base64
from typing import Any, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.image_edit_params import ImageEditParamsNonStreaming
from openai.types.image_generate_params import ImageGenerateParamsNonStreaming
from pydantic import TypeAdapter

from stablestudio import catalog
from stablestudio.providers.answers import Reply, Unreadable
from stablestudio.providers.openai_errors import meaning, refusal, warnings_of
from stablestudio.providers.openai_images import OpenAIImages
from stablestudio.providers.openai_images_requests import edit, edit_form, generation, picture, share_of
from stablestudio.providers.provider import FailureKind
from tests.providers.fakes.openai_images import MODERATED, error
from tests.providers.forms import parts
from tests.providers.given import tiny
from tests.providers.loopback import Answer
from tests.providers.schema import problems, schemas
from tests.providers.works import of_body, work
from tests.strategies import inputs

KEYS = sorted(OpenAIImages.models)
GENERATED: TypeAdapter[Any] = TypeAdapter(ImageGenerateParamsNonStreaming)
FORM_NAMES = set(get_type_hints(ImageEditParamsNonStreaming)) - {"image"}
bodies = st.sampled_from(KEYS).flatmap(
    lambda key: st.tuples(st.just(key), inputs(next(each for each in catalog.OFFERINGS if each.key == key)))
)


def check(key: str, body: dict[str, Any]) -> dict[str, Any]:
    """Make the request of an order and hold it against what OpenAI publishes."""
    order = of_body(key, body, model=OpenAIImages.models[key])
    if key.endswith("generate"):
        made = generation(order)
        GENERATED.validate_python(made, strict=True)
        assert problems(schemas("openai")["images/generations"], made) == []
    else:
        made = edit(order, tiny(order))
        assert made.keys() <= FORM_NAMES | {"images", "moderation"}
        assert problems(schemas("openai")["images/edits"], made) == []
        assert all(image.keys() == {"image_url"} for image in made["images"])
        assert len(made["images"]) == len(body["images"])
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
    family = {each.key for each in catalog.OFFERINGS if each.model.startswith("gpt-image")}

    assert set(OpenAIImages.models) == family


def test_a_request_says_all_that_was_ordered() -> None:
    order = work(
        "gpt-image-1.5/generate",
        model="gpt-image-1.5",
        quality="low",
        size="auto",
        background="transparent",
        output_format="webp",
        moderation="low",
    )

    assert generation(order) == {
        "model": "gpt-image-1.5",
        "prompt": "A cat in a spacesuit on Mars, photorealistic",
        "n": 1,
        "quality": "low",
        "size": "auto",
        "background": "transparent",
        "output_format": "webp",
        "moderation": "low",
    }


@pytest.mark.parametrize(
    ("model", "fidelity", "sent"),
    [
        ("gpt-image-1.5", "high", True),
        ("gpt-image-1.5-2026-01-01", "low", True),
        ("gpt-image-1", "high", True),
        ("gpt-image-1-mini", "low", True),
        ("gpt-image-1-mini", "high", False),
        ("gpt-image-2", "high", False),
        ("gpt-image-2.5-flare", "high", False),
        ("gpt-image-15", "high", False),
        ("somebody-elses", "high", False),
    ],
)
def test_fidelity_goes_only_to_models_that_take_it(model: str, fidelity: str, sent: bool) -> None:  # noqa: FBT001 - a column
    order = work("gpt-image-1.5/edit", model=model, input_fidelity=fidelity)

    assert edit(order, tiny(order)).get("input_fidelity") == (fidelity if sent else None)


def test_fidelity_never_goes_to_gpt_image_2() -> None:
    order = work("gpt-image-2/edit", model="gpt-image-2")

    assert "input_fidelity" not in edit(order, tiny(order))


def test_images_share_what_a_request_may_hold() -> None:
    assert share_of(1) == share_of(2) == 15_000_000
    assert share_of(16) * 16 * 4 / 3 <= 50_000_000
    assert share_of(1) * 4 / 3 < 20 * 1024 * 1024


def test_a_form_says_the_same_as_the_json() -> None:
    order = work("gpt-image-1.5/edit", model="gpt-image-1.5", images=["https://a.example/1", "https://a.example/2"])

    body, content_type = edit_form(order, tiny(order), more={"user": "u"})

    fields = parts(body, content_type)
    texts = {name: data.decode() for name, file, _, data in fields if file is None}
    said = {name: str(value) for name, value in edit(order, ()).items() if name in FORM_NAMES}
    assert texts == said | {"user": "u"}
    assert [part for part in fields if part[0] == "image[]"] == [
        ("image[]", "0.png", "image/png", b"picture"),
        ("image[]", "1.png", "image/png", b"picture"),
    ]


def test_a_prompt_stays_whole_in_a_form() -> None:
    prompt = 'Größe "5"\r\n--x\r\nContent-Disposition: form-data; name="n"\r\n\r\n10'
    order = work("gpt-image-2/edit", model="gpt-image-2", prompt=prompt)

    fields = {name: data for name, _, _, data in parts(*edit_form(order, tiny(order), more={}))}

    assert fields["prompt"].decode() == prompt
    assert fields["n"] == b"1"


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ([{"b64_json": base64.b64encode(b"abc").decode()}], b"abc"),
        ([{"b64_json": "data:image/png;base64,YWJj"}], b"abc"),
        ([{"url": "https://files.example.com/1.png"}], "https://files.example.com/1.png"),
        ([{"url": "data:image/png;base64,YWJj"}], b"abc"),
    ],
)
def test_a_picture_is_found_in_each_form(data: object, found: object) -> None:
    assert picture({"data": data}) == found


@pytest.mark.parametrize(
    "document", [{}, {"data": []}, {"data": None}, {"data": [{}]}, {"data": [{"b64_json": ""}]}, {"data": "x"},
                 {"data": [{"b64_json": "a"}]}]
)  # fmt: skip
def test_an_answer_without_a_picture_says_so(document: dict[str, Any]) -> None:
    with pytest.raises(Unreadable):
        picture(document)


def reply(answer: Answer) -> Reply:
    _, _, body = answer.written().partition(b"\r\n\r\n")
    return Reply(status=answer.status, headers=answer.headers, body=body)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (MODERATED, FailureKind.MODERATION),
        (error(400, type="image_generation_user_error"), FailureKind.MODERATION),
        (error(400, code="content_policy_violation"), FailureKind.MODERATION),
        (error(400, code="contentFilter"), FailureKind.MODERATION),
        (error(400, inner_error={"code": "ResponsibleAIPolicyViolation"}), FailureKind.MODERATION),
        (error(400, code="invalid_image_file", type="image_generation_user_error"), FailureKind.INVALID_INPUT),
        (error(400, code="invalid_value", param="size"), FailureKind.INVALID_INPUT),
        (error(400, code="invalid_value", param="model"), FailureKind.UPSTREAM_RETIRED),
        (error(400, code="billing_hard_limit_reached"), FailureKind.UPSTREAM_QUOTA),
        (error(400, "Your organization must be verified to stream"), FailureKind.UPSTREAM_AUTH),
        (error(401, code="invalid_api_key"), FailureKind.UPSTREAM_AUTH),
        (error(403, "Your organization must be verified to use the model `gpt-image-2`"), FailureKind.UPSTREAM_AUTH),
        (error(403, code="unsupported_country_region_territory"), FailureKind.UPSTREAM_AUTH),
        (error(404, code="model_not_found"), FailureKind.UPSTREAM_RETIRED),
        (error(404, code="DeploymentNotFound"), FailureKind.UPSTREAM_RETIRED),
        (error(429, code="rate_limit_exceeded"), FailureKind.RATE_LIMITED),
        (error(429, code="insufficient_quota", type="insufficient_quota"), FailureKind.UPSTREAM_QUOTA),
        (error(429, type="insufficient_quota"), FailureKind.UPSTREAM_QUOTA),
        (Answer(status=400, json={"error": "flat"}), FailureKind.INVALID_INPUT),
        (Answer(status=403, body=b"<html>"), FailureKind.UPSTREAM_AUTH),
        (Answer(status=429, json=[]), FailureKind.RATE_LIMITED),
    ],
)
def test_an_error_means_one_thing(answer: Answer, kind: FailureKind) -> None:
    assert refusal(reply(answer)) is kind


def test_an_unknown_error_keeps_the_meaning_that_its_place_gives_it() -> None:
    assert meaning({"code": "new"}, otherwise=FailureKind.UPSTREAM_ERROR) is FailureKind.UPSTREAM_ERROR
    assert meaning({}, otherwise=FailureKind.INVALID_INPUT) is FailureKind.INVALID_INPUT


def test_the_operator_hears_of_models_that_end_or_are_missing() -> None:
    listed = {"gpt-image-2": None, "gpt-image-1.5": "2026-12-01"}

    told = warnings_of(listed, OpenAIImages.models)

    assert len(told) == 2
    assert any("gpt-image-1.5" in each and "2026-12-01" in each for each in told)
    assert any("gpt-image-1 " in each and "not among" in each for each in told)
