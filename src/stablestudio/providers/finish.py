"""The last touch on what a vendor made: fetched, recognised, and in the format and size that the buyer asked for."""

from __future__ import annotations

import logging

from stablestudio.catalog.values import ImageFormat, ImageOutput, VideoOutput
from stablestudio.media.decoding import DECODER
from stablestudio.media.probe import Probe, UnreadableMedia
from stablestudio.providers.answers import Lost
from stablestudio.providers.faults import failed
from stablestudio.providers.http import MAX_CLIP_BYTES, VendorHttp
from stablestudio.providers.measure import shortfalls
from stablestudio.providers.provider import Failed, FailureKind, Output, Work

log = logging.getLogger(__name__)

MAX_IMAGE_BYTES = 64 * 1024 * 1024
_TYPES: dict[ImageFormat, str] = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
_DEFAULT_QUALITY = {"jpeg": 92, "webp": 90}
_UNREADABLE = "The vendor's file could not be read."
_LESS = "The vendor made much less than was ordered."


async def collect(http: VendorHttp, url: str, work: Work, *, within: tuple[int, int] | None = None) -> Output | Failed:
    """Download the result of work and finish it; `Failed` where it is lost, too large, private, or not what was ordered.

    Raises `Unanswered` where asking again later may help.
    """
    is_clip = isinstance(work.input.output(), VideoOutput)
    try:
        data = await http.download(url, max_bytes=MAX_CLIP_BYTES if is_clip else MAX_IMAGE_BYTES)
    except Lost as error:
        return failed(FailureKind.UPSTREAM_ERROR, "The vendor's file could not be fetched.", detail=str(error))
    return await finish(data, work, within=within)


async def finish(data: bytes, work: Work, *, within: tuple[int, int] | None = None) -> Output | Failed:
    """Return the vendor's bytes as the output of work, or `Failed` where they are certainly not what was ordered.

    An image is written anew only where its format is not the one asked for, or where it must shrink to lie `within`
    a width and height; its shape stays.
    """
    wanted = work.input.output()
    try:
        seen = await DECODER.probe(data)
        ordered = "video" if isinstance(wanted, VideoOutput) else "image"
        if seen.kind != ordered:
            detail = f"{ordered} was ordered, {seen.content_type} came"
            return failed(FailureKind.UPSTREAM_ERROR, _UNREADABLE, detail=detail)
        if (breach := _held_against(work, wanted, seen)) is not None:
            return breach
        if isinstance(wanted, VideoOutput):
            return Output(data=data, content_type=seen.content_type)
        return await finish_image(data, wanted, within=within)
    except UnreadableMedia as error:
        return failed(FailureKind.UPSTREAM_ERROR, _UNREADABLE, detail=f"{error.message} {data[:40]!r}")


def _held_against(work: Work, wanted: ImageOutput | VideoOutput, seen: Probe) -> Failed | None:
    """Tell the operator where a file is less than its order; return the failure of one that nobody would have paid for."""
    lacking = shortfalls(wanted, seen)
    for each in lacking:
        told = {"measure": each.measure, "ordered": each.ordered, "made": each.made, "model": work.model}
        log.warning("made_less_than_ordered", extra={"job": work.job_id, "offering": work.offering.key, **told})
    breach = next((each for each in lacking if each.is_breach), None)
    if breach is None:
        return None
    detail = f"{breach.measure}: {breach.ordered:.10g} ordered, {breach.made:.10g} came"
    return failed(FailureKind.UPSTREAM_ERROR, _LESS, detail=detail)


async def finish_image(data: bytes, wanted: ImageOutput, *, within: tuple[int, int] | None = None) -> Output:
    """Return an image in the format that is wanted; see `finish`. Raises `UnreadableMedia`."""
    content_type = _TYPES[wanted.format]
    made = await DECODER.converted(data, content_type=content_type, quality=_quality(wanted), within=within)
    return Output(data=data if made is None else made.data, content_type=content_type)


def _quality(wanted: ImageOutput) -> int | None:
    if wanted.format == "png":
        return None
    quality = _DEFAULT_QUALITY[wanted.format] if wanted.quality is None else wanted.quality
    # Pillow reads a JPEG's quality of 0 as "not given".
    return max(1, quality) if wanted.format == "jpeg" else quality
