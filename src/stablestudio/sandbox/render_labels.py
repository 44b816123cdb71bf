"""What is written on every picture of the sandbox: its title, the word SANDBOX and the prompt."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from PIL import Image, ImageDraw, ImageOps

from stablestudio.sandbox.render_art import Colour, Palette, Size
from stablestudio.sandbox.render_text import LEADING, Block, clip, fit, font, readable, width

#: The word that no picture of the sandbox goes without.
MARK = "SANDBOX"

_TRACKING = 0.14
_PAPER: Colour = (255, 255, 255)
_SMALLEST = 9
# How much of the ground the shade under the words takes away, of 255.
_VEIL = 190


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """The words of one picture, shaped for its size; all lengths in pixels."""

    margin: int
    header: int
    mark: int
    title: str
    title_below: bool
    prompt: Block

    @property
    def header_bottom(self) -> int:
        """Where the title's rows end."""
        rows = self.header * (2 if self.title_below else 1)
        return self.margin + round(rows * 1.5)


def lay_out(size: Size, *, title: str, prompt: str, reserved: int = 0) -> Labels:
    """Shape the words for a picture; `reserved` pixels of height are left free above the prompt."""
    wide, tall = size
    scale = math.sqrt(wide * tall)
    margin = max(4, round(0.05 * min(size)))
    header = max(_SMALLEST, min(round(0.027 * scale), round(0.18 * min(size))))
    inner = wide - 2 * margin
    mark = max(5, min(header, int(inner / (mark_width(1.0) + 1.2))))
    beside = inner - (mark_width(mark) + 1.2 * mark) - margin
    shown = readable(title)
    title_below = beside < width(shown) * header and wide < tall
    shown = clip(shown, limit=max(1.0, (inner if title_below else beside) / header))
    labels = Labels(
        margin=margin, header=header, mark=mark, title=shown, title_below=title_below, prompt=Block(lines=(), size=1)
    )
    room = tall - margin - labels.header_bottom - round(0.6 * header) - reserved
    limit = room if wide > 3 * tall else min(room, round(0.44 * tall))
    block = fit(
        readable(prompt),
        box=(round(0.8 * inner) if tall < wide <= 3 * tall else inner, max(1, limit)),
        largest=max(_SMALLEST, round(0.068 * scale)),
        smallest=max(_SMALLEST, round(0.02 * scale)),
    )
    return replace(labels, prompt=block)


def mark_width(size: float) -> float:
    """Return the width of the word SANDBOX at a font size, with its letters spaced out."""
    return size * (width(MARK) + _TRACKING * (len(MARK) - 1))


def draw_labels(picture: Image.Image, labels: Labels, *, palette: Palette) -> None:
    """Write on a picture: RGB, or RGBA that becomes a layer to lay over frames."""
    _shade(picture, labels, palette)
    draw = ImageDraw.Draw(picture)
    _draw_mark(draw, picture.size, labels, palette)
    _draw_title(draw, labels)
    _draw_prompt(draw, picture.size, labels, palette)


def prompt_top(size: Size, labels: Labels) -> int:
    """Return where the prompt's block begins, the short rule above it included."""
    return size[1] - labels.margin - labels.prompt.height - _rule_room(labels)


def _rule_room(labels: Labels) -> int:
    return round(labels.prompt.size * 0.55) if labels.prompt.lines else 0


def _shade(picture: Image.Image, labels: Labels, palette: Palette) -> None:
    """Darken the ground under the words, so that white reads on every picture."""
    wide, tall = picture.size
    if labels.prompt.lines:
        solid = max(0, prompt_top(picture.size, labels) - round(0.02 * tall))
        fade = min(solid, round(0.2 * tall))
        picture.paste(palette.ink, (0, solid - fade), _veil(wide, fade, tall - solid))
    bottom = min(tall, round(labels.header_bottom * 1.7))
    picture.paste(palette.ink, (0, 0), ImageOps.flip(_veil(wide, bottom, 0)))


def _veil(width: int, fade: int, solid: int) -> Image.Image:
    """Return a mask that grows from nothing over `fade` rows and then stays for `solid` rows."""
    column = Image.new("L", (1, fade + solid), _VEIL)
    ramp = Image.linear_gradient("L").crop((0, 0, 1, 256)).resize((1, max(1, fade)))
    column.paste(ramp.point(lambda level: level * _VEIL / 255), (0, 0))
    return column.resize((width, fade + solid))


def _draw_mark(draw: ImageDraw.ImageDraw, size: Size, labels: Labels, palette: Palette) -> None:
    height = round(labels.mark * 1.6)
    right, middle = size[0] - labels.margin, labels.margin + round(labels.header * 0.75)
    left = right - mark_width(labels.mark) - 1.2 * labels.mark
    box = (round(left), middle - height // 2, right, middle - height // 2 + height)
    draw.rounded_rectangle(box, radius=height // 2, fill=_PAPER)
    at = left + 0.6 * labels.mark
    bold = labels.mark // 22
    for letter in MARK:
        draw.text(
            (at, middle + round(labels.mark * 0.36)),
            letter,
            fill=palette.ink,
            font=font(labels.mark),
            anchor="ls",
            stroke_width=bold,
        )
        at += (width(letter) + _TRACKING) * labels.mark


def _draw_title(draw: ImageDraw.ImageDraw, labels: Labels) -> None:
    row = 1 if labels.title_below else 0
    at = (labels.margin, labels.margin + round(labels.header * (1.11 + 1.6 * row)))
    draw.text(at, labels.title, fill=_PAPER, font=font(labels.header), anchor="ls")


def _draw_prompt(draw: ImageDraw.ImageDraw, size: Size, labels: Labels, palette: Palette) -> None:
    block = labels.prompt
    if not block.lines:
        return
    top = prompt_top(size, labels)
    thick = max(1, block.size // 12)
    draw.rectangle((labels.margin, top, labels.margin + round(block.size * 1.4), top + thick - 1), fill=palette.warm)
    top += _rule_room(labels)
    for row, line in enumerate(block.lines):
        base = top + round(block.size * (LEADING * row + 0.92))
        draw.text((labels.margin, base), line, fill=_PAPER, font=font(block.size), anchor="ls")
