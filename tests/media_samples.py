"""Small real media files for tests, made on the spot."""

from __future__ import annotations

import io
import struct
import wave
import zlib
from fractions import Fraction
from functools import cache
from typing import Any

import av
from PIL import Image

USUAL_CLIP = (960, 540)
USUAL_IMAGE = (1024, 1024)
RED = (200, 30, 40)
BLUE = (20, 60, 210)


def image(
    format: str = "PNG",  # noqa: A002 - the library's word
    *,
    size: tuple[int, int] = (64, 48),
    colour: Any = RED,
    mode: str = "RGB",
    orientation: int | None = None,
) -> bytes:
    """Return an image file of one colour; `orientation` is EXIF's."""
    picture = Image.new(mode, size, colour)
    out = io.BytesIO()
    if orientation is None:
        picture.save(out, format)
    else:
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture.save(out, format, exif=exif)
    return out.getvalue()


def clip(
    format: str = "mp4",  # noqa: A002 - the library's word
    *,
    size: tuple[int, int] = (64, 48),
    colour: tuple[int, int, int] = RED,
    seconds: int = 1,
    sound: str | None = None,
    rotation: int = 0,
) -> bytes:
    """Return a video file of one colour; `sound` names a codec."""
    out = io.BytesIO()
    with av.open(out, "w", format=format) as container:
        picture: Any = container.add_stream("libvpx-vp9" if format == "webm" else "libx264", rate=12)
        picture.width, picture.height, picture.pix_fmt = *size, "yuv420p"
        if rotation:
            picture.set_display_rotation(rotation)
        track = container.add_stream(sound, rate=48_000) if sound else None
        for index in range(12 * seconds):
            frame: Any = av.VideoFrame.from_image(Image.new("RGB", size, colour))  # type: ignore[no-untyped-call] # partly annotated
            frame.pts, frame.time_base = index, Fraction(1, 12)
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
        if track is not None:
            _mux_silence(container, track, seconds)
    return out.getvalue()


@cache
def usual_clip() -> bytes:
    """Return a clip that is enough for any order of up to 16 seconds below 4k."""
    return clip(size=USUAL_CLIP, seconds=8)


@cache
def usual_image(format: str = "PNG") -> bytes:  # noqa: A002 - the library's word
    """Return an image that is enough for any order below 4k."""
    return image(format, size=USUAL_IMAGE)


def sound(format: str, codec: str, *, seconds: int = 1) -> bytes:  # noqa: A002 - the library's word
    """Return a sound file without a picture."""
    out = io.BytesIO()
    with av.open(out, "w", format=format) as container:
        _mux_silence(container, container.add_stream(codec, rate=48_000), seconds)
    return out.getvalue()


def wav(*, seconds: int = 1) -> bytes:
    """Return a plain WAV file, 8 kHz mono."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16_000 * seconds))
    return out.getvalue()


def bomb_png(*, side: int = 20_000) -> bytes:
    """Return a small PNG file that promises a huge picture."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = zlib.compressobj(9)
    pixels = b"".join(rows.compress(bytes(side // 8 + 1)) for _ in range(side)) + rows.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def _mux_silence(container: Any, track: Any, seconds: int) -> None:
    for second in range(seconds):
        frame: Any = av.AudioFrame(format="s16", layout="stereo", samples=48_000)
        frame.sample_rate, frame.pts = 48_000, second * 48_000
        frame.planes[0].update(bytes(4 * 48_000))
        container.mux(track.encode(frame))
    container.mux(track.encode(None))
