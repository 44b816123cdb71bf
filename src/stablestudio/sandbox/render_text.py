"""Words for the sandbox's pictures: what the bundled font can show, wrapped and sized to a box."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from PIL import ImageFont

#: No picture shows more of a prompt than this many characters.
PROMPT_CAP = 1500
#: Distance of base lines, in font sizes.
LEADING = 1.22

_ELLIPSIS = "…"
# Keys are escaped: dashes, dots and quotes look the same in most editors.
_LOOKALIKES = str.maketrans(
    {
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"),
        **dict.fromkeys("\u2022\u2219\u30fb\u25cf\u25aa", "·"),
        **dict.fromkeys("\u201e\u201f", "“"),
        **dict.fromkeys("\u201a\u201b", "'"),
        "\u00d7": "x",
        "\u0131": "i",
        "ß": "ss",
        "æ": "ae",
        "Æ": "AE",
        "œ": "oe",
        "Œ": "OE",
        "ø": "o",
        "Ø": "O",
        "ł": "l",
        "Ł": "L",
        "đ": "d",
        "Đ": "D",
        "ð": "d",
        "þ": "th",
        "€": "EUR ",
        "£": "GBP ",
    }
)
# Widths are measured once at this size and scaled: glyphs of a scalable font are nearly proportional.
_RULER = 100
# Longer than this many letters is an address or noise, and may be broken.
_WORD = 18

Measure = Callable[[str], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Text ready to be drawn: its lines and the font size in pixels."""

    lines: tuple[str, ...]
    size: int

    @property
    def height(self) -> int:
        """Pixels from the top of the first line to below the last descender."""
        return round(len(self.lines) * self.size * LEADING)


@lru_cache(maxsize=128)
def font(size: int) -> ImageFont.FreeTypeFont:
    """Return the bundled font at a size in pixels."""
    loaded = ImageFont.load_default(size)
    if not isinstance(loaded, ImageFont.FreeTypeFont):
        raise TypeError("Pillow was built without FreeType")
    return loaded


def width(text: str) -> float:
    """Return the width of a text in font sizes, without kerning."""
    return sum(map(_advance, text))


@lru_cache(maxsize=4096)
def _advance(letter: str) -> float:
    return font(_RULER).getlength(letter) / _RULER


def readable(text: str) -> str:
    """Return one line of text that the bundled font can show; scripts it lacks become ellipses.

    The font covers ASCII and little more, so accents are dropped and look-alikes used. A text of which no letter
    remains is described instead, so that a picture never stands there without words.
    """
    plain = " ".join(text[:PROMPT_CAP].split())
    shown = "".join(_shown(unicodedata.normalize("NFKD", plain.translate(_LOOKALIKES))))
    shown = " ".join(shown.split())
    if plain and not any(letter.isalnum() for letter in shown):
        return f"A prompt of {len(text)} characters that the sandbox's font does not have"
    return shown + _ELLIPSIS if len(text) > PROMPT_CAP else shown


def _shown(text: str) -> Iterator[str]:
    missing = False
    for letter in text:
        if unicodedata.combining(letter):
            continue
        if letter == " " or _has_glyph(letter):
            missing = False
            yield letter
        elif not missing:
            missing = True
            yield _ELLIPSIS


@lru_cache(maxsize=4096)
def _has_glyph(letter: str) -> bool:
    return letter.isprintable() and bytes(font(32).getmask(letter)) != _no_glyph()


@lru_cache(maxsize=1)
def _no_glyph() -> bytes:
    return bytes(font(32).getmask("\U0010ffff"))


def fit(text: str, *, box: tuple[int, int], largest: int, smallest: int, measure: Measure = width) -> Block:
    """Return the text at the largest size at which it fits into `box` pixels; at the smallest, cut it with an ellipsis.

    Ordinary words stay whole where any size allows it.
    """
    widest = max((measure(word) for word in text.split() if len(word) <= _WORD), default=0)
    size = largest
    while size > smallest:
        lines = wrap(text, limit=box[0] / size, measure=measure)
        if widest * size <= box[0] and len(lines) * size * LEADING <= box[1]:
            return Block(lines=tuple(lines), size=size)
        size = max(smallest, round(size * 0.92) if size > 12 else size - 1)
    lines = wrap(text, limit=box[0] / size, measure=measure)
    room = max(1, int(box[1] / (size * LEADING)))
    if len(lines) > room:
        lines = [*lines[: room - 1], clip(lines[room - 1] + _ELLIPSIS, limit=box[0] / size, measure=measure)]
    return Block(lines=tuple(lines), size=size)


def wrap(text: str, *, limit: float, measure: Measure = width) -> list[str]:
    """Break a text into lines no wider than `limit` font sizes; words that are wider are broken too."""
    lines: list[str] = []
    line, used = "", 0.0
    space = measure(" ")
    for word in _pieces(text, limit, measure):
        wide = measure(word)
        if line and used + space + wide <= limit:
            line, used = f"{line} {word}", used + space + wide
            continue
        if line:
            lines.append(line)
        line, used = word, wide
    return [*lines, line] if line else lines


def _pieces(text: str, limit: float, measure: Measure) -> Iterator[str]:
    for word in text.split():
        if measure(word) <= limit:
            yield word
            continue
        rest = word
        while rest:
            head = _head(rest, limit, measure) or rest[0]
            yield head
            rest = rest[len(head) :]


def _head(text: str, limit: float, measure: Measure) -> str:
    used = 0.0
    for index, letter in enumerate(text):
        used += measure(letter)
        if used > limit:
            return text[:index]
    return text


def clip(text: str, *, limit: float, measure: Measure = width) -> str:
    """Return the text cut to `limit` font sizes, with an ellipsis where something is missing."""
    if measure(text) <= limit:
        return text
    return _head(text, limit - measure(_ELLIPSIS), measure).rstrip(" " + _ELLIPSIS) + _ELLIPSIS
