"""The catalog's small values: what an offering is, what it makes, and which media an input points to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Literal

MediaKind = Literal["image", "video", "audio"]
Role = Literal["reference", "first_frame", "last_frame", "soundtrack"]
ImageFormat = Literal["png", "jpeg", "webp"]


class Kind(StrEnum):
    """What a buyer gets for the money."""

    IMAGE = "image"
    VIDEO = "video"
    UPLOAD = "upload"


class LifecycleState(StrEnum):
    """Where the model's vendor is with it."""

    LIVE = "live"
    DEPRECATED = "deprecated"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifecycle:
    """The vendor's plans for a model; another provider, or the sandbox, may serve a retired one.

    `ends` is the day of the vendor's switch-off where one is announced; `successor` is a model of this catalog.
    """

    state: LifecycleState = LifecycleState.LIVE
    ends: date | None = None
    successor: str | None = None


LIVE = Lifecycle()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOutput:
    """The image that an input asks for: pixels, `quality` 0-100 where the buyer chose one.

    Where a buyer leaves the shape to the model (no ratio, size `auto`), this is the shape it is priced or made at by default.
    """

    width: int
    height: int
    format: ImageFormat = "png"
    quality: int | None = None
    transparent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoOutput:
    """The clip that an input asks for: pixels and whole seconds."""

    width: int
    height: int
    seconds: int
    audio: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaInput:
    """One file that an input points to; `path` is its place in the input, `url` an http(s) URL, `data:` URI or `job:` id."""

    path: tuple[str | int, ...]
    kind: MediaKind
    url: str
    role: Role
