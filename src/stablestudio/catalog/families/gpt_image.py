"""GPT Image: OpenAI's image models."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from stablestudio.catalog.fields import LINK_HELP, ImageLink, Prompt
from stablestudio.catalog.inputs import ImageInput, MediaField, rule
from stablestudio.catalog.issues import conflict
from stablestudio.catalog.offering import Model, Operation
from stablestudio.catalog.sizes import pixels
from stablestudio.catalog.values import ImageOutput, Kind, Lifecycle, LifecycleState
from stablestudio.errors import Issue

Images = Annotated[tuple[ImageLink, ...], Field(min_length=1, max_length=16, description=f"1-16 images: {LINK_HELP}.")]

_NO_IMAGES = {"images": "this route takes text alone; send images to the edit route of this model"}


class _GptImage(ImageInput):
    auto_size: ClassVar[str] = "1024x1024"
    """The size that `auto` is priced as."""
    priced_by = ("quality", "size")

    prompt: Prompt
    quality: Literal["low", "medium", "high"] = Field(
        default="high", description="Effort of the model; sets the price."
    )
    size: Literal["1024x1024", "1536x1024", "1024x1536", "auto"] = Field(
        default="1024x1024", description="Pixels; `auto` leaves the shape to the model at a fixed price."
    )
    background: str
    output_format: Literal["png", "jpeg", "webp"] = Field(default="png", description="File format of the result.")
    moderation: Literal["low", "auto"] = Field(default="auto", description="How strict the vendor's filter is.")

    def cell(self) -> str:
        size = self.auto_size if self.size == "auto" else self.size
        return f"{self.quality}/square" if size == "1024x1024" else f"{self.quality}/other"

    def output(self) -> ImageOutput:
        width, height = pixels(self.auto_size if self.size == "auto" else self.size)
        transparent = self.background == "transparent"
        return ImageOutput(width=width, height=height, format=self.output_format, transparent=transparent)


class GptImage2Generate(_GptImage):
    """Make an image from text."""

    example: ClassVar[dict[str, Any]] = {
        "prompt": "A cat in a spacesuit on Mars, photorealistic",
        "quality": "medium",
        "size": "1536x1024",
    }
    elsewhere = _NO_IMAGES

    background: Literal["opaque", "auto"] = Field(default="auto", description="What is behind the subject.")


class GptImage2Edit(GptImage2Generate):
    """Make an image from text and 1-16 images."""

    example: ClassVar[dict[str, Any]] = {
        "prompt": "Give the cat a red helmet",
        "images": ["https://example.com/cat.png"],
        "quality": "low",
    }
    media_fields = (MediaField("images", "image", "reference"),)
    elsewhere: ClassVar[dict[str, str]] = {"input_fidelity": "only gpt-image-1.5 and gpt-image-1 take it; leave it out"}

    images: Images


@rule("background", "output_format")
def transparency_needs_alpha(value: GptImage1Generate) -> Iterator[Issue]:
    """A transparent background needs output_format png or webp."""
    if value.background == "transparent" and value.output_format == "jpeg":
        yield conflict(
            ("output_format",), "a transparent background needs png or webp, jpeg has none", allowed=("png", "webp")
        )


class GptImage1Generate(_GptImage):
    """Make an image from text, on a transparent background if wanted."""

    example: ClassVar[dict[str, Any]] = {
        "prompt": "A cat in a spacesuit on Mars, photorealistic",
        "quality": "high",
        "size": "1024x1024",
        "background": "opaque",
        "output_format": "png",
        "moderation": "auto",
    }
    auto_size = "1536x1024"
    rules = (transparency_needs_alpha,)
    elsewhere = _NO_IMAGES

    background: Literal["transparent", "opaque", "auto"] = Field(
        default="auto", description="What is behind the subject; `transparent` needs png or webp."
    )


class GptImage1Edit(GptImage1Generate):
    """Make an image from text and 1-16 images, on a transparent background if wanted."""

    example: ClassVar[dict[str, Any]] = {
        "prompt": "Cut out the cat",
        "images": ["https://example.com/cat.png"],
        "background": "transparent",
        "input_fidelity": "high",
    }
    media_fields = (MediaField("images", "image", "reference"),)
    elsewhere: ClassVar[dict[str, str]] = {}

    input_fidelity: Literal["high", "low"] = Field(default="low", description="How closely to keep to the images.")
    images: Images


_PRICES_2 = {
    "low/square": "0.006",
    "low/other": "0.005",
    "medium/square": "0.053",
    "medium/other": "0.041",
    "high/square": "0.21",
    "high/other": "0.165",
}
_PRICES_1 = {
    "low/square": "0.009",
    "low/other": "0.013",
    "medium/square": "0.034",
    "medium/other": "0.05",
    "high/square": "0.133",
    "high/other": "0.20",
}
_OPERATIONS_1 = (
    Operation(name="generate", input=GptImage1Generate, prices=_PRICES_1),
    Operation(name="edit", input=GptImage1Edit, prices=_PRICES_1),
)

MODELS = (
    Model(
        name="gpt-image-2",
        title="GPT Image 2",
        kind=Kind.IMAGE,
        operations=(
            Operation(name="generate", input=GptImage2Generate, prices=_PRICES_2),
            Operation(name="edit", input=GptImage2Edit, prices=_PRICES_2),
        ),
        typical_seconds=(60, 180),
        poll_after=10,
    ),
    Model(
        name="gpt-image-1.5",
        title="GPT Image 1.5",
        kind=Kind.IMAGE,
        operations=_OPERATIONS_1,
        typical_seconds=(3, 3),
        poll_after=10,
        lifecycle=Lifecycle(state=LifecycleState.DEPRECATED, ends=date(2026, 12, 1), successor="gpt-image-2"),
    ),
    Model(
        name="gpt-image-1",
        title="GPT Image 1",
        kind=Kind.IMAGE,
        operations=_OPERATIONS_1,
        typical_seconds=(3, 3),
        poll_after=10,
        lifecycle=Lifecycle(state=LifecycleState.RETIRED, ends=date(2026, 10, 23), successor="gpt-image-2"),
    ),
)
