"""Seedance 2: ByteDance's video models, in today's form and in the older form of image-to-video."""
# ruff: noqa: N815 - fields have the wire's own names

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from stablestudio.catalog.fields import LINK_HELP, AudioLink, CallbackUrl, ImageLink, Numeral, Prompt, VisualLink
from stablestudio.catalog.inputs import VideoInput, rule
from stablestudio.catalog.issues import conflict, missing, not_allowed, too_many
from stablestudio.catalog.limits import FileLimit
from stablestudio.catalog.links import kind_of, tells_kind
from stablestudio.catalog.offering import Model, Operation
from stablestudio.catalog.sizes import pixels
from stablestudio.catalog.values import Kind, MediaInput, MediaKind, Role, VideoOutput
from stablestudio.errors import Issue

Seconds = Annotated[Literal["4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15"], Numeral()]
Ratio = Literal["16:9", "9:16", "1:1", "4:3", "3:4", "21:9"]
Tier = Literal["480p", "720p", "1080p"]
FastTier = Literal["480p", "720p"]
Pixels = Literal["720x720", "720x960", "960x720", "1280x720", "720x1280", "1280x540"]

_SHAPES = {
    "720x720": "1:1",
    "720x960": "3:4",
    "960x720": "4:3",
    "1280x720": "16:9",
    "720x1280": "9:16",
    "1280x540": "21:9",
}
# From ModelArk's video generation reference; upright sizes are these on their side.
_SIZES = {
    "480p": {"16:9": (864, 496), "4:3": (752, 560), "1:1": (640, 640), "21:9": (992, 432)},
    "720p": {"16:9": (1280, 720), "4:3": (1112, 834), "1:1": (960, 960), "21:9": (1470, 630)},
    "1080p": {"16:9": (1920, 1080), "4:3": (1664, 1248), "1:1": (1440, 1440), "21:9": (2206, 946)},
    "4k": {"16:9": (3840, 2160), "4:3": (3326, 2494), "1:1": (2880, 2880), "21:9": (4398, 1886)},
}
_ON_SIDE = {"9:16": "16:9", "3:4": "4:3"}

# As ModelArk's guide and its resellers' have it; larger pictures are made smaller on the way.
_FILE_LIMITS = (
    FileLimit(kind="image", side=300, ratio=(0.4, 2.5)),
    FileLimit(kind="video", side=300, ratio=(0.4, 2.5), seconds=(2, 15), together=15),
    FileLimit(kind="audio", seconds=(2, 15), together=15),
)
_MOST: dict[MediaKind, int] = {"image": 9, "video": 3, "audio": 3}
MENTION = re.compile(r"@(?<![\w@]@)(image|video|audio)(\d{1,9})", re.IGNORECASE)
"""A reference in a prompt, such as `@image1`: its kind and its number."""

_OLDER = {
    "image": "give it in urls",
    "last_image": "give it second in urls",
    "aspect_ratio": "use aspectRatio",
    "camera_fixed": "leave it out",
    "generate_audio": "leave it out",
    "seed": "leave it out",
}
"""Fields of the older form, and what takes their place today."""
_CURRENT = ("aspectRatio", "outputResolution", "upscaleResolution", "mode", "urls", "urlMediaTypes", "audioUrls")
_TIERS = ("480p", "720p", "1080p")
_LONGEST_OLDER = 12
_LARGEST_SEED = 2**31 - 1


@rule("resolution", "aspectRatio", "outputResolution")
def pixels_fix_the_shape(value: _Seedance) -> Iterator[Issue]:
    """`resolution` in pixels makes a 720p clip of that shape; aspectRatio and outputResolution must agree."""
    shape = _SHAPES.get(value.resolution or "")
    if shape is None:
        return
    for name, fitting in (("aspectRatio", shape), ("outputResolution", "720p")):
        if name in value.model_fields_set and getattr(value, name) != fitting:
            yield conflict((name,), f"resolution {value.resolution} makes it {fitting}", allowed=(fitting,))


class _Seedance(VideoInput):
    priced_by: ClassVar[tuple[str, ...]] = ("duration", "outputResolution")

    prompt: str | None
    duration: Seconds = Field(default="5", description="Seconds, 4-15; each second is priced.")
    aspectRatio: str
    outputResolution: str
    resolution: str | None
    callBackUrl: CallbackUrl | None = Field(default=None, description="https URL that is called when the job ends.")

    def cell(self) -> str:
        return self.outputResolution

    def shape(self) -> str:
        """Return the aspect ratio; 16:9 stands for a shape that follows the first image."""
        ratio = _SHAPES.get(self.resolution or "", self.aspectRatio)
        return "16:9" if ratio == "adaptive" else ratio

    def audible(self) -> bool:
        return True

    def callback(self) -> str | None:
        return self.callBackUrl

    def output(self) -> VideoOutput:
        tier = self.cell()
        exact = self.resolution in _SHAPES and tier == "720p"
        width, height = pixels(self.resolution or "") if exact else _size(tier=tier, ratio=self.shape())
        return VideoOutput(width=width, height=height, seconds=self.units(), audio=self.audible())


class _T2V(_Seedance):
    rules = (pixels_fix_the_shape,)
    elsewhere = dict.fromkeys(
        ("image", "last_image", "urls", "urlMediaTypes", "audioUrls", "mode"),
        "this route takes text alone; send media to the i2v route of this model",
    )

    prompt: Prompt
    aspectRatio: Ratio = Field(default="16:9", description="Shape of the clip.")
    resolution: Pixels | None = Field(default=None, description="Exact pixels of a 720p clip, in place of aspectRatio.")


_NO_4K = {"upscaleResolution": "seedance-fast makes no 4k; seedance does"}


class SeedanceFastT2V(_T2V):
    """Make a clip with sound from text, sooner and for less."""

    example: ClassVar[dict[str, Any]] = {
        "prompt": "Rain on a tin roof, macro",
        "duration": "5",
        "aspectRatio": "16:9",
        "outputResolution": "480p",
    }
    elsewhere = _T2V.elsewhere | _NO_4K

    outputResolution: FastTier = Field(default="720p", description="Tier; sets the price.")


class SeedanceT2V(_T2V):
    """Make a clip with sound from text."""

    example: ClassVar[dict[str, Any]] = {
        "prompt": "A glass city folds open like a book",
        "duration": "5",
        "aspectRatio": "16:9",
        "outputResolution": "720p",
    }
    priced_by = ("duration", "outputResolution", "upscaleResolution")

    outputResolution: Tier = Field(default="720p", description="Tier; sets the price.")
    upscaleResolution: Literal["4k"] | None = Field(default=None, description="Deliver in 4k, at its own price.")

    def cell(self) -> str:
        return self.upscaleResolution or self.outputResolution


@rule(*_OLDER, *_CURRENT, "resolution")
def one_form(value: _I2V) -> Iterator[Issue]:
    """Fields of the older form (image, last_image, aspect_ratio, camera_fixed, generate_audio, seed) stand alone."""
    if value.form == "mixed":
        today = " and ".join(value.current_fields)
        for name in value.older_fields:
            advice = _OLDER.get(name, "use outputResolution")
            yield Issue((name,), "mixed_forms", f"{name!r} is of the older form and does not go with {today}: {advice}")


@rule(*_OLDER, "resolution", "urls", "audioUrls")
def something_to_animate(value: _I2V) -> Iterator[Issue]:
    """`urls` holds the images or videos to start from; in the older form, image does. Audio is never alone."""
    if value.form == "older" and value.image is None:
        yield missing("image", f"the older form, which {' and '.join(value.older_fields)} belongs to, starts from it")
    if value.form == "current" and not value.urls:
        alone = "; audioUrls alone is not enough" if value.audioUrls else ""
        yield missing("urls", f"1-2 images in mode 'keyframe', images and videos in mode 'reference'{alone}")


@rule(*_OLDER, "resolution", "duration")
def older_form_is_shorter(value: _I2V) -> Iterator[Issue]:
    """The older form makes 4-12 seconds."""
    if value.form == "older" and value.units() > _LONGEST_OLDER:
        yield not_allowed(("duration",), tuple(str(each) for each in range(4, _LONGEST_OLDER + 1)))


@rule("urls", "urlMediaTypes")
def types_align_with_urls(value: _I2V) -> Iterator[Issue]:
    """`urlMediaTypes` has one entry for each entry of urls, and fits the data: URIs among them."""
    if value.urlMediaTypes is None:
        return
    urls = value.urls or ()
    if len(value.urlMediaTypes) != len(urls):
        message = f"'urlMediaTypes' has {len(value.urlMediaTypes)} entries for {len(urls)} urls; it needs one for each"
        yield Issue(("urlMediaTypes",), "misaligned", message)
        return
    for index, (url, kind) in enumerate(zip(urls, value.urlMediaTypes, strict=True)):
        if url.startswith("data:") and kind_of(url) != kind:
            yield conflict(
                ("urlMediaTypes", index), f"the data: URI is of kind {kind_of(url)}", allowed=(kind_of(url),)
            )


@rule("mode", "urls", "urlMediaTypes", "audioUrls")
def media_fit_the_mode(value: _I2V) -> Iterator[Issue]:
    """Mode keyframe takes 1-2 images, the first and the last frame; mode reference at most 9 images, 3 videos, 3 audio files."""
    if value.mode == "keyframe":
        yield from _keyframe_issues(value)
        return
    for kind, most in _MOST.items():
        if (count := value.count(kind)) > most:
            field = "audioUrls" if kind == "audio" else "urls"
            yield too_many(field, f"mode 'reference' takes at most {most} of kind {kind}, not {count}")


def _keyframe_issues(value: _I2V) -> Iterator[Issue]:
    if len(value.kinds) > 2:
        yield too_many("urls", f"mode 'keyframe' takes 1-2 images, not {len(value.kinds)}; mode 'reference' takes more")
    for index, kind in enumerate(value.kinds):
        if kind != "image":
            yield conflict(("urls", index), "mode 'keyframe' takes images only; mode 'reference' takes videos")
    if value.audioUrls:
        yield conflict(("audioUrls",), "mode 'keyframe' takes no audio; mode 'reference' does")


@rule("prompt", "mode", "urls", "urlMediaTypes", "audioUrls")
def mentions_exist(value: _I2V) -> Iterator[Issue]:
    """Each @imageN, @videoN and @audioN of the prompt has its file: they count images, videos and audio from 1."""
    if not value.prompt or not value.urls or "@" not in value.prompt:
        return
    if value.urlMediaTypes is None and not all(map(tells_kind, value.urls)):
        return  # what they are is found out from the files, and asked again then
    kinds: dict[str, MediaKind] = {"image": "image", "video": "video", "audio": "audio"}
    for name, number in dict.fromkeys((name.lower(), int(digits)) for name, digits in MENTION.findall(value.prompt)):
        count = value.count(kinds[name])
        if not 1 <= number <= count:
            hint = "" if name == "audio" or value.urlMediaTypes else "; urlMediaTypes says which urls are videos"
            message = f"'prompt': @{name}{number} points to nothing, there are {count} of kind {name}{hint}"
            yield Issue(("prompt",), "unknown_reference", message)


class _I2V(_Seedance):
    priced_by: ClassVar[tuple[str, ...]] = ("duration", "outputResolution", "resolution")
    rules = (
        one_form,
        something_to_animate,
        older_form_is_shorter,
        pixels_fix_the_shape,
        types_align_with_urls,
        media_fit_the_mode,
        mentions_exist,
    )
    file_limits = _FILE_LIMITS

    prompt: Prompt | None = Field(
        default=None, description="What happens; @image1, @video1 and @audio1 name references."
    )
    aspectRatio: Literal["16:9", "9:16", "1:1", "4:3", "3:4", "21:9", "adaptive"] = Field(
        default="16:9", description="Shape of the clip; `adaptive` follows the first image."
    )
    mode: Literal["keyframe", "reference"] = Field(
        default="keyframe", description="keyframe: urls are first and last frame. reference: they guide the clip."
    )
    urls: Annotated[tuple[VisualLink, ...], Field(min_length=1, max_length=12)] | None = Field(
        default=None, description=f"1-2 frames, or up to 9 images and 3 videos to refer to: {LINK_HELP}."
    )
    urlMediaTypes: tuple[Literal["image", "video"], ...] | None = Field(
        default=None, description="What each of urls is, in their order; found out from the files where omitted."
    )
    audioUrls: Annotated[tuple[AudioLink, ...], Field(max_length=3)] | None = Field(
        default=None, description=f"Up to 3 audio files to refer to, in mode reference: {LINK_HELP}."
    )
    image: ImageLink | None = Field(default=None, description=f"Older form: first frame, {LINK_HELP}.")
    last_image: ImageLink | None = Field(default=None, description=f"Older form: last frame, {LINK_HELP}.")
    aspect_ratio: Ratio | None = Field(default=None, description="Older form: shape of the clip, 16:9 where omitted.")
    camera_fixed: bool | None = Field(default=None, description="Older form: ask for a camera that does not move.")
    generate_audio: bool | None = Field(default=None, description="Older form: make sound; true where omitted.")
    seed: int | None = Field(default=None, ge=-1, le=_LARGEST_SEED, description="Older form: random seed, -1 for any.")

    @property
    def older_fields(self) -> tuple[str, ...]:
        """The fields that only the older form has, as far as they are filled."""
        return self._filled(_OLDER) + (("resolution",) if self.resolution in _TIERS else ())

    @property
    def current_fields(self) -> tuple[str, ...]:
        """The fields that only today's form has, as far as they are filled."""
        return self._filled(_CURRENT) + (("resolution",) if self.resolution in _SHAPES else ())

    @cached_property
    def form(self) -> Literal["current", "older", "mixed"]:
        """Which of the two forms the body has."""
        if (_OLDER.keys().isdisjoint(self.model_fields_set) and self.resolution is None) or not self.older_fields:
            return "current"
        return "mixed" if self.current_fields else "older"

    @cached_property
    def kinds(self) -> tuple[MediaKind, ...]:
        """What each of `urls` is: as stated, or else as its name suggests."""
        urls = self.urls or ()
        if self.urlMediaTypes is not None and len(self.urlMediaTypes) == len(urls):
            return self.urlMediaTypes
        return tuple(kind_of(url) for url in urls)

    def count(self, kind: MediaKind) -> int:
        """Return how many references of a kind there are."""
        return len(self.audioUrls or ()) if kind == "audio" else self.kinds.count(kind)

    def cell(self) -> str:
        return self.resolution or "720p" if self.form == "older" else self.outputResolution

    def shape(self) -> str:
        return self.aspect_ratio or super().shape()

    def audible(self) -> bool:
        return self.generate_audio is not False

    def media(self) -> tuple[MediaInput, ...]:
        if self.form == "older":
            return _frames((("image",), self.image), (("last_image",), self.last_image))
        if self.mode == "keyframe":
            return _frames(*((("urls", index), url) for index, url in enumerate(self.urls or ())))
        seen = zip(self.urls or (), self.kinds, strict=True)
        return (
            *(MediaInput(path=("urls", n), kind=kind, url=url, role="reference") for n, (url, kind) in enumerate(seen)),
            *(
                MediaInput(path=("audioUrls", n), kind="audio", url=url, role="reference")
                for n, url in enumerate(self.audioUrls or ())
            ),
        )

    def with_kinds(self, kinds: Sequence[MediaKind]) -> _I2V:
        """Write down what each of `urls` was found to be, where the buyer left that open."""
        seen = tuple(kinds[: len(self.urls or ())])
        if not seen or self.urlMediaTypes is not None or "audio" in seen:
            return self
        return type(self).model_validate(self.model_dump(exclude_unset=True) | {"urlMediaTypes": seen})

    def seed_value(self) -> int | None:
        return None if self.seed == -1 else self.seed

    def _filled(self, names: Iterable[str]) -> tuple[str, ...]:
        given = self.model_fields_set
        return tuple(name for name in names if name in given and getattr(self, name) is not None)


class SeedanceFastI2V(_I2V):
    """Make a clip with sound from frames or from references, sooner and for less."""

    example: ClassVar[dict[str, Any]] = {
        "prompt": "She turns and smiles",
        "duration": "5",
        "aspectRatio": "9:16",
        "outputResolution": "720p",
        "mode": "keyframe",
        "urls": ["https://example.com/portrait.png"],
        "urlMediaTypes": ["image"],
    }
    elsewhere = _NO_4K

    outputResolution: FastTier = Field(default="720p", description="Tier; sets the price.")
    resolution: Literal[Pixels, FastTier] | None = Field(
        default=None, description="Exact pixels of a 720p clip; in the older form, its tier."
    )


class SeedanceI2V(_I2V):
    """Make a clip with sound from frames or from references."""

    example: ClassVar[dict[str, Any]] = {
        "prompt": "@image1 keeps the character identity while @video1 supplies the camera move, synced to @audio1",
        "duration": "5",
        "aspectRatio": "16:9",
        "outputResolution": "720p",
        "mode": "reference",
        "urls": ["https://example.com/hero.png", "https://example.com/move.mp4"],
        "urlMediaTypes": ["image", "video"],
        "audioUrls": ["https://example.com/beat.mp3"],
    }
    priced_by = ("duration", "outputResolution", "upscaleResolution", "resolution")

    outputResolution: Tier = Field(default="720p", description="Tier; sets the price.")
    resolution: Literal[Pixels, Tier] | None = Field(
        default=None, description="Exact pixels of a 720p clip; in the older form, its tier."
    )
    upscaleResolution: Literal["4k"] | None = Field(default=None, description="Deliver in 4k, at its own price.")

    def cell(self) -> str:
        return self.upscaleResolution or super().cell()


def _size(*, tier: str, ratio: str) -> tuple[int, int]:
    width, height = _SIZES[tier][_ON_SIDE.get(ratio, ratio)]
    return (height, width) if ratio in _ON_SIDE else (width, height)


def _frames(*links: tuple[tuple[str | int, ...], str | None]) -> tuple[MediaInput, ...]:
    roles: tuple[Role, Role] = ("first_frame", "last_frame")
    given = zip(links, roles, strict=False)
    return tuple(
        MediaInput(path=path, kind="image", url=url, role=role) for (path, url), role in given if url is not None
    )


_PRICES = {"480p": "0.09", "720p": "0.24", "1080p": "0.43", "4k": "0.54"}
_FAST_PRICES = {"480p": "0.08", "720p": "0.17"}

MODELS = (
    Model(
        name="seedance",
        title="Seedance 2",
        kind=Kind.VIDEO,
        operations=(
            Operation(name="t2v", input=SeedanceT2V, prices=_PRICES),
            Operation(name="i2v", input=SeedanceI2V, prices=_PRICES),
        ),
        typical_seconds=(60, 180),
        poll_after=15,
    ),
    Model(
        name="seedance-fast",
        title="Seedance 2 Fast",
        kind=Kind.VIDEO,
        operations=(
            Operation(name="t2v", input=SeedanceFastT2V, prices=_FAST_PRICES),
            Operation(name="i2v", input=SeedanceFastI2V, prices=_FAST_PRICES),
        ),
        typical_seconds=(60, 180),
        poll_after=15,
    ),
)
