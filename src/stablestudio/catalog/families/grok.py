"""Grok Imagine: xAI's image and video models."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from stablestudio.catalog.fields import LINK_HELP, ImageLink, Numeral, Prompt
from stablestudio.catalog.inputs import ImageInput, MediaField, VideoInput
from stablestudio.catalog.offering import Model, Operation
from stablestudio.catalog.sizes import MEGAPIXEL, of_area, of_short_side
from stablestudio.catalog.values import ImageOutput, Kind, VideoOutput

Ratio = Literal["1:1", "16:9", "9:16", "4:3", "3:4", "3:2", "2:3", "2:1", "1:2", "19.5:9", "9:19.5", "20:9", "9:20"]
VideoRatio = Literal["1:1", "16:9", "9:16", "4:3", "3:4", "3:2", "2:3"]


def _output(ratio: str | None) -> ImageOutput:
    width, height = of_area(ratio or "1:1", MEGAPIXEL, most=MEGAPIXEL + MEGAPIXEL // 16)
    return ImageOutput(width=width, height=height, format="jpeg")


class GrokGenerate(ImageInput):
    """Make an image from text, also in very wide and very tall shapes."""

    example: ClassVar[dict[str, Any]] = {"prompt": "A tram crossing a bridge at blue hour", "aspect_ratio": "20:9"}
    elsewhere: ClassVar[dict[str, str]] = {
        "images": "this route takes text alone; send images to the edit route of this model"
    }

    prompt: Prompt
    aspect_ratio: Ratio = Field(default="1:1", description="Shape of the image.")

    def output(self) -> ImageOutput:
        return _output(self.aspect_ratio)


class GrokEdit(ImageInput):
    """Make an image from text and 1-3 images."""

    example: ClassVar[dict[str, Any]] = {"prompt": "Add snow", "images": ["https://example.com/tram.jpg"]}
    media_fields = (MediaField("images", "image", "reference"),)

    prompt: Prompt
    aspect_ratio: Ratio | None = Field(default=None, description="Shape of the image; the first image's where omitted.")
    images: Annotated[tuple[ImageLink, ...], Field(min_length=1, max_length=3, description=f"1-3 images: {LINK_HELP}.")]

    def output(self) -> ImageOutput:
        return _output(self.aspect_ratio)


class GrokVideo(VideoInput):
    """Make a clip with sound from text, starting from an image if one is given."""

    example: ClassVar[dict[str, Any]] = {
        "prompt": "The tram rolls on, the camera follows",
        "duration": "6",
        "resolution": "720p",
    }
    priced_by = ("duration",)
    media_fields = (MediaField("image", "image", "first_frame"),)

    prompt: Prompt
    duration: Annotated[Literal["3", "6", "9", "12", "15"], Numeral()] = Field(
        default="6", description="Seconds; each second is priced."
    )
    resolution: Literal["480p", "720p"] = Field(default="720p", description="Height of a landscape clip.")
    aspect_ratio: VideoRatio | None = Field(
        default=None, description="Shape of the clip; where omitted the image's, or 16:9 without one."
    )
    image: ImageLink | None = Field(default=None, description=f"First frame: {LINK_HELP}.")

    def output(self) -> VideoOutput:
        width, height = of_short_side(self.aspect_ratio or "16:9", int(self.resolution[:-1]))
        return VideoOutput(width=width, height=height, seconds=self.units(), audio=True)


MODELS = (
    Model(
        name="grok",
        title="Grok Imagine",
        kind=Kind.IMAGE,
        operations=(
            Operation(name="generate", input=GrokGenerate, prices={"each": "0.07"}),
            Operation(name="edit", input=GrokEdit, prices={"each": "0.022"}),
        ),
        typical_seconds=(3, 3),
        poll_after=5,
    ),
    Model(
        name="grok-video",
        title="Grok Imagine Video",
        kind=Kind.VIDEO,
        operations=(Operation(name="generate", input=GrokVideo, prices={"second": "0.05"}),),
        typical_seconds=(17, 17),
        poll_after=15,
    ),
)
