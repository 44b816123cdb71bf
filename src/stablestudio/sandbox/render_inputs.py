"""A buyer's own media in the sandbox's pictures: the first fill the canvas, the others lie on it as tiles."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from stablestudio.media.decoding import DECODER
from stablestudio.media.probe import sniff
from stablestudio.sandbox.render_art import Colour, Palette, Size
from stablestudio.sandbox.render_text import font

_PAPER: Colour = (255, 255, 255)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """Decoded inputs: `covers` have the size of the canvas, `tiles` are small squares."""

    covers: tuple[Image.Image, ...]
    tiles: tuple[Image.Image, ...]


def gather(inputs: Sequence[bytes], *, size: Size, covers: int, palette: Palette, tile: int) -> Gathered:
    """Decode inputs one after the other, at most `covers` of them at full size; raise UnreadableMedia for a bad one."""
    full: list[Image.Image] = []
    tiles: list[Image.Image] = []
    for data in inputs:
        wanted = size if len(full) < covers else (tile, tile)
        picture = _fitted(data, wanted)
        if picture is None:
            tiles.append(_waveform(data, tile, palette))
        elif len(full) < covers:
            full.append(picture)
        else:
            tiles.append(_with_arrow(picture) if sniff(data).startswith("video/") else picture)
    return Gathered(covers=tuple(full), tiles=tuple(tiles))


def _fitted(data: bytes, size: Size) -> Image.Image | None:
    pixels = DECODER.fitted(data, size=size)
    return None if pixels is None else Image.frombytes("RGB", size, pixels)


def tile_side(size: Size) -> int:
    """Return the side of a tile on a picture, in pixels."""
    return max(10, min(round(0.11 * math.sqrt(size[0] * size[1])), round(0.24 * min(size))))


def draw_tiles(picture: Image.Image, tiles: Sequence[Image.Image], *, left: int, bottom: int) -> None:
    """Lay tiles in a row that begins at `left` and stands on `bottom`; what finds no room is counted on the last one."""
    side = tiles[0].width
    gap = max(2, side // 8)
    room = max(1, (picture.width - 2 * left + gap) // (side + gap))
    shown = list(tiles[:room])
    if len(tiles) > room:
        shown[-1] = _with_count(shown[-1], len(tiles) - room + 1)
    mask = _rounded(side)
    edge = max(1, side // 28)
    frame = _rounded(side + 2 * edge)
    for index, tile in enumerate(shown):
        at = (left + index * (side + gap), bottom - side)
        picture.paste(_PAPER, (at[0] - edge, at[1] - edge), frame)
        picture.paste(tile, at, mask)


def _rounded(side: int) -> Image.Image:
    large = Image.new("L", (side * 4, side * 4))
    ImageDraw.Draw(large).rounded_rectangle((0, 0, side * 4 - 1, side * 4 - 1), radius=side * 0.6, fill=255)
    return large.reduce(4)


def _with_count(tile: Image.Image, count: int) -> Image.Image:
    dark = Image.blend(tile, Image.new("RGB", tile.size), 0.6)
    middle = tile.width / 2
    size = max(7, round(tile.width * 0.36))
    ImageDraw.Draw(dark).text((middle, middle), f"+{count}", fill=_PAPER, font=font(size), anchor="mm")
    return dark


def _with_arrow(tile: Image.Image) -> Image.Image:
    side = tile.width
    draw = ImageDraw.Draw(tile, "RGBA")
    draw.ellipse((side * 0.3, side * 0.3, side * 0.7, side * 0.7), fill=(0, 0, 0, 150))
    draw.polygon([(side * 0.44, side * 0.4), (side * 0.44, side * 0.6), (side * 0.61, side * 0.5)], fill=_PAPER)
    return tile


def _waveform(data: bytes, side: int, palette: Palette) -> Image.Image:
    """Return a tile that stands for a sound; equal sounds look equal."""
    tile = Image.new("RGB", (side, side), palette.deep)
    draw = ImageDraw.Draw(tile)
    bars = hashlib.sha256(data).digest()[:9]
    pitch = side / (len(bars) + 2)
    for index, level in enumerate(bars):
        middle, reach = pitch * (index + 1.5), side * (0.06 + 0.28 * level / 255)
        draw.rectangle(
            (middle - pitch * 0.28, side / 2 - reach, middle + pitch * 0.28, side / 2 + reach), fill=palette.light
        )
    return tile
