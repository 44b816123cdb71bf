"""Wan 2.6: Alibaba's video model."""
# ruff: noqa: N815 - fields have the wire's own names

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from stablestudio.catalog.fields import LINK_HELP, AudioLink, ImageLink, Numeral
from stablestudio.catalog.inputs import MediaField, VideoInput, rule
from stablestudio.catalog.issues import conflict
from stablestudio.catalog.limits import FileLimit
from stablestudio.catalog.offering import Model, Operation
from stablestudio.catalog.sizes import pixels
from stablestudio.catalog.values import Kind, VideoOutput
from stablestudio.errors import Issue

_SIZES = {
    "1280*720": ("720p", "16:9"),
    "720*1280": ("720p", "9:16"),
    "1920*1080": ("1080p", "16:9"),
    "1080*1920": ("1080p", "9:16"),
}
# From Model Studio's reference of the video models; larger pictures are made smaller on the way.
_FILE_LIMITS = (FileLimit(kind="audio", seconds=(3, 30)), FileLimit(kind="image", side=360))
_LARGEST_SEED = 2**31 - 1


@rule("multiShots", "enablePromptExpansion")
def shots_need_expansion(value: _Wan) -> Iterator[Issue]:
    """`multiShots` works only with enablePromptExpansion."""
    if value.multiShots and not value.enablePromptExpansion:
        yield conflict(("multiShots",), "several shots need enablePromptExpansion true", allowed=(False,))


class _Wan(VideoInput):
    rules = (shots_need_expansion,)
    file_limits = _FILE_LIMITS

    prompt: Annotated[
        str,
        Field(
            min_length=1, max_length=1500, pattern=r"\S", description="What to show, in words; 1 to 1,500 characters."
        ),
    ]
    duration: Annotated[Literal["5", "10", "15"], Numeral()] = Field(
        default="5", description="Seconds; each second is priced."
    )
    negativePrompt: str | None = Field(default=None, max_length=500, description="What to avoid, in words.")
    enablePromptExpansion: bool = Field(default=True, description="Let the model rewrite the prompt first.")
    multiShots: bool = Field(default=False, description="Cut between several shots; needs enablePromptExpansion.")
    audioUrl: AudioLink | None = Field(default=None, description=f"Sound to follow, mp3 or wav of 3-30 s: {LINK_HELP}.")
    seed: int | None = Field(default=None, ge=0, le=_LARGEST_SEED, description="Equal seeds give similar clips.")

    def seed_value(self) -> int | None:
        return self.seed


class WanT2V(_Wan):
    """Make a clip with sound from text."""

    example: ClassVar[dict[str, Any]] = {
        "prompt": "A paper boat crosses a flooded street",
        "duration": "5",
        "size": "1280*720",
    }
    priced_by = ("duration", "size")
    media_fields = (MediaField("audioUrl", "audio", "soundtrack"),)
    elsewhere: ClassVar[dict[str, str]] = {
        "image": "this route takes text alone; send an image to the i2v route of this model"
    }

    size: Literal["1280*720", "720*1280", "1920*1080", "1080*1920"] = Field(
        default="1280*720", description="Pixels; 720p and 1080p have their own prices."
    )

    def cell(self) -> str:
        return _SIZES[self.size][0]

    def shape(self) -> str:
        """Return the aspect ratio."""
        return _SIZES[self.size][1]

    def output(self) -> VideoOutput:
        width, height = pixels(self.size)
        return VideoOutput(width=width, height=height, seconds=self.units(), audio=True)


class WanI2V(_Wan):
    """Make a clip with sound from text and a first frame."""

    example: ClassVar[dict[str, Any]] = {
        "prompt": "The boat drifts off, slowly",
        "image": "https://example.com/boat.png",
        "duration": "5",
        "resolution": "720p",
    }
    priced_by = ("duration", "resolution")
    media_fields = (MediaField("image", "image", "first_frame"), MediaField("audioUrl", "audio", "soundtrack"))

    image: Annotated[ImageLink, Field(description=f"First frame, which gives the clip its shape: {LINK_HELP}.")]
    resolution: Literal["720p", "1080p"] = Field(default="720p", description="Tier of the clip; sets the price.")

    def cell(self) -> str:
        return self.resolution

    def output(self) -> VideoOutput:
        width, height = (1280, 720) if self.resolution == "720p" else (1920, 1080)
        return VideoOutput(width=width, height=height, seconds=self.units(), audio=True)


_PRICES = {"720p": "0.10", "1080p": "0.15"}

MODELS = (
    Model(
        name="wan-2.6",
        title="Wan 2.6",
        kind=Kind.VIDEO,
        operations=(
            Operation(name="t2v", input=WanT2V, prices=_PRICES),
            Operation(name="i2v", input=WanI2V, prices=_PRICES),
        ),
        typical_seconds=(120, 300),
        poll_after=15,
    ),
)
