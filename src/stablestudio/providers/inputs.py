"""The files that go to a vendor: read once, named by their bytes, made to fit its limits."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from typing import Protocol

from PIL import Image, ImageOps

from stablestudio.catalog import MediaInput
from stablestudio.catalog.values import MediaKind, Role
from stablestudio.errors import StudioError
from stablestudio.media.addresses import FetchPolicy, FetchRefused, admit, read_url
from stablestudio.media.inputs import InputReader
from stablestudio.media.probe import UnreadableMedia, open_image, probe
from stablestudio.providers.faults import failed
from stablestudio.providers.provider import Failed, FailureKind, Work

STILLS = ("image/png", "image/jpeg", "image/webp")
_PILLOW = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}
_JPEG_QUALITY = 92
_ORIENTATION = 0x0112
_SHRINK = 0.75  # of each side, again and again until a file fits
_POLICY = FetchPolicy()

Publish = Callable[[Work, MediaInput], Awaitable[str | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaFile:
    """One input file, confirmed by a decoder: its type, its size in pixels as displayed, its length in seconds.

    `url` is its public https address where it has one, for vendors that take no bytes.
    """

    path: tuple[str | int, ...]
    kind: MediaKind
    role: Role
    data: bytes
    content_type: str
    url: str | None = None
    width: int = 0
    height: int = 0
    seconds: float | None = None


class MediaSource(Protocol):
    """Where adapters get the files of work from."""

    async def read(self, work: Work) -> tuple[MediaFile, ...]:
        """Return the files in the order of `work.input.media()`. Raises `StudioError` fit for the buyer."""
        ...

    def has_address(self, url: str) -> bool:
        """Tell whether a vendor could fetch a file of an input by itself, without asking anybody."""
        ...


class InputFiles:
    """The files as the service itself reads them: earlier results, own links, the guarded fetch.

    `publish` returns a public https link for a `job:` reference; there is none where nobody outside can follow one.
    """

    def __init__(self, reader: InputReader, *, publish: Publish | None = None) -> None:
        self._reader = reader
        self._publish = publish

    async def read(self, work: Work) -> tuple[MediaFile, ...]:
        return tuple([await self._file(work, media) for media in work.input.media()])

    def has_address(self, url: str) -> bool:
        return public_url(url) is not None or (self._publish is not None and url.startswith("job:"))

    async def _file(self, work: Work, media: MediaInput) -> MediaFile:
        data = await self._reader.read(media.url, wallet=work.wallet, as_of_ms=work.ordered_at)
        seen = await asyncio.to_thread(probe, data)
        if seen.kind != media.kind:
            place = ".".join(map(str, media.path))
            raise UnreadableMedia(f"{place} must be of the kind {media.kind}, but the file's kind is {seen.kind}.")
        url = public_url(media.url)
        if url is None and self._publish is not None:
            url = await self._publish(work, media)
        return MediaFile(
            path=media.path,
            kind=media.kind,
            role=media.role,
            data=data,
            content_type=seen.content_type,
            url=url,
            width=seen.width,
            height=seen.height,
            seconds=seen.seconds,
        )


async def read_files(
    source: MediaSource, work: Work, *, fit: Callable[[MediaFile], Awaitable[MediaFile]] | None = None
) -> tuple[MediaFile, ...] | Failed:
    """Return the files of work, each made to `fit`, or the failure that one which cannot be read is.

    Nothing was asked of a vendor yet, so the failure is certain.
    """
    try:
        files = await source.read(work)
        return files if fit is None else tuple([await fit(file) for file in files])
    except StudioError as error:
        return failed(FailureKind.INVALID_INPUT, error.message)


def public_url(url: str) -> str | None:
    """Return an address that a vendor could fetch itself, or None."""
    try:
        admit(read_url(url), _POLICY)
    except FetchRefused:
        return None
    return url


def data_url(file: MediaFile) -> str:
    """Return the file as a `data:` URI."""
    return f"data:{file.content_type};base64,{base64.b64encode(file.data).decode()}"


async def shrink(
    file: MediaFile, *, max_bytes: int, types: Collection[str] = STILLS, longest: int | None = None
) -> MediaFile:
    """Return an image that fits a vendor's limits; one that fits already comes back untouched.

    Others are written anew as PNG (if they have transparency) or JPEG, smaller and smaller until they fit; `longest` is
    the limit of the longer side in pixels. Raises `UnreadableMedia`.
    """
    if longest is None and file.content_type in types and len(file.data) <= max_bytes:
        return file
    return await asyncio.to_thread(_shrunk, file, max_bytes, types, longest)


async def crop_to(file: MediaFile, size: tuple[int, int]) -> MediaFile:
    """Return an image of exactly this size: scaled to cover it, the middle kept, opaque. Raises `UnreadableMedia`."""
    return await asyncio.to_thread(_cropped, file, size)


def flattened(picture: Image.Image) -> Image.Image:
    """Return an image in RGB, its transparency laid on white."""
    if picture.mode.startswith("I"):
        # Pillow clips 16 bits to 8 instead of scaling them.
        return picture.convert("I").point(lambda value: value * (1 / 257)).convert("L").convert("RGB")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layer = picture.convert("RGBA")
    paper = Image.new("RGB", layer.size, "white")
    paper.paste(layer, mask=layer)
    return paper


def _shrunk(file: MediaFile, max_bytes: int, types: Collection[str], longest: int | None) -> MediaFile:
    picture = open_image(file.data)
    if longest is None or max(picture.size) <= longest:
        if file.content_type in types and len(file.data) <= max_bytes:
            return file
    else:
        picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    content_type = "image/png" if picture.has_transparency_data and "image/png" in types else "image/jpeg"
    picture = picture.convert("RGBA") if content_type == "image/png" else flattened(picture)
    while True:
        data = _written(picture, content_type)
        if len(data) <= max_bytes:
            return _anew(file, picture, data, content_type)
        if min(picture.size) < 64:
            raise UnreadableMedia("The image cannot be made small enough for the vendor.")
        width, height = (max(1, round(side * _SHRINK)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)


def _cropped(file: MediaFile, size: tuple[int, int]) -> MediaFile:
    picture = open_image(file.data)
    fits = picture.size == size and file.content_type in STILLS and not picture.has_transparency_data
    if fits and not _is_turned(file.data):
        return file
    fitted = ImageOps.fit(flattened(picture), size, Image.Resampling.LANCZOS)
    return _anew(file, fitted, _written(fitted, "image/png"), "image/png")


def _is_turned(data: bytes) -> bool:
    # Not every vendor turns a picture as its EXIF says.
    return bool(Image.open(io.BytesIO(data)).getexif().get(_ORIENTATION, 1) != 1)


def _anew(file: MediaFile, picture: Image.Image, data: bytes, content_type: str) -> MediaFile:
    # Its public address, if any, leads to the file as it was.
    return replace(file, data=data, content_type=content_type, url=None, width=picture.width, height=picture.height)


def _written(picture: Image.Image, content_type: str) -> bytes:
    out = io.BytesIO()
    picture.save(out, _PILLOW[content_type], **({"quality": _JPEG_QUALITY} if content_type == "image/jpeg" else {}))
    return out.getvalue()
