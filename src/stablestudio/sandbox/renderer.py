"""Render what a model would have made: real files of the asked format, with the prompt on them and marked SANDBOX."""

from __future__ import annotations

import io
import random
from dataclasses import dataclass

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from stablestudio.catalog import ImageOutput, VideoOutput
from stablestudio.sandbox.render_art import Palette, Size, choose_palette, paint, ribbons, sketch_size
from stablestudio.sandbox.render_inputs import Gathered, draw_tiles, gather, tile_side
from stablestudio.sandbox.render_labels import draw_labels, lay_out, prompt_top
from stablestudio.sandbox.render_video import Film, encode, make_film, scene_size

_QUALITY = {"jpeg": 90, "webp": 85}
# A clip begins with its first picture and dissolves into its second; the others are tiles.
_SCENES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Brief:
    """What to render: `inputs` are the bytes of the buyer's media, in the order of the request."""

    title: str
    prompt: str
    seed: int
    output: ImageOutput | VideoOutput
    inputs: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A finished file."""

    data: bytes
    content_type: str


def render(brief: Brief) -> Rendered:
    """Make the file of a brief; the same brief gives the same bytes, CPU bound.

    Raises UnreadableMedia where an input is not a picture, video or sound that can be decoded.
    """
    # Written out in words, so that equal seeds with unequal prompts differ too.
    chance = random.Random(f"{brief.seed}\n{brief.title}\n{brief.prompt}")  # noqa: S311 - a picture, not a secret
    palette = choose_palette(brief.prompt, chance=chance)
    output = brief.output
    if isinstance(output, VideoOutput):
        return Rendered(data=_clip(brief, output, palette, chance), content_type="video/mp4")
    return Rendered(data=_image(brief, output, palette, chance), content_type=f"image/{output.format}")


def _image(brief: Brief, output: ImageOutput, palette: Palette, chance: random.Random) -> bytes:
    size = (output.width, output.height)
    cut_out = output.transparent and output.format != "jpeg"
    inset = max(2, round(0.06 * min(size))) if cut_out else 0
    card = (size[0] - 2 * inset, size[1] - 2 * inset)
    inputs = gather(brief.inputs, size=card, covers=1, palette=palette, tile=tile_side(card))
    picture = (
        _edited(inputs.covers[0], palette, chance) if inputs.covers else paint(card, palette=palette, chance=chance)
    )
    _write(picture, brief, inputs, palette)
    return _encoded(_cut_out(picture, size, palette) if cut_out else picture, output)


def _edited(cover: Image.Image, palette: Palette, chance: random.Random) -> Image.Image:
    """Tint an input a little, so that an edit shows both what came in and that something was done to it."""
    picture = Image.blend(cover, Image.new("RGB", cover.size, palette.mid), 0.14)
    ribbons(picture, colour=palette.light, chance=chance, count=12, opacity=22)
    return picture


def _write(picture: Image.Image, brief: Brief, inputs: Gathered, palette: Palette) -> None:
    side = tile_side(picture.size)
    gap = side // 4
    reserved = side + gap if inputs.tiles else 0
    labels = lay_out(picture.size, title=brief.title, prompt=brief.prompt, reserved=reserved)
    draw_labels(picture, labels, palette=palette)
    if inputs.tiles:
        draw_tiles(picture, inputs.tiles, left=labels.margin, bottom=prompt_top(picture.size, labels) - gap)


def _cut_out(card: Image.Image, size: Size, palette: Palette) -> Image.Image:
    """Lay a card with round corners and a soft shadow on nothing."""
    left, top = (size[0] - card.width) // 2, (size[1] - card.height) // 2
    outline = _outline(card.size)
    mask = Image.new("L", size)
    mask.paste(outline, (left, top))
    picture = Image.new("RGB", size, palette.ink)
    picture.paste(card, (left, top))
    picture.putalpha(ImageChops.lighter(mask, _shadow(mask)))
    return picture


def _outline(size: Size) -> Image.Image:
    sketch = sketch_size(size)
    mask = Image.new("L", sketch)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, sketch[0] - 1, sketch[1] - 1), radius=0.09 * min(sketch), fill=255)
    return mask.resize(size, Image.Resampling.BICUBIC)


def _shadow(mask: Image.Image) -> Image.Image:
    small = mask.copy()
    small.thumbnail((256, 256))
    soft = small.filter(ImageFilter.GaussianBlur(0.012 * min(small.size))).point(lambda level: level * 0.35)
    return soft.resize(mask.size, Image.Resampling.BICUBIC)


def _encoded(picture: Image.Image, output: ImageOutput) -> bytes:
    out = io.BytesIO()
    if output.format == "png":
        picture.save(out, "PNG", compress_level=1)
        return out.getvalue()
    # Pillow reads a quality of 0 as "not given".
    quality = _QUALITY[output.format] if output.quality is None else max(1, output.quality)
    if output.format == "jpeg":
        picture.save(out, "JPEG", quality=quality)
    else:
        picture.save(out, "WEBP", quality=quality, method=1)
    return out.getvalue()


def _clip(brief: Brief, output: VideoOutput, palette: Palette, chance: random.Random) -> bytes:
    if output.width % 2 or output.height % 2:
        raise ValueError(f"H.264 in yuv420p needs even sides, not {output.width} x {output.height}")
    film = _film(brief, output, palette, chance)
    return encode(film, sound=chance if output.audio else None)


def _film(brief: Brief, output: VideoOutput, palette: Palette, chance: random.Random) -> Film:
    size = (output.width, output.height)
    wide = scene_size(size)
    inputs = gather(brief.inputs, size=wide, covers=_SCENES, palette=palette, tile=tile_side(size))
    words = Image.new("RGBA", size, (*palette.ink, 0))
    _write(words, brief, inputs, palette)
    return make_film(
        inputs.covers or (paint(wide, palette=palette, chance=chance),),
        size=size,
        seconds=output.seconds,
        words=words,
        palette=palette,
        chance=None if inputs.covers else chance,
    )
