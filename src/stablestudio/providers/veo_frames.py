"""The images of a Veo input, made to fit Google's video models."""

from __future__ import annotations

from stablestudio.catalog.values import VideoOutput
from stablestudio.providers.inputs import MediaFile, MediaSource, crop_to, read_files, shrink
from stablestudio.providers.provider import Failed, Work

MAX_IMAGE_BYTES = 10 * 1024 * 1024
_TYPES = ("image/png", "image/jpeg")
_TOLERANCE = 0.02  # of a frame's ratio


async def read_frames(source: MediaSource, work: Work) -> tuple[MediaFile, ...] | Failed:
    """Return the images of work within the models' limits, frames in the shape of the clip.

    A frame of another shape would be letterboxed by the vendor, with bars in every picture of the clip.
    """
    return await read_files(source, work, fit=lambda file: _fitted(work, file))


async def _fitted(work: Work, file: MediaFile) -> MediaFile:
    clip = work.input.output()
    if file.role != "reference" and isinstance(clip, VideoOutput) and not _has_shape(file, clip):
        file = await crop_to(file, (clip.width, clip.height))
    return await shrink(file, max_bytes=MAX_IMAGE_BYTES, types=_TYPES)


def _has_shape(file: MediaFile, clip: VideoOutput) -> bool:
    if not file.width or not file.height:
        return False
    return abs(file.width * clip.height / (file.height * clip.width) - 1) <= _TOLERANCE
