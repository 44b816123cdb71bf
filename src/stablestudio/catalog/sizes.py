"""Pixel sizes for an aspect ratio, by area or by short side."""

from __future__ import annotations

from functools import cache
from math import sqrt

MEGAPIXEL = 1 << 20


@cache
def of_area(ratio: str, pixels: int, *, most: int, step: int = 16) -> tuple[int, int]:
    """Return the width and height nearest to an area, in steps, with at most `most` pixels."""
    across, down = _sides(ratio)
    width = _stepped(sqrt(pixels * across / down), step)
    height = _stepped(sqrt(pixels * down / across), step)
    while width * height > most:
        if width >= height:
            width -= step
        else:
            height -= step
    return width, height


@cache
def of_short_side(ratio: str, short: int, *, step: int = 16) -> tuple[int, int]:
    """Return the width and height whose shorter side is `short`, the longer one in steps."""
    across, down = _sides(ratio)
    long = _stepped(short * max(across, down) / min(across, down), step)
    return (long, short) if across >= down else (short, long)


def pixels(size: str) -> tuple[int, int]:
    """Read a size such as `1280x720` or `1280*720`."""
    width, height = size.replace("*", "x").split("x")
    return int(width), int(height)


def _sides(ratio: str) -> tuple[float, float]:
    across, down = ratio.split(":")
    return float(across), float(down)


def _stepped(side: float, step: int) -> int:
    return round(side / step) * step
