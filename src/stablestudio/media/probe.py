"""Find out what a file really is: magic bytes name a candidate, a decoder under limits confirms it."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal, NoReturn

import av
from PIL import Image, ImageOps

from stablestudio import magic
from stablestudio.errors import StudioError

#: What is looked into: the bytes, or an open file that can be sought in.
Source = bytes | BinaryIO
#: Largest picture that is decoded, in pixels of one frame.
PIXEL_CAP = 40_000_000

# Pillow only warns between this limit and twice of it, so the size is compared once more in `_opened`.
Image.MAX_IMAGE_PIXELS = PIXEL_CAP

_PILLOW = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP", "image/gif": "GIF"}
_DEMUXER = {
    "video/mp4": "mov",
    "video/quicktime": "mov",
    "audio/mp4": "mov",
    "video/webm": "matroska",
    "audio/mpeg": "mp3",
    "audio/wav": "wav",
    "audio/ogg": "ogg",
}
_SOUND_OF = {"video/mp4": "audio/mp4", "video/quicktime": "audio/mp4", "video/webm": "audio/webm"}
# What decoders raise for broken bytes, besides their own classes.
_BROKEN = (OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, struct.error, zlib.error)


class UnreadableMedia(StudioError):
    """The file is not a picture, video or sound that this service can read."""

    status = 400
    hint = "Send a PNG, JPEG, WebP or GIF image, an MP4, MOV or WebM video, or an MP3, WAV, M4A or OGG sound."


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What a file is: sizes in pixels as displayed (0 for a sound), duration in seconds (None for an image)."""

    kind: Literal["image", "video", "audio"]
    content_type: str
    width: int
    height: int
    seconds: float | None
    has_audio: bool


def probe(source: Source) -> Probe:
    """Name and confirm one file; raise UnreadableMedia where it is none, broken, cut short or too large."""
    content_type = named(source)
    if content_type in _PILLOW:
        return _probe_image(source, content_type)
    return _probe_stream(source, content_type)


def named(source: Source) -> str:
    """Return the content type that a file's first bytes promise, as `sniff`."""
    return sniff(as_file(source).read(magic.HEAD))


def as_file(source: Source) -> BinaryIO:
    """Return a file at its beginning."""
    if isinstance(source, bytes):
        return io.BytesIO(source)
    source.seek(0)
    return source


def sniff(data: bytes) -> str:
    """Return the content type that the first bytes promise; raise UnreadableMedia for any outside the closed list."""
    content_type = magic.sniff(data)
    if content_type is None:
        raise UnreadableMedia("The file is empty." if not data else None)
    return content_type


def open_image(source: Source, *, at_least: tuple[int, int] | None = None) -> Image.Image:
    """Decode the first frame of an image, upright; a JPEG may come smaller than it is, but not below `at_least`."""
    with _decoding():
        image = _opened(source, named(source))
        if at_least is not None:
            image.draft(None, at_least)
        ImageOps.exif_transpose(image, in_place=True)
        return image


def first_frame(source: Source) -> Image.Image | None:
    """Decode the first picture of a video, turned upright; None for a sound."""
    content_type = named(source)
    with _decoding(), container_of(source, content_type) as container:
        stream = _picture_stream(container, content_type)
        if stream is None:
            return None
        frame = next(container.decode(stream), None)
        if frame is None:
            raise UnreadableMedia("The video holds no picture.")
        image: Image.Image = frame.to_image()
        return image.rotate(frame.rotation, expand=True) if frame.rotation else image


def _probe_image(source: Source, content_type: str) -> Probe:
    with _decoding():
        image = _opened(source, content_type)
        width, height = image.size
        if image.getexif().get(0x0112, 1) >= 5:
            width, height = height, width
        # A JPEG is decoded at an eighth of its size: every byte is still read, so a cut file is noticed.
        image.draft(None, (1, 1))
        image.load()
    return Probe(kind="image", content_type=content_type, width=width, height=height, seconds=None, has_audio=False)


def _opened(source: Source, content_type: str) -> Image.Image:
    if content_type not in _PILLOW:
        raise UnreadableMedia("The file is not an image.")
    image = Image.open(as_file(source), formats=[_PILLOW[content_type]])
    _check_pixels(*image.size)
    return image


def _check_pixels(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise UnreadableMedia("The picture is empty.")
    if width * height > PIXEL_CAP:
        raise _too_large(f"{width} x {height} pixels are")


def _too_large(what: str) -> UnreadableMedia:
    return UnreadableMedia(
        f"{what} more than this service decodes.", hint=f"Scale it to at most {PIXEL_CAP // 1_000_000} megapixels."
    )


@contextmanager
def _decoding() -> Iterator[None]:
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large("The picture's pixels are") from error
    except (av.FFmpegError, *_BROKEN) as error:
        raise UnreadableMedia("The file is broken, cut short, or not what its first bytes say.") from error


def _refuse_opening(url: str, flags: int, options: dict[str, str]) -> NoReturn:  # noqa: ARG001 - the library's signature
    raise OSError(f"a media file may not open {url!r}")


@contextmanager
def container_of(source: Source, content_type: str) -> Iterator[Any]:
    """Open a video or sound that `named` gave this type; nothing beside it is opened, whatever it refers to."""
    if content_type not in _DEMUXER:
        raise UnreadableMedia("The file is not a video or sound.")
    demuxer, file = _DEMUXER[content_type], as_file(source)
    if (demuxer == "mov" and not _boxes_end_inside(file)) or (demuxer == "wav" and not _chunks_end_inside(file)):
        raise UnreadableMedia("The file is cut short.")
    # Naming the demuxer keeps playlists out, and the callback keeps references to other files from being followed.
    with av.open(as_file(file), format=demuxer, metadata_errors="replace", io_open=_refuse_opening) as container:
        yield container


def _picture_stream(container: Any, content_type: str) -> Any | None:
    if content_type.startswith("audio/"):
        return None
    covers = av.stream.Disposition.attached_pic
    stream = next((stream for stream in _decodable(container.streams.video) if not stream.disposition & covers), None)
    if stream is not None:
        _check_pixels(stream.codec_context.width, stream.codec_context.height)
        # The stream itself may announce another size than its container.
        stream.codec_context.options = {"max_pixels": str(PIXEL_CAP)}
        # One picture is decoded: more threads would only be more memory, on a large machine a lot of it.
        stream.codec_context.thread_count = 1
    return stream


def _decodable(streams: Iterable[Any]) -> Iterator[Any]:
    # A codec that the library does not know leaves a stream without a context.
    return (stream for stream in streams if stream.codec_context is not None)


def _probe_stream(source: Source, content_type: str) -> Probe:
    with _decoding(), container_of(source, content_type) as container:
        picture = _picture_stream(container, content_type)
        sound = next(_decodable(container.streams.audio), None)
        stream = picture if picture is not None else sound
        if stream is None:
            raise UnreadableMedia("The file holds neither picture nor sound.")
        frame, reached = _walk(container, stream)
        seconds = _checked_seconds(content_type, reached=reached, declared=_declared(stream, container))
        if picture is None:
            kind_type = _SOUND_OF.get(content_type, content_type)
            return Probe(kind="audio", content_type=kind_type, width=0, height=0, seconds=seconds, has_audio=True)
        width, height = (frame.height, frame.width) if frame.rotation % 180 else (frame.width, frame.height)
        return Probe(
            kind="video",
            content_type=content_type,
            width=width,
            height=height,
            seconds=seconds,
            has_audio=sound is not None,
        )


def _walk(container: Any, stream: Any) -> tuple[Any, float]:
    """Decode the first frame and read every packet: what a stream promises is less than what it holds."""
    frame, start, end = None, None, 0
    for packet in container.demux(stream):
        if frame is None:
            frame = next(iter(packet.decode()), None)
        if packet.pts is not None:
            start = packet.pts if start is None else min(start, packet.pts)
            end = max(end, packet.pts + (packet.duration or 0))
    if frame is None or start is None:
        raise UnreadableMedia("The file holds nothing that can be decoded.")
    return frame, float((end - start) * stream.time_base)


def _declared(stream: Any, container: Any) -> float | None:
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else float(container.duration) / av.time_base


def _checked_seconds(content_type: str, *, reached: float, declared: float | None) -> float:
    # An mp3 has no index: its declared duration is a guess from the first bit rate.
    if declared is None or content_type == "audio/mpeg":
        return reached
    slack = max(0.5, declared / 10)
    if reached < declared - slack:
        raise UnreadableMedia("The file is cut short.")
    # What is declared is rounder, but a file that declares far less than it holds must not pass for a short one.
    return declared if reached <= declared + slack else reached


def _boxes_end_inside(file: BinaryIO) -> bool:
    """Tell whether every top-level box ends within the file (ISO/IEC 14496-12 section 4.2)."""
    at, end = 0, file.seek(0, os.SEEK_END)
    while at + 8 <= end:
        file.seek(at)
        head = file.read(16)
        size = int.from_bytes(head[:4])
        if size == 1:
            size = int.from_bytes(head[8:])
        if size == 0:
            return True
        if size < 8:
            return False
        at += size
    return at <= end


def _chunks_end_inside(file: BinaryIO) -> bool:
    """Tell whether every RIFF chunk up to the sound ends within the file; the demuxer would allocate what they claim."""
    at, end = 12, file.seek(0, os.SEEK_END)
    while at + 8 <= end:
        file.seek(at)
        head = file.read(8)
        size = int.from_bytes(head[4:], "little")
        if head.startswith(b"data"):
            # Recorders that write to a pipe leave all bits set.
            return size == 0xFFFFFFFF or at + 8 + size <= end
        at += 8 + size + size % 2
    return False
