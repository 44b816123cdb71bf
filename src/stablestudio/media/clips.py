"""Clips as the buyer ordered them: fetched from the vendor, and in exactly the pixels that were asked for."""

from __future__ import annotations

import asyncio
import io
from typing import Any

from stablestudio.media.probe import UnreadableMedia, probe
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
        return await asyncio.to_thread(reshaped, output, size)
    except UnreadableMedia as error:
        return failed(FailureKind.UPSTREAM_ERROR, "The vendor's file could not be read.", detail=error.message)


def reshaped(output: Output, size: tuple[int, int]) -> Output:
    """Return a clip of exactly this size: scaled to cover it, the middle kept, the sound as it was. Blocks.

    A clip that has the size already comes back untouched. Raises `UnreadableMedia`.
    """
    import av  # noqa: PLC0415 - heavy

    seen = probe(output.data)
    if (seen.width, seen.height) == size:
        return output
    out = io.BytesIO()
    try:
        with av.open(io.BytesIO(output.data)) as source, av.open(out, "w", format="mp4") as target:
            _write(source, target, size)
    except (av.FFmpegError, ValueError) as error:
        raise UnreadableMedia("The clip could not be scaled.") from error
    return Output(data=out.getvalue(), content_type="video/mp4")


def _write(source: Any, target: Any, size: tuple[int, int]) -> None:
    picture = source.streams.video[0]
    sound = next(iter(source.streams.audio), None)
    made = target.add_stream("libx264", rate=picture.average_rate or 24, options={"crf": "17", "preset": "veryfast"})
    made.width, made.height, made.pix_fmt = *size, "yuv420p"
    made.codec_context.time_base = picture.time_base
    track = target.add_stream_from_template(sound) if sound is not None else None
    graph = _covering(picture, size)
    for packet in source.demux(*(stream for stream in (picture, sound) if stream is not None)):
        if packet.stream is picture:
            for frame in packet.decode():
                graph.push(frame)
                target.mux(made.encode(graph.vpull()))
        elif packet.dts is not None:
            packet.stream = track
            target.mux(packet)
    target.mux(made.encode(None))


def _covering(picture: Any, size: tuple[int, int]) -> Any:
    """Return a graph that scales frames until they cover the size, and keeps the middle."""
    from av.filter import Graph  # noqa: PLC0415 - heavy

    width, height = size
    graph = Graph()
    graph.link_nodes(
        graph.add_buffer(template=picture),
        graph.add("scale", f"{width}:{height}:force_original_aspect_ratio=increase:flags=lanczos"),
        graph.add("crop", f"{width}:{height}"),
        graph.add("setsar", "1"),
        graph.add("buffersink"),
    ).configure()
    return graph
