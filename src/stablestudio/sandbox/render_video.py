"""The clips of the sandbox: H.264 in MP4 from a few still layers, moved plane by plane.

Frames are put together in the encoder's own colour planes, so that no frame is converted: at 4K a conversion costs
more than the encoding.
"""

from __future__ import annotations

import io
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
from PIL import Image

from stablestudio.sandbox.render_art import Colour, Palette, Size, glow
from stablestudio.sandbox.render_sound import RATE, seconds_of_sound

# ITU-R BT.709 in FFmpeg's numbering, and its name for 16..235.
_BT709 = 1
_LIMITED = 1
_CRF = "25"

Planes = tuple[Image.Image, Image.Image, Image.Image]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A still part of every frame: colour planes, how opaque each pixel is, and where it lies."""

    planes: Planes
    masks: Planes
    left: int
    top: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """A glow that wanders: its colour and masks, and the numbers of its path."""

    colour: Colour
    masks: Planes
    pace: tuple[float, float]
    phase: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """Everything that the frames of one clip are made of."""

    size: Size
    seconds: int
    rate: int
    scenes: tuple[Planes, ...]
    layers: tuple[Layer, ...]
    drifts: tuple[Drift, ...]
    bar: Colour

    @property
    def frames(self) -> int:
        """How many frames the clip has."""
        return self.seconds * self.rate


def frame_rate(size: Size) -> int:
    """Return frames per second: fewer for large pictures, which keeps a clip's cost level."""
    pixels = size[0] * size[1]
    return 24 if pixels <= 1_000_000 else 12 if pixels <= 2_500_000 else 6


def scene_size(size: Size) -> Size:
    """Return the size of a scene: wider than the clip, which glides over it."""
    return size[0] + 2 * (size[0] // 14), size[1]


def make_film(
    scenes: Sequence[Image.Image],
    *,
    size: Size,
    seconds: int,
    words: Image.Image,
    palette: Palette,
    chance: random.Random | None,
) -> Film:
    """Prepare a clip of RGB scenes of `scene_size` under a layer of words; `chance` adds wandering glows."""
    return Film(
        size=size,
        seconds=seconds,
        rate=frame_rate(size),
        scenes=tuple(_planes(scene) for scene in scenes),
        layers=tuple(_layers(words)),
        drifts=() if chance is None else tuple(_drifts(size, palette, chance)),
        bar=_yuv(palette.warm),
    )


def encode(film: Film, *, sound: random.Random | None) -> bytes:
    """Return the film as MP4, its index first; with an AAC stereo track where `sound` is given.

    The same film gives the same bytes: one thread encodes, and no date is written.
    """
    out = io.BytesIO()
    with av.open(out, "w", format="mp4", options={"moov_size": str(_index_size(film))}) as container:
        picture = _picture_track(container, film)
        track = container.add_stream("aac", rate=RATE, layout="stereo") if sound else None
        blocks = seconds_of_sound(film.seconds, chance=sound) if sound else None
        frames = _frames(film)
        for second in range(film.seconds):
            for _ in range(film.rate):
                container.mux(picture.encode(next(frames)))
            if track is not None and blocks is not None:
                container.mux(track.encode(_sound_frame(next(blocks), second)))
        container.mux(picture.encode(None))
        if track is not None:
            container.mux(track.encode(None))
    return out.getvalue()


def _index_size(film: Film) -> int:
    # Reserving room for the index puts it first without a second pass over a file; at most 24 bytes tell of a sample.
    return 4096 + 24 * (film.frames + film.seconds * (RATE // 1024 + 1))


def _picture_track(container: Any, film: Film) -> Any:
    # `ultrafast` alone would leave out CABAC and be Baseline profile; with both it is High, and smaller.
    options = {"preset": "ultrafast", "crf": _CRF, "x264-params": "cabac=1:8x8dct=1:threads=1"}
    track = container.add_stream("libx264", rate=film.rate, options=options)
    track.width, track.height = film.size
    track.pix_fmt = "yuv420p"
    context = track.codec_context
    context.gop_size = film.rate * 4
    context.color_range = _LIMITED
    context.colorspace = context.color_primaries = context.color_trc = _BT709
    return track


def _sound_frame(block: bytes, second: int) -> Any:
    frame = av.AudioFrame(format="s16", layout="stereo", samples=RATE)
    frame.sample_rate = RATE
    frame.pts = second * RATE
    frame.planes[0].update(block)
    return frame


def _planes(picture: Image.Image) -> Planes:
    frame = av.VideoFrame.from_image(picture)  # type: ignore[no-untyped-call] # the package annotates only a part
    frame = frame.reformat(format="yuv420p", dst_colorspace=_BT709, dst_color_range=_LIMITED)
    luma, blue, red = (
        Image.frombuffer("L", (plane.line_size, plane.height), bytes(plane), "raw", "L", 0, 1).crop(
            (0, 0, plane.width, plane.height)
        )
        for plane in frame.planes
    )
    return luma, blue, red


def _yuv(colour: Colour) -> Colour:
    luma, blue, red = (plane.tobytes()[0] for plane in _planes(Image.new("RGB", (16, 16), colour)))
    return luma, blue, red


def _layers(words: Image.Image) -> Iterator[Layer]:
    """Cut the words' layer into the parts above and below the middle that hold anything."""
    width, height = words.size
    alpha = words.getchannel("A")
    middle = height // 4 * 2
    for top, bottom in ((0, middle), (middle, height)):
        box = alpha.crop((0, top, width, bottom)).getbbox()
        if box is None:
            continue
        left, upper = box[0] // 2 * 2, (top + box[1]) // 2 * 2
        part = (left, upper, box[2] + box[2] % 2, top + box[3] + box[3] % 2)
        yield Layer(
            planes=_planes(words.crop(part).convert("RGB")), masks=_masks(alpha.crop(part)), left=left, top=upper
        )


def _masks(mask: Image.Image) -> Planes:
    small = mask.reduce(2)
    return mask, small, small


def _drifts(size: Size, palette: Palette, chance: random.Random) -> Iterator[Drift]:
    for colour, share in ((palette.light, 0.7), (palette.warm, 1.0), (palette.light, 0.3)):
        diameter = round(min(size) * share) // 2 * 2
        yield Drift(
            colour=_yuv(colour),
            masks=_masks(glow(diameter, strength=0.7)),
            pace=(chance.choice((-1, 1)) * chance.uniform(0.5, 0.9), chance.choice((-1, 1)) * chance.uniform(0.3, 0.8)),
            phase=(chance.random(), chance.random()),
        )


def _frames(film: Film) -> Iterator[Any]:
    width, height = film.size
    for index in range(film.frames):
        planes = _ground(film, index)
        for drift in film.drifts:
            _lay_glow(planes, drift, film, index)
        for layer in film.layers:
            for scale, plane, part, mask in zip((1, 2, 2), planes, layer.planes, layer.masks, strict=True):
                plane.paste(part, (layer.left // scale, layer.top // scale), mask)
        _lay_bar(planes, film, index)
        frame = av.VideoFrame(width, height, "yuv420p")
        for target, plane in zip(frame.planes, planes, strict=True):
            padded = plane.crop((0, 0, target.line_size, target.height)) if target.line_size != plane.width else plane
            target.update(padded.tobytes())
        frame.pts = index
        frame.time_base = Fraction(1, film.rate)
        yield frame


def _ground(film: Film, index: int) -> list[Image.Image]:
    """Return the part of the scenes that a frame shows: gliding to the right, and dissolving from one to the next."""
    width, height = film.size
    travel = (scene_size(film.size)[0] - width) // 2
    left = 2 * (index * travel // film.frames)
    at = index / max(1, film.frames - 1) * (len(film.scenes) - 1)
    current = min(int(at), len(film.scenes) - 1)
    share = min(1.0, max(0.0, (at - current - 0.35) / 0.3))
    planes = []
    for number, scale in enumerate((1, 2, 2)):
        box = (left // scale, 0, (left + width) // scale, height // scale)
        plane = film.scenes[current][number].crop(box)
        if share:
            plane = Image.blend(plane, film.scenes[current + 1][number].crop(box), share)
        planes.append(plane)
    return planes


def _lay_glow(planes: Sequence[Image.Image], drift: Drift, film: Film, index: int) -> None:
    turn = index / film.frames * film.seconds / 6
    side = drift.masks[0].width
    x, y = (
        (0.5 + 0.45 * math.sin(math.tau * (turn * pace + phase))) * length - side / 2
        for pace, phase, length in zip(drift.pace, drift.phase, film.size, strict=True)
    )
    for scale, plane, colour, mask in zip((1, 2, 2), planes, drift.colour, drift.masks, strict=True):
        plane.paste(colour, (round(x / 2) * 2 // scale, round(y / 2) * 2 // scale), mask)


def _lay_bar(planes: Sequence[Image.Image], film: Film, index: int) -> None:
    width, height = film.size
    done = round(width * (index + 1) / film.frames / 2) * 2
    thick = max(2, height // 360 * 2)
    for scale, plane, colour in zip((1, 2, 2), planes, film.bar, strict=True):
        plane.paste(colour, (0, (height - thick) // scale, done // scale, height // scale))
