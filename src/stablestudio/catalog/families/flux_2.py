"""FLUX.2: Black Forest Labs' image models."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from stablestudio.catalog.fields import LINK_HELP, ImageLink, Prompt
from stablestudio.catalog.inputs import ImageInput, MediaField
from stablestudio.catalog.offering import Model, Operation
from stablestudio.catalog.sizes import MEGAPIXEL, of_area
from stablestudio.catalog.values import ImageFormat, ImageOutput, Kind

Ratio = Literal["1:1", "16:9", "9:16", "3:2", "2:3", "4:5", "5:4", "4:3", "3:4"]
ProResolution = Literal["0.5 MP", "1 MP", "2 MP"]
MaxResolution = Literal["0.5 MP", "1 MP", "2 MP", "4 MP"]

_NO_IMAGES = {"images": "this route takes text alone; send images to the edit route of this model"}
_PIXELS = {"0.5 MP": MEGAPIXEL // 2, "1 MP": MEGAPIXEL, "2 MP": 2 * MEGAPIXEL, "4 MP": 4 * MEGAPIXEL}
_FORMATS: dict[str, ImageFormat] = {"webp": "webp", "jpg": "jpeg", "png": "png"}
_DEFAULT_QUALITY = 80


def _size(*, ratio: str | None, resolution: str) -> tuple[int, int]:
    return of_area(ratio or "1:1", _PIXELS[resolution], most=4 * MEGAPIXEL)


class _Generate(ImageInput):
    priced_by = ("resolution",)
    elsewhere = _NO_IMAGES

    prompt: Prompt
    aspect_ratio: Ratio = Field(default="1:1", description="Shape of the image.")
    resolution: str
    output_format: Literal["webp", "jpg", "png"] = Field(default="webp", description="File format of the result.")
    output_quality: int = Field(
        default=_DEFAULT_QUALITY, ge=0, le=100, description="Quality of webp and jpg files, 0-100; png ignores it."
    )
    safety_tolerance: int = Field(default=2, ge=0, le=5, description="How much the vendor's filter lets by, 0-5.")
    prompt_upsampling: bool = Field(default=False, description="Let the model rewrite the prompt first.")

    def cell(self) -> str:
        return self.resolution

    def output(self) -> ImageOutput:
        width, height = _size(ratio=self.aspect_ratio, resolution=self.resolution)
        quality = None if self.output_format == "png" else self.output_quality
        return ImageOutput(width=width, height=height, format=_FORMATS[self.output_format], quality=quality)


class _Edit(ImageInput):
    priced_by = ("resolution",)
    media_fields = (MediaField("images", "image", "reference"),)
    elsewhere = dict.fromkeys(
        ("output_format", "output_quality", "safety_tolerance", "prompt_upsampling"),
        "only the generate route of this model takes it; leave it out",
    )

    prompt: Prompt
    aspect_ratio: Ratio | None = Field(default=None, description="Shape of the image; the first image's where omitted.")
    resolution: str

    def cell(self) -> str:
        return self.resolution

    def output(self) -> ImageOutput:
        width, height = _size(ratio=self.aspect_ratio, resolution=self.resolution)
        return ImageOutput(width=width, height=height, format="webp", quality=_DEFAULT_QUALITY)


class FluxProGenerate(_Generate):
    """Make an image from text."""

    example: ClassVar[dict[str, Any]] = {
        "prompt": "A lighthouse in a storm, linocut",
        "aspect_ratio": "3:2",
        "resolution": "1 MP",
    }

    resolution: ProResolution = Field(default="1 MP", description="Megapixels; sets the price.")


class FluxProEdit(_Edit):
    """Make an image from text and 1-8 images."""

    example: ClassVar[dict[str, Any]] = {
        "prompt": "The same lighthouse at dawn",
        "images": ["https://example.com/lighthouse.webp"],
    }

    resolution: ProResolution = Field(default="1 MP", description="Megapixels; sets the price.")
    images: Annotated[tuple[ImageLink, ...], Field(min_length=1, max_length=8, description=f"1-8 images: {LINK_HELP}.")]


class FluxMaxGenerate(_Generate):
    """Make an image from text, up to 4 megapixels."""

    example: ClassVar[dict[str, Any]] = {
        "prompt": "A lighthouse in a storm, oil on canvas",
        "aspect_ratio": "1:1",
        "resolution": "4 MP",
    }

    resolution: MaxResolution = Field(default="1 MP", description="Megapixels; sets the price.")


class FluxMaxEdit(_Edit):
    """Make an image from text and 1-10 images, up to 4 megapixels."""

    example: ClassVar[dict[str, Any]] = {
        "prompt": "Both boats in one harbour",
        "images": ["https://example.com/a.png", "https://example.com/b.png"],
    }

    resolution: MaxResolution = Field(default="1 MP", description="Megapixels; sets the price.")
    images: Annotated[
        tuple[ImageLink, ...], Field(min_length=1, max_length=10, description=f"1-10 images: {LINK_HELP}.")
    ]


_MAX_PRICES = {"0.5 MP": "0.04", "1 MP": "0.07", "2 MP": "0.10", "4 MP": "0.17"}

MODELS = (
    Model(
        name="flux-2-pro",
        title="FLUX.2 Pro",
        kind=Kind.IMAGE,
        operations=(
            Operation(
                name="generate", input=FluxProGenerate, prices={"0.5 MP": "0.02", "1 MP": "0.03", "2 MP": "0.04"}
            ),
            Operation(name="edit", input=FluxProEdit, prices={"0.5 MP": "0.03", "1 MP": "0.045", "2 MP": "0.06"}),
        ),
        typical_seconds=(5, 5),
        poll_after=5,
    ),
    Model(
        name="flux-2-max",
        title="FLUX.2 Max",
        kind=Kind.IMAGE,
        operations=(
            Operation(name="generate", input=FluxMaxGenerate, prices=_MAX_PRICES),
            Operation(name="edit", input=FluxMaxEdit, prices=_MAX_PRICES),
        ),
        typical_seconds=(8, 8),
        poll_after=5,
    ),
)
