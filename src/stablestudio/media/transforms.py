"""Pictures written anew: smaller, cropped, opaque, in another format. Each reads a foreign file, so it runs in a `Decoder`."""

from __future__ import annotations

import io
import os
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageOps

from stablestudio.media.probe import Source, UnreadableMedia, as_file, named, open_image
from stablestudio.media.thumbnail import opaque, still

Size = tuple[int, int]

#: The types in which pictures are written; one of these may be left as it is.
STILLS = ("image/png", "image/jpeg", "image/webp")
_PILLOW = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}
_JPEG_QUALITY = 92
_ORIENTATION = 0x0112
_SHRINK = 0.75  # of each side, again and again until a file fits


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewritten:
    """A picture that was written anew."""

    data: bytes
    content_type: str
    width: int
    height: int


def shrunk(source: Source, *, max_bytes: int, types: Collection[str], longest: int | None) -> Rewritten | None:
    """Return a picture within limits of bytes, types and its longer side; None if it is so already.

    It is written as PNG (if it has transparency) or JPEG. Raises UnreadableMedia.
    """
    picture = open_image(source)
    if longest is None or max(picture.size) <= longest:
        if named(source) in types and as_file(source).seek(0, os.SEEK_END) <= max_bytes:
            return None
    else:
        picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    content_type = "image/png" if picture.has_transparency_data and "image/png" in types else "image/jpeg"
    picture = picture.convert("RGBA") if content_type == "image/png" else opaque(picture)
    while True:
        made = _rewritten(picture, content_type, {"quality": _JPEG_QUALITY} if content_type == "image/jpeg" else {})
        if len(made.data) <= max_bytes:
            return made
        if min(picture.size) < 64:
            raise UnreadableMedia("The image cannot be made small enough for the vendor.")
        width, height = (max(1, round(side * _SHRINK)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)


def cropped(source: Source, *, size: Size) -> Rewritten | None:
    """Return a picture of exactly this size: scaled to cover it, the middle kept, opaque; None if it is so already."""
    picture = open_image(source)
    fits = picture.size == size and named(source) in STILLS and not picture.has_transparency_data
    if fits and not _is_turned(source):
        return None
    return _rewritten(ImageOps.fit(opaque(picture), size, Image.Resampling.LANCZOS), "image/png", {})


def converted(
    source: Source, *, content_type: str, quality: int | None = None, within: Size | None = None
) -> Rewritten | None:
    """Return a picture in this type and no larger than `within`, its shape kept; None if it is so already."""
    picture = open_image(source)
    too_large = within is not None and (picture.width > within[0] or picture.height > within[1])
    if named(source) == content_type and not too_large:
        return None
    if within is not None and too_large:
        picture.thumbnail(within, Image.Resampling.LANCZOS)
    if content_type == "image/jpeg" or not picture.has_transparency_data:
        picture = opaque(picture)
    return _rewritten(picture, content_type, {} if quality is None else {"quality": quality})


def fitted(source: Source, *, size: Size) -> bytes | None:
    """Return the RGB pixels of the first picture, scaled to cover the size with its middle; None for a sound."""
    picture = still(source, at_least=size)
    return None if picture is None else ImageOps.fit(picture, size, Image.Resampling.BICUBIC).tobytes()


def _is_turned(source: Source) -> bool:
    # Not every vendor turns a picture as its EXIF says.
    return bool(Image.open(as_file(source)).getexif().get(_ORIENTATION, 1) != 1)


def _rewritten(picture: Image.Image, content_type: str, options: dict[str, Any]) -> Rewritten:
    out = io.BytesIO()
    picture.save(out, _PILLOW[content_type], **options)
    return Rewritten(data=out.getvalue(), content_type=content_type, width=picture.width, height=picture.height)
