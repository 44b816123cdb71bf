"""Veo 3.1: Google's video models."""
# ruff: noqa: N815 - fields have the wire's own names

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from stablestudio.catalog.fields import LINK_HELP, ImageLink, Numeral, Prompt
from stablestudio.catalog.inputs import MediaField, VideoInput, rule
from stablestudio.catalog.issues import conflict, missing
from stablestudio.catalog.offering import Model, Operation
from stablestudio.catalog.sizes import of_short_side
from stablestudio.catalog.values import Kind, VideoOutput
from stablestudio.errors import Issue

Mode = Literal["none", "first-frame", "reference", "interpolation"]

_TAKEN: dict[Mode, tuple[str, ...]] = {
    "none": (),
    "first-frame": ("image",),
    "interpolation": ("image", "lastFrame"),
    "reference": ("referenceImages",),
}
"""The image fields that each mode needs; it takes no others."""


@rule("durationSeconds", "resolution", "lastFrame", "referenceImages")
def long_clips_only(value: Veo) -> Iterator[Issue]:
    """`resolution` 1080p, lastFrame and referenceImages need durationSeconds 8."""
    if value.durationSeconds == "8":
        return
    causes = [("resolution 1080p", value.resolution == "1080p"), *((name, name in value.given) for name in _LONG)]
    if named := [name for name, applies in causes if applies]:
        yield conflict(
            ("durationSeconds",),
            f"{' and '.join(named)} {'need' if len(named) > 1 else 'needs'} 8 seconds",
            allowed=("8",),
        )


@rule("imageMode", "image", "lastFrame", "referenceImages")
def images_fit_mode(value: Veo) -> Iterator[Issue]:
    """`image` starts a clip, `image` and `lastFrame` frame it, `referenceImages` guide its style; these do not mix."""
    mode = value.mode
    for name in value.given:
        if name not in _TAKEN[mode]:
            yield conflict((name,), f"imageMode {mode!r} does not take it{_who_takes(name)}")
    for name in _TAKEN[mode]:
        if name not in value.given:
            yield missing(name, f"imageMode {mode!r} needs it")


class Veo(VideoInput):
    """Make a clip with sound from text, and from frames or reference images if given."""

    example: ClassVar[dict[str, Any]] = {
        "prompt": "Waves under a pier, slow dolly in",
        "durationSeconds": "8",
        "resolution": "1080p",
        "aspectRatio": "16:9",
    }
    seconds_field = "durationSeconds"
    priced_by = ("durationSeconds",)
    rules = (long_clips_only, images_fit_mode)
    media_fields = (
        MediaField("image", "image", "first_frame"),
        MediaField("lastFrame", "image", "last_frame"),
        MediaField("referenceImages", "image", "reference"),
    )

    prompt: Prompt
    durationSeconds: Annotated[Literal["4", "6", "8"], Numeral()] = Field(
        default="8", description="Seconds; each second is priced. 1080p, lastFrame and referenceImages need 8."
    )
    resolution: Literal["720p", "1080p"] = Field(default="720p", description="Tier of the clip.")
    aspectRatio: Literal["16:9", "9:16"] = Field(default="16:9", description="Shape of the clip.")
    negativePrompt: str | None = Field(default=None, max_length=32_000, description="What to avoid, in words.")
    imageMode: Mode | None = Field(
        default=None,
        description="How the images are used; follows from the images where omitted. interpolation needs image and lastFrame.",
    )
    image: ImageLink | None = Field(default=None, description=f"First frame: {LINK_HELP}.")
    lastFrame: ImageLink | None = Field(default=None, description=f"Last frame, beside image: {LINK_HELP}.")
    referenceImages: Annotated[tuple[ImageLink, ...], Field(max_length=3)] | None = Field(
        default=None, description=f"Up to 3 images for style, without frames: {LINK_HELP}."
    )

    @property
    def given(self) -> tuple[str, ...]:
        """The image fields that are filled."""
        return tuple(name for name in ("image", "lastFrame", "referenceImages") if getattr(self, name))

    @property
    def mode(self) -> Mode:
        """The image mode asked for, or the one that the images imply."""
        if self.imageMode is not None:
            return self.imageMode
        if self.lastFrame is not None:
            return "interpolation"
        if self.image is not None:
            return "first-frame"
        return "reference" if self.referenceImages else "none"

    def output(self) -> VideoOutput:
        width, height = of_short_side(self.aspectRatio, int(self.resolution[:-1]))
        return VideoOutput(width=width, height=height, seconds=self.units(), audio=True)


_LONG = ("lastFrame", "referenceImages")


def _who_takes(name: str) -> str:
    modes = [repr(mode) for mode, names in _TAKEN.items() if name in names]
    return f"; {' and '.join(modes)} {'do' if len(modes) > 1 else 'does'}"


MODELS = (
    Model(
        name="veo-3.1",
        title="Veo 3.1",
        kind=Kind.VIDEO,
        operations=(Operation(name="generate", input=Veo, prices={"second": "0.40"}),),
        typical_seconds=(60, 120),
        poll_after=15,
    ),
    Model(
        name="veo-3.1-fast",
        title="Veo 3.1 Fast",
        kind=Kind.VIDEO,
        operations=(Operation(name="generate", input=Veo, prices={"second": "0.25"}),),
        typical_seconds=(30, 30),
        poll_after=15,
    ),
)
