"""Clips as the buyer ordered them: fetched from the vendor, and in exactly the pixels that were asked for."""

from __future__ import annotations

from stablestudio.media.decoding import DECODER
from stablestudio.media.probe import UnreadableMedia
from stablestudio.providers.faults import failed
from stablestudio.providers.finish import collect
from stablestudio.providers.http import VendorHttp
from stablestudio.providers.provider import Failed, FailureKind, Output, Work
from stablestudio.providers.seedance_inputs import exact_size


async def collect_clip(
    http: VendorHttp, url: str, work: Work, *, within: tuple[int, int] | None = None
) -> Output | Failed:
    """Download the result of work and finish it, as `finish.collect`; a clip of exact pixels is scaled to them."""
    output = await collect(http, url, work, within=within)
    size = exact_size(work.input)
    if isinstance(output, Failed) or size is None:
        return output
    try:
        data = await DECODER.reshaped(output.data, size=size)
    except UnreadableMedia as error:
        return failed(FailureKind.UPSTREAM_ERROR, "The vendor's file could not be read.", detail=error.message)
    return output if data is None else Output(data=data, content_type="video/mp4")
