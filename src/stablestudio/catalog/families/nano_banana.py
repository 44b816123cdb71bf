"""Nano Banana: Google's Gemini image models."""
# ruff: noqa: N815 - fields have the wire's own names

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from stablestudio.catalog.fields import LINK_HELP, ImageLink, Numeral, Prompt
from stablestudio.catalog.inputs import ImageInput, MediaField
from stablestudio.catalog.offering import Model, Operation
from stablestudio.catalog.values import ImageOutput, Kind, Lifecycle, LifecycleState

ProRatio = Literal["1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9"]
Ratio = Literal["1:1", "1:4", "1:8", "2:3", "3:2", "3:4", "4:1", "4:3", "4:5", "5:4", "8:1", "9:16", "16:9", "21:9"]
Images = Annotated[tuple[ImageLink, ...], Field(min_length=1, max_length=14, description=f"1-14 images: {LINK_HELP}.")]

# Sizes at 1K, from ai.google.dev/gemini-api/docs/image-generation; the other tiers are exact multiples.
_SIZES = {
    "1:1": (1024, 1024),
    "1:4": (512, 2048),
    "1:8": (384, 3072),
    "2:3": (848, 1264),
    "3:2": (1264, 848),
    "3:4": (896, 1200),
    "4:1": (2048, 512),
    "4:3": (1200, 896),
    "4:5": (928, 1152),
    "5:4": (1152, 928),
    "8:1": (3072, 384),
    "9:16": (768, 1376),
    "16:9": (1376, 768),
    "21:9": (1584, 672),
}
_HALVES = {"512": 1, "1K": 2, "2K": 4, "4K": 8}
_NO_IMAGES = {"images": "this route takes text alone; send images to the edit route of this model"}


def _output(*, ratio: str | None, size: str) -> ImageOutput:
    width, height = _SIZES[ratio or "1:1"]
    halves = _HALVES[size]
    return ImageOutput(width=width * halves // 2, height=height * halves // 2)


class NanoBananaGenerate(ImageInput):
    """Make an image from text."""

    example: ClassVar[dict[str, Any]] = {
        "prompt": "A fox reading a map in the rain, watercolour",
        "aspectRatio": "16:9",
        "imageSize": "1K",
    }
    priced_by = ("imageSize",)
    elsewhere = _NO_IMAGES

    prompt: Prompt
    aspectRatio: Ratio | None = Field(default=None, description="Shape of the image; the model chooses where omitted.")
    imageSize: Annotated[Literal["512", "1K", "2K", "4K"], Numeral()] = Field(
        default="1K", description="Resolution tier; sets the price."
    )
    thinkingLevel: Literal["minimal", "high"] = Field(default="minimal", description="How long the model plans first.")

    def cell(self) -> str:
        return self.imageSize

    def output(self) -> ImageOutput:
        return _output(ratio=self.aspectRatio, size=self.imageSize)


class NanoBananaEdit(NanoBananaGenerate):
    """Make an image from text and 1-14 images."""

    example: ClassVar[dict[str, Any]] = {
        "prompt": "Put the hat of the second image on the fox",
        "images": ["https://example.com/fox.png"],
    }
    media_fields = (MediaField("images", "image", "reference"),)
    elsewhere: ClassVar[dict[str, str]] = {}

    images: Images


class NanoBananaProGenerate(ImageInput):
    """Make an image from text, up to 4K."""

    example: ClassVar[dict[str, Any]] = {
        "prompt": "A poster that says OPEN LATE in neon",
        "aspectRatio": "2:3",
        "imageSize": "2K",
    }
    priced_by = ("imageSize",)
    elsewhere = _NO_IMAGES

    prompt: Prompt
    aspectRatio: ProRatio | None = Field(
        default=None, description="Shape of the image; the model chooses where omitted."
    )
    imageSize: Literal["1K", "2K", "4K"] = Field(default="1K", description="Resolution tier; sets the price.")

    def cell(self) -> str:
        return self.imageSize

    def output(self) -> ImageOutput:
        return _output(ratio=self.aspectRatio, size=self.imageSize)


class NanoBananaProEdit(NanoBananaProGenerate):
    """Make an image from text and 1-14 images, up to 4K."""

    example: ClassVar[dict[str, Any]] = {
        "prompt": "The same room at night",
        "images": ["https://example.com/room.jpg"],
        "imageSize": "4K",
    }
    media_fields = (MediaField("images", "image", "reference"),)
    elsewhere: ClassVar[dict[str, str]] = {}

    images: Images


_FLASH_PRICES = {"512": "0.045", "1K": "0.067", "2K": "0.101", "4K": "0.151"}
_PRO_PRICES = {"1K": "0.134", "2K": "0.134", "4K": "0.24"}

MODELS = (
    Model(
        name="nano-banana",
        title="Nano Banana",
        kind=Kind.IMAGE,
        operations=(
            Operation(name="generate", input=NanoBananaGenerate, prices=_FLASH_PRICES),
            Operation(name="edit", input=NanoBananaEdit, prices=_FLASH_PRICES),
        ),
        typical_seconds=(5, 5),
        poll_after=5,
        lifecycle=Lifecycle(state=LifecycleState.DEPRECATED, successor="nano-banana-pro"),
    ),
    Model(
        name="nano-banana-pro",
        title="Nano Banana Pro",
        kind=Kind.IMAGE,
        operations=(
            Operation(name="generate", input=NanoBananaProGenerate, prices=_PRO_PRICES),
            Operation(name="edit", input=NanoBananaProEdit, prices=_PRO_PRICES),
        ),
        typical_seconds=(10, 10),
        poll_after=5,
    ),
)
