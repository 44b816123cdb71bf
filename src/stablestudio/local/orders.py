"""Requests of the protocol, read and checked: what is to be made, in numbers that the pipeline takes. No model here.

Facts: OpenAI's OpenAPI (`CreateImageRequest`, `EditImageBodyJsonParam`, `CreateVideoJsonBody`). `seed`, `steps` and
`negative_prompt` are additions of this worker; fields about OpenAI's own doings (`quality`, `moderation`, `user`) are
let by.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stablestudio.local.faults import InvalidImageFile, InvalidValue, ModelNotFound
from stablestudio.local.files import Format, Size, opaque
from stablestudio.media.probe import UnreadableMedia, open_image, probe

MAX_STEPS = 200
_SIZE = re.compile(r"([1-9][0-9]{0,3})x([1-9][0-9]{0,3})")
_LEAST_SIDE = 16
_USUAL_IMAGE, _USUAL_CLIP = (1024, 1024), (1280, 720)
_DATA_URL = re.compile(r"data:image/[a-z0-9.+-]+;base64,", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one worker serves: its model's name, the largest picture in pixels, the longest clip in seconds."""

    model: str
    pixels: int
    seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be made; `seconds` is 0 for an image, `seed` and `steps` are None where the worker may choose."""

    prompt: str
    size: Size
    negative_prompt: str | None = None
    seconds: int = 0
    seed: int | None = None
    steps: int | None = None
    images: tuple[Image.Image, ...] = ()


class Asked(BaseModel):
    """What all requests have in common."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: str
    prompt: str = Field(min_length=1, max_length=32_000)
    negative_prompt: str | None = Field(None, max_length=32_000)
    size: str | None = None
    seed: int | None = Field(None, ge=0, lt=2**63)
    steps: int | None = Field(None, ge=1, le=MAX_STEPS)


class ImageAsked(Asked):
    """`POST /images/generations`."""

    n: Literal[1] = 1
    background: Literal["opaque", "auto"] | None = None
    output_format: Format = "png"
    output_compression: int = Field(100, ge=0, le=100)


class ImageUrl(BaseModel):
    """An image in the request itself."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    image_url: str


class EditAsked(ImageAsked):
    """`POST /images/edits` as JSON."""

    images: Annotated[tuple[ImageUrl, ...], Field(min_length=1, max_length=16)]


class VideoAsked(Asked):
    """`POST /videos` as JSON; the protocol's `seconds` is a numeral in a string."""

    seconds: int = Field(4, ge=1)
    input_reference: ImageUrl | None = None


AskedT = TypeVar("AskedT", bound=Asked)


def read(body: bytes, form: type[AskedT], *, limits: Limits) -> AskedT:
    """Return a request's fields. Raises `InvalidValue` with the field at fault, `ModelNotFound`."""
    try:
        asked = form.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        param = ".".join(str(part) for part in first["loc"])
        raise InvalidValue(f"{param or 'The body'}: {first['msg']}", param=param or None) from None
    if asked.model != limits.model:
        raise ModelNotFound(f"This worker serves {limits.model!r}, not {asked.model!r}.", param="model")
    return asked


def image_order(asked: ImageAsked, *, limits: Limits) -> Order:
    """Return an order for an image. Raises `InvalidValue`, `InvalidImageFile`. Blocks while it decodes."""
    urls = asked.images if isinstance(asked, EditAsked) else ()
    return Order(
        prompt=asked.prompt,
        negative_prompt=asked.negative_prompt,
        size=_size(asked.size, usual=_USUAL_IMAGE, limits=limits),
        seed=asked.seed,
        steps=asked.steps,
        images=tuple(_image(each.image_url, f"images.{index}.image_url") for index, each in enumerate(urls)),
    )


def clip_order(asked: VideoAsked, *, limits: Limits) -> Order:
    """Return an order for a clip. Raises `InvalidValue`, `InvalidImageFile`. Blocks while it decodes."""
    size = _size(asked.size, usual=_USUAL_CLIP, limits=limits)
    if size[0] % 2 or size[1] % 2:
        raise InvalidValue(f"size: a clip's sides are even, {asked.size} has an odd one.", param="size")
    if asked.seconds > limits.seconds:
        raise InvalidValue(f"seconds: at most {limits.seconds} here, not {asked.seconds}.", param="seconds")
    first = asked.input_reference
    return Order(
        prompt=asked.prompt,
        negative_prompt=asked.negative_prompt,
        size=size,
        seconds=asked.seconds,
        seed=asked.seed,
        steps=asked.steps,
        images=(_image(first.image_url, "input_reference.image_url"),) if first else (),
    )


def _size(text: str | None, *, usual: Size, limits: Limits) -> Size:
    if text is None or text == "auto":
        return usual
    found = _SIZE.fullmatch(text)
    if found is None:
        raise InvalidValue(f"size: WIDTHxHEIGHT in pixels or auto, not {text[:40]!r}.", param="size")
    width, height = int(found[1]), int(found[2])
    if min(width, height) < _LEAST_SIDE or width * height > limits.pixels:
        allowed = f"sides of {_LEAST_SIDE} pixels or more and at most {limits.pixels} pixels in all"
        raise InvalidValue(f"size: {allowed}, not {text}.", param="size")
    return width, height


def _image(url: str, param: str) -> Image.Image:
    head = _DATA_URL.match(url)
    if head is None:
        # Whoever serves a model need not fetch: the service has done that, under its own rules.
        raise InvalidValue(f"{param}: an image as data:image/...;base64,... and no address.", param=param)
    try:
        data = base64.b64decode(url[head.end() :], validate=True)
        if probe(data).kind != "image":
            raise InvalidImageFile(f"{param}: the file is not an image.", param=param)
        return opaque(open_image(data))
    except (binascii.Error, UnreadableMedia) as error:
        told = error.message if isinstance(error, UnreadableMedia) else "this is not base64."
        raise InvalidImageFile(f"{param}: {told}", param=param) from None
