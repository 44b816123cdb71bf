"""Requests to the worker: what is read from them, and which are refused in the protocol's words."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from stablestudio.local.faults import InvalidImageFile, InvalidValue, ModelNotFound, Refused
from stablestudio.local.orders import EditAsked, ImageAsked, Order, VideoAsked, clip_order, image_order, read
from tests import media_samples as samples
from tests.local.stand_in import LIMITS, MODEL


def asked(**fields: Any) -> bytes:
    return json.dumps({"model": MODEL, "prompt": "a cat"} | fields).encode()


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def image(**fields: Any) -> Order:
    return image_order(read(asked(**fields), ImageAsked, limits=LIMITS), limits=LIMITS)


def edit(*urls: str) -> Order:
    images = [{"image_url": url} for url in urls]
    return image_order(read(asked(images=images), EditAsked, limits=LIMITS), limits=LIMITS)


def clip(**fields: Any) -> Order:
    return clip_order(read(asked(**fields), VideoAsked, limits=LIMITS), limits=LIMITS)


def test_an_image_has_the_numbers_of_its_request() -> None:
    made = image(size="640x360", seed=7, steps=3, negative_prompt="fog", quality="high", user="someone")

    assert made == Order(prompt="a cat", size=(640, 360), seed=7, steps=3, negative_prompt="fog")


@pytest.mark.parametrize("size", [None, "auto"])
def test_a_size_that_is_left_to_the_model_is_the_usual_one(size: str | None) -> None:
    assert image(size=size).size == (1024, 1024)


def test_a_clips_seconds_are_a_numeral_in_a_string() -> None:
    assert clip(seconds="8", size="640x360") == Order(prompt="a cat", size=(640, 360), seconds=8)


def test_transparent_images_come_opaque_in_their_order() -> None:
    made = edit(data_url(samples.image("PNG", size=(80, 64))), data_url(samples.image("JPEG"), "image/jpeg"))

    assert [each.mode for each in made.images] == ["RGB", "RGB"]
    assert made.images[0].size == (80, 64)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x" * 32_001}, "prompt"),
        ({"n": 2}, "n"),
        ({"size": "64"}, "size"),
        ({"size": "0x64"}, "size"),
        ({"size": "8x1024"}, "size"),
        ({"size": "2000x1001"}, "size"),
        ({"size": "99999x16"}, "size"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"steps": 0}, "steps"),
        ({"steps": 201}, "steps"),
        ({"output_format": "gif"}, "output_format"),
        ({"output_compression": 101}, "output_compression"),
        ({"background": "transparent"}, "background"),
    ],
)
def test_an_impossible_image_is_refused_with_its_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        image(**fields)

    error = caught.value.body()["error"]
    assert (caught.value.status, error["code"], error["param"]) == (400, "invalid_value", param)
    assert error["message"].startswith(param)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"seconds": "9"}, "seconds"),
        ({"seconds": "0"}, "seconds"),
        ({"seconds": "soon"}, "seconds"),
        ({"size": "641x360"}, "size"),
        ({"size": "640x361"}, "size"),
    ],
)
def test_an_impossible_clip_is_refused_with_its_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        clip(**fields)

    assert caught.value.param == param


@pytest.mark.parametrize(
    ("url", "refused"),
    [
        ("https://example.com/cat.png", InvalidValue),
        ("http://127.0.0.1/cat.png", InvalidValue),
        ("file:///etc/passwd", InvalidValue),
        ("data:image/png;base64,%%%", InvalidImageFile),
        (data_url(b"no picture"), InvalidImageFile),
        (data_url(samples.image()[:60]), InvalidImageFile),
        (data_url(samples.clip(), "image/png"), InvalidImageFile),
    ],
)
def test_only_whole_images_inside_the_request_are_read(url: str, refused: type[Refused]) -> None:
    with pytest.raises(refused) as caught:
        edit(url)

    assert caught.value.param == "images.0.image_url"


@pytest.mark.parametrize("count", [0, 17])
def test_an_edit_has_one_to_sixteen_images(count: int) -> None:
    with pytest.raises(InvalidValue) as caught:
        edit(*[data_url(samples.image())] * count)

    assert caught.value.param == "images"


def test_another_model_is_not_here() -> None:
    with pytest.raises(ModelNotFound) as caught:
        image(model="another")

    assert caught.value.body()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'{"model": 1}'])
def test_a_body_that_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidValue):
        read(body, ImageAsked, limits=LIMITS)
