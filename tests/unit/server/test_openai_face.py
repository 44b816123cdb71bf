"""What an order in OpenAI's shape means: which offering, which native input; judged by the inputs themselves."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stablestudio.catalog import OFFERINGS, Kind, Offering, VideoInput
from stablestudio.errors import InvalidInput
from stablestudio.server.faces.openai import EDITS, FACES, IMAGES, VIDEOS, Face, models, read_wish
from stablestudio.server.faces.sizes import fields_of

LINK = "https://example.com/cat.png"
MADE = [offering for offering in OFFERINGS if offering.kind is not Kind.UPLOAD]
each_made = pytest.mark.parametrize("offering", MADE, ids=lambda offering: offering.key)


def _face(offering: Offering) -> Face:
    [face] = [face for face in FACES.values() if offering in face.offerings]
    return face


def _native(face: Face, **body: Any) -> dict[str, Any]:
    wish = read_wish(face, json.dumps(body).encode())
    wish.offering.read(wish.native)  # holds
    told: dict[str, Any] = json.loads(wish.native)
    return told


def _refused(face: Face, **body: Any) -> list[tuple[Any, ...]]:
    with pytest.raises(InvalidInput) as caught:
        read_wish(face, json.dumps(body).encode())
    return [(*issue.path, issue.code) for issue in caught.value.issues]


@each_made
def test_each_native_body_with_its_model_is_the_same_order(offering: Offering) -> None:
    body = {"model": offering.model, **offering.input.example}
    size = body.get("size")
    if isinstance(size, str):
        body["size"] = size.replace("*", "x")
    wish = read_wish(_face(offering), json.dumps(body).encode())

    assert wish.offering is offering
    assert offering.read(wish.native) == offering.read(json.dumps(offering.input.example).encode())


@each_made
def test_a_size_that_a_model_makes_is_what_is_made(offering: Offering) -> None:
    made = offering.read(json.dumps(offering.input.example).encode()).output()
    fields = fields_of(offering.input, f"{made.width}x{made.height}")

    assert isinstance(fields, dict)
    again = offering.input.model_validate_json(json.dumps(_without_size(offering) | fields)).output()
    assert (again.width, again.height) == (made.width, made.height)


def _without_size(offering: Offering) -> dict[str, Any]:
    shape = ("size", "aspect_ratio", "aspectRatio", "resolution", "imageSize", "outputResolution")
    return {name: value for name, value in offering.input.example.items() if name not in shape}


@pytest.mark.parametrize(
    ("model", "size", "fields"),
    [
        ("flux-2-pro", "1024x1024", {"aspect_ratio": "1:1", "resolution": "1 MP"}),
        ("flux-2-max", "2048x2048", {"aspect_ratio": "1:1", "resolution": "4 MP"}),
        ("nano-banana", "1792x1024", {"aspectRatio": "16:9", "imageSize": "1K"}),
        ("nano-banana", "auto", {}),
        ("grok", "1536x1024", {"aspect_ratio": "3:2"}),
        ("gpt-image-2", "1536x1024", {"size": "1536x1024"}),
    ],
)
def test_a_size_in_pixels_is_said_in_the_model_s_own_words(model: str, size: str, fields: dict[str, str]) -> None:
    assert _native(IMAGES, model=model, prompt="a", size=size) == {"prompt": "a", **fields}


@pytest.mark.parametrize("size", ["1024x2048", "big", "0x0", "1024", "99999999x1", "1024X1024", "-1x-1", "", 5])
def test_another_shape_is_refused_with_those_that_are_made(size: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_wish(IMAGES, json.dumps({"model": "flux-2-pro", "prompt": "a", "size": size}).encode())
    [issue] = caught.value.issues
    assert (issue.path, issue.code) == (("size",), "not_allowed")
    assert issue.allowed is not None
    assert {"1024x1024", "1360x768"} <= set(issue.allowed)


def test_size_and_the_model_s_own_words_do_not_go_together() -> None:
    body = {"model": "flux-2-pro", "prompt": "a", "size": "1024x1024", "resolution": "2 MP"}
    assert _refused(IMAGES, **body) == [("resolution", "conflict")]


@pytest.mark.parametrize("picture", [LINK, [LINK], {"image_url": LINK}, [{"image_url": LINK}]])
def test_a_picture_goes_where_the_model_takes_it(picture: Any) -> None:
    assert _native(EDITS, model="grok", prompt="a", image=picture)["images"] == [LINK]
    assert _native(EDITS, model="grok", prompt="a", images=picture)["images"] == [LINK]
    taken = {
        model: _native(VIDEOS, model=model, prompt="a", input_reference=picture)
        for model in ("veo-3.1", "grok-video", "wan-2.6", "sora-2", "seedance-fast")
    }
    for model, field in {"veo-3.1": "image", "wan-2.6": "image", "sora-2": "input_reference"}.items():
        assert taken[model][field] == LINK
    assert taken["seedance-fast"]["urls"] == [LINK]


@pytest.mark.parametrize("model", models(VIDEOS))
def test_seconds_are_the_model_s_own_field(model: str) -> None:
    offering = models(VIDEOS)[model][0]
    assert issubclass(offering.input, VideoInput)
    longest = offering.durations[-1]
    for seconds in (longest, str(longest)):
        wish = read_wish(VIDEOS, json.dumps({"model": model, "prompt": "a", "seconds": seconds}).encode())
        assert offering.read(wish.native).units() == longest


def test_a_clip_starts_from_text_unless_something_is_given_to_start_from() -> None:
    def operation(**more: Any) -> str:
        return read_wish(VIDEOS, json.dumps({"model": "seedance", "prompt": "a", **more}).encode()).offering.operation

    assert operation() == operation(input_reference=None) == operation(size="1280x720") == "t2v"
    assert operation(input_reference=LINK) == operation(urls=[LINK]) == operation(image=LINK) == "i2v"


def test_a_vendor_s_account_hints_are_dropped() -> None:
    assert _native(IMAGES, model="grok", prompt="a", user="u", safety_identifier="s", n=1) == {"prompt": "a"}


@pytest.mark.parametrize(
    ("body", "issues"),
    [
        ({"prompt": "a"}, [("model", "missing")]),
        ({"model": 5, "prompt": "a"}, [("model", "not_allowed")]),
        ({"model": "sora-2", "prompt": "a"}, [("model", "not_allowed")]),
        ({"model": "grok", "prompt": "a", "n": 2}, [("n", "not_allowed")]),
        ({"model": "grok", "prompt": "a", "n": 1.0}, [("n", "not_allowed")]),
        ({"model": "grok", "prompt": "a", "n": {}, "response_format": "svg"},
         [("n", "not_allowed"), ("response_format", "not_allowed")]),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_for_is_told_by_name(body: dict[str, Any], issues: list[tuple[Any, ...]]) -> None:
    assert _refused(IMAGES, **body) == issues


def test_an_unknown_model_is_told_the_nearest() -> None:
    with pytest.raises(InvalidInput, match="did you mean 'gpt-image-2'"):
        read_wish(IMAGES, b'{"model": "gpt-imaeg-2", "prompt": "a"}')


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"5", b"null", b'{"model": "grok", "model": "grok"}', b"[" * 100_000, b"\xff", b"," * 100_000]
)
def test_what_is_no_order_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_wish(IMAGES, body)


def test_a_native_field_that_came_twice_is_refused_as_on_its_own_route() -> None:
    wish = read_wish(VIDEOS, b'{"model": "veo-3.1", "prompt": "a", "seconds": 4, "durationSeconds": 8}')
    with pytest.raises(InvalidInput) as caught:
        wish.offering.read(wish.native)
    wish.retell(caught.value)
    assert [(issue.path, issue.code) for issue in caught.value.issues] == [(("seconds",), "duplicate_key")]


def test_errors_speak_of_the_fields_that_were_sent() -> None:
    wish = read_wish(VIDEOS, b'{"model": "veo-3.1", "prompt": "a", "seconds": "5", "size": "1920x1080"}')
    with pytest.raises(InvalidInput) as caught:
        wish.offering.read(wish.native)
    wish.retell(caught.value)
    assert [issue.path for issue in caught.value.issues] == [("seconds",)]
    assert "durationSeconds" not in caught.value.message
