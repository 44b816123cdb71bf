"""BlurHash: some thirty letters from which a client paints a blurred picture while the real one loads.

The algorithm is the one of https://github.com/woltapp/blurhash/blob/master/Algorithm.md, on a picture scaled to 32 pixels.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

from PIL import Image

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~"
_SIDE = 32
_LONG, _SHORT = 4, 3  # waves along the longer and the shorter side
_LINEAR = tuple(
    value / 255 / 12.92 if value / 255 <= 0.04045 else ((value / 255 + 0.055) / 1.055) ** 2.4 for value in range(256)
)

Colour = tuple[float, float, float]


def blurhash(data: bytes) -> str:
    """Return the hash of a JPEG that we wrote ourselves; others belong to a decoder under limits."""
    picture = Image.open(io.BytesIO(data), formats=["JPEG"])
    waves = (_LONG, _SHORT) if picture.width >= picture.height else (_SHORT, _LONG)
    picture.draft("RGB", (_SIDE, _SIDE))
    return encode(picture.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BOX), *waves)


def encode(picture: Image.Image, across: int, down: int) -> str:
    """Return the hash of an RGB picture with that many waves across and down, 1 to 9 each."""
    first, *others = _factors(picture, across, down)
    most = max((abs(part) for colour in others for part in colour), default=0.0)
    steps = max(0, min(82, math.floor(most * 166 - 0.5))) if others else 0
    scale = (steps + 1) / 166
    return "".join(
        [
            _base83(across - 1 + (down - 1) * 9, 1),
            _base83(steps, 1),
            _base83(_packed([_srgb(part) for part in first], 256), 4),
            *(_base83(_packed([_quantized(part / scale) for part in colour], 19), 2) for colour in others),
        ]
    )


def _factors(picture: Image.Image, across: int, down: int) -> list[Colour]:
    """Return how much of each wave is in the picture, by colour; summed along the rows first, which saves most of it."""
    width, height = picture.size
    data = picture.tobytes()
    rows = [_rows(data[width * 3 * y : width * 3 * (y + 1)], width, across) for y in range(height)]
    found: list[Colour] = []
    for j in range(down):
        wave = [math.cos(math.pi * j * y / height) for y in range(height)]
        for i in range(across):
            share = (1 if i == j == 0 else 2) / (width * height)
            red, green, blue = (
                share * sum(strength * row[i][part] for strength, row in zip(wave, rows, strict=True))
                for part in range(3)
            )
            found.append((red, green, blue))
    return found


def _rows(row: bytes, width: int, across: int) -> list[Colour]:
    channels = [[_LINEAR[value] for value in row[part::3]] for part in range(3)]
    waves = [[math.cos(math.pi * i * x / width) for x in range(width)] for i in range(across)]
    return [(_dot(wave, channels[0]), _dot(wave, channels[1]), _dot(wave, channels[2])) for wave in waves]


def _dot(first: Sequence[float], second: Sequence[float]) -> float:
    return sum(one * other for one, other in zip(first, second, strict=True))


def _srgb(value: float) -> int:
    value = max(0.0, min(1.0, value))
    return int((value * 12.92 if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055) * 255 + 0.5)


def _quantized(value: float) -> int:
    return max(0, min(18, math.floor(math.copysign(math.sqrt(abs(value)), value) * 9 + 9.5)))


def _packed(parts: Sequence[int], base: int) -> int:
    red, green, blue = parts
    return (red * base + green) * base + blue


def _base83(value: int, length: int) -> str:
    return "".join(_DIGITS[value // 83**place % 83] for place in reversed(range(length)))
