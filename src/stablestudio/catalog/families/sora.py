"""Sora 2: OpenAI's video models, which their vendor has ended; compatible servers still speak their protocol."""
# ruff: noqa: N815 - fields have the wire's own names

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from stablestudio.catalog.fields import LINK_HELP, ImageLink, Numeral, Prompt
from stablestudio.catalog.inputs import MediaField, VideoInput
from stablestudio.catalog.issues import conflict
from stablestudio.catalog.limits import Measured
from stablestudio.catalog.offering import Model, Operation
from stablestudio.catalog.sizes import pixels
from stablestudio.catalog.values import Kind, Lifecycle, LifecycleState, VideoOutput
from stablestudio.errors import Issue

_RETIRED = Lifecycle(state=LifecycleState.RETIRED, ends=date(2026, 9, 24), successor="veo-3.1")


class _Sora(VideoInput):
    seconds_field = "seconds"
    media_fields = (MediaField("input_reference", "image", "first_frame"),)

    prompt: Prompt
    seconds: Annotated[Literal["4", "8", "12"], Numeral()] = Field(
        default="4", description="Length; each second is priced."
    )
    size: str
    input_reference: ImageLink | None = Field(default=None, description=f"First frame: {LINK_HELP}.")
    autoCrop: bool = Field(
        default=True, description="Crop and scale the first frame to `size`; without it, the frame must have that size."
    )

    def output(self) -> VideoOutput:
        width, height = pixels(self.size)
        return VideoOutput(width=width, height=height, seconds=self.units(), audio=True)

    def misfits(self, files: Sequence[Measured]) -> Iterator[Issue]:
        for file in files:
            if not self.autoCrop and (file.width, file.height) != pixels(self.size):
                told = f"it has {file.width}x{file.height} pixels, not {self.size}: scale it, or leave autoCrop on"
                yield conflict(file.media.path, told)


class Sora(_Sora):
    """Make a clip with sound from text, starting from an image if one is given."""

    example: ClassVar[dict[str, Any]] = {
        "size": "1280x720",
        "prompt": "A golden retriever running on a beach at sunset, cinematic lighting",
        "seconds": "8",
        "autoCrop": True,
        "input_reference": "https://example.com/dog.png",
    }
    priced_by = ("seconds",)

    size: Literal["1280x720", "720x1280"] = Field(default="1280x720", description="Pixels.")


class SoraPro(_Sora):
    """Make a clip with sound from text, starting from an image if one is given, in up to 1792x1024 pixels."""

    example: ClassVar[dict[str, Any]] = {
        "size": "1792x1024",
        "prompt": "A golden retriever running on a beach at sunset, cinematic lighting",
        "seconds": "8",
        "autoCrop": True,
    }
    priced_by = ("seconds", "size")

    size: Literal["1280x720", "720x1280", "1792x1024", "1024x1792"] = Field(
        default="1280x720", description="Pixels; the 720p and the 1024p sizes have their own prices."
    )

    def cell(self) -> str:
        return "1024p" if "1024" in self.size else "720p"


MODELS = (
    Model(
        name="sora-2",
        title="Sora 2",
        kind=Kind.VIDEO,
        operations=(Operation(name="generate", input=Sora, prices={"second": "0.10"}),),
        typical_seconds=(60, 180),
        poll_after=15,
        lifecycle=_RETIRED,
    ),
    Model(
        name="sora-2-pro",
        title="Sora 2 Pro",
        kind=Kind.VIDEO,
        operations=(Operation(name="generate", input=SoraPro, prices={"720p": "0.30", "1024p": "0.50"}),),
        typical_seconds=(120, 300),
        poll_after=15,
        lifecycle=_RETIRED,
    ),
)
