"""Local work for Gemini's image models: inputs within their limits, and the size that is half of their smallest."""

from __future__ import annotations

from stablestudio.catalog.families.nano_banana import NanoBananaGenerate
from stablestudio.media.decoding import DECODER
from stablestudio.media.probe import UnreadableMedia
from stablestudio.providers.inputs import MediaFile, MediaSource, read_files, shrink
from stablestudio.providers.provider import Failed, Work

MAX_IMAGE_BYTES = 7 * 1024 * 1024
# The whole request may have 100 MB, and base64 makes a third more of it.
_MAX_BYTES = 70 * 1024 * 1024
# Between the areas of the 512 tier (at most 300,000 pixels) and of the 1K tier (at least 1,000,000).
_LARGER_THAN_512 = 600_000


async def read_images(source: MediaSource, work: Work) -> tuple[MediaFile, ...] | Failed:
    """Return the images of work, each small enough to be sent inline."""
    share = min(MAX_IMAGE_BYTES, _MAX_BYTES // max(1, len(work.input.media())))
    return await read_files(source, work, fit=lambda file: shrink(file, max_bytes=share))


async def half_of(work: Work, data: bytes) -> tuple[int, int] | None:
    """Return the size to shrink a 1K image to where 512 was ordered of a model without that tier, else None."""
    if not isinstance(work.input, NanoBananaGenerate) or work.input.imageSize != "512":
        return None
    try:
        seen = await DECODER.probe(data)
    except UnreadableMedia:
        return None  # for `finish` to say
    return (seen.width // 2, seen.height // 2) if seen.width * seen.height > _LARGER_THAN_512 else None
