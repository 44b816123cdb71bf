"""Clips in exactly the pixels that were asked for. A foreign file is read, so this runs in a `Decoder`."""

from __future__ import annotations

import io
from typing import Any

import av
from av.filter import Graph

from stablestudio.media.probe import Source, UnreadableMedia, container_of, probe


def reshaped(source: Source, *, size: tuple[int, int]) -> bytes | None:
    """Return a clip as MP4 of exactly this size: scaled to cover it, the middle kept, the sound as it was.

    None if it has the size already. Raises UnreadableMedia.
    """
    seen = probe(source)
    if seen.kind != "video":
        raise UnreadableMedia("The file is not a video.")
    if (seen.width, seen.height) == size:
        return None
    out = io.BytesIO()
    try:
        with container_of(source, seen.content_type) as clip, av.open(out, "w", format="mp4") as target:
            _write(clip, target, size)
    except (av.FFmpegError, ValueError) as error:
        raise UnreadableMedia("The clip could not be scaled.") from error
    return out.getvalue()


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
