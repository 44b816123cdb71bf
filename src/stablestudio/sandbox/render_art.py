"""The pictures of the sandbox: posters made of gradients and curves, all from one stream of chance."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageOps

Colour = tuple[int, int, int]
Size = tuple[int, int]

# Curves are drawn without smoothing on a sketch of about this many pixels and then scaled to the picture.
_SKETCH_PIXELS = 2_200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Palette:
    """Five colours from dark to light; `words` in a prompt call for it."""

    words: frozenset[str]
    ink: Colour
    deep: Colour
    mid: Colour
    warm: Colour
    light: Colour

    def tone(self, lightness: float) -> Colour:
        """Return the colour at a lightness from 0 (ink) to 1 (light)."""
        ladder = (self.ink, self.deep, self.mid, self.warm, self.light)
        step = max(0.0, min(1.0, lightness)) * 4
        rung = min(3, int(step))
        return mix(ladder[rung], ladder[rung + 1], step - rung)


def _palette(words: str, *colours: str) -> Palette:
    ink, deep, mid, warm, light = (_rgb(colour) for colour in colours)
    return Palette(words=frozenset(words.split()), ink=ink, deep=deep, mid=mid, warm=warm, light=light)


def _rgb(colour: str) -> Colour:
    red, green, blue = bytes.fromhex(colour)
    return red, green, blue


PALETTES = (
    _palette("sunset sunrise dusk dawn evening purple", "1b1035", "4a1d6a", "b5366f", "f4725d", "ffd29d"),
    _palette("ocean sea lake river water beach rain blue", "04182f", "0b3c5d", "1c7293", "5bc0be", "e0fbfc"),
    _palette("forest tree trees garden leaf jungle green", "0b1f17", "1d4d3a", "3f7d58", "a3c585", "f4f1bb"),
    _palette("desert sand fire fox autumn orange gold", "2b1310", "7a2e1f", "c8553d", "f2a65a", "fbe8c8"),
    _palette("night moon star stars space galaxy city", "05060f", "141b41", "306bac", "6f9ceb", "e4e9ff"),
    _palette("rose love heart flower flowers pink red", "2a0f1e", "7b2d4b", "c9677c", "f2a7a0", "fdece2"),
    _palette("robot future neon cyber glass mint teal", "0b1a26", "13505b", "119da4", "7fe0c4", "f3ffe2"),
    _palette("dream magic fairy cloud lavender violet", "1a1333", "45308a", "8a63d2", "cfa8ef", "fbeaff"),
)


def choose_palette(prompt: str, *, chance: random.Random) -> Palette:
    """Return a palette that a word of the prompt calls for, else any."""
    words = set(prompt[:2000].lower().replace(",", " ").replace(".", " ").split())
    anyone = chance.choice(PALETTES)
    return next((palette for palette in PALETTES if palette.words & words), anyone)


def paint(size: Size, *, palette: Palette, chance: random.Random) -> Image.Image:
    """Return an RGB poster of exactly `size` pixels."""
    sketch = sketch_size(size)
    scene = chance.choice((_dunes, _silk, _planet))
    return scene(sketch, palette, chance).resize(size, Image.Resampling.BICUBIC)


def sketch_size(size: Size) -> Size:
    """Return the size to draw at: up to double for small pictures, so that edges are smooth, less for large ones."""
    factor = min(2.0, math.sqrt(_SKETCH_PIXELS / (size[0] * size[1])))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Return the colour `share` of the way from the first to the second."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def glow(diameter: int, *, strength: float) -> Image.Image:
    """Return a mask that fades from `strength` (0 to 1) in the middle to nothing at the rim."""
    disc = Image.radial_gradient("L").point(lambda away: max(0.0, 1 - away / 180) ** 2 * 255 * strength)
    return disc.resize((diameter, diameter), Image.Resampling.BICUBIC)


def ribbons(picture: Image.Image, *, colour: Colour, chance: random.Random, count: int, opacity: int) -> None:
    """Draw translucent waves across a picture, each between two curves that drift apart."""
    width, height = picture.size
    reach = min(height, 2 * width)
    draw = ImageDraw.Draw(picture, "RGBA")
    base, swing, waves = chance.uniform(0.25, 0.6), chance.uniform(0.08, 0.2), chance.uniform(0.6, 1.3)
    tilt, phase = chance.uniform(-0.3, 0.3), chance.uniform(0, math.tau)

    def lift(x: float, offset: float) -> float:
        return tilt * (x - 0.5) + offset * (0.3 + x) + swing * math.sin(math.tau * waves * x + phase + offset * 5)

    def curve(offset: float) -> list[tuple[float, float]]:
        return [(step / 80 * width, height * base + reach * lift(step / 80, offset)) for step in range(81)]

    for index in range(count):
        near, far = index * 0.035, index * 0.035 + 0.05 + 0.1 * index / count
        draw.polygon(curve(near) + curve(far)[::-1], fill=(*colour, opacity))


def _dunes(size: Size, palette: Palette, chance: random.Random) -> Image.Image:
    height = size[1]
    ramp = Image.linear_gradient("L").resize(size)
    sky = ImageOps.colorize(ramp, palette.deep, palette.light, mid=palette.warm, midpoint=110)
    _sun(sky, palette, chance)
    draw = ImageDraw.Draw(sky)
    layers = 6
    for layer in range(layers):
        depth = layer / (layers - 1)
        colour = mix(mix(palette.warm, palette.mid, min(1, depth * 1.6)), palette.ink, depth**1.3 * 0.9)
        level = height * (0.48 + 0.42 * depth)
        draw.polygon(_ridge(size, level, height * (0.03 + 0.05 * depth), chance), fill=colour)
    return sky


def _sun(sky: Image.Image, palette: Palette, chance: random.Random) -> None:
    width, height = sky.size
    radius = min(width, height) * chance.uniform(0.1, 0.17)
    x, y = width * chance.uniform(0.25, 0.75), height * chance.uniform(0.24, 0.4)
    halo = glow(round(radius * 6), strength=0.75)
    sky.paste(palette.light, (round(x - radius * 3), round(y - radius * 3)), halo)
    ImageDraw.Draw(sky).ellipse((x - radius, y - radius, x + radius, y + radius), fill=palette.light)


def _ridge(size: Size, level: float, swing: float, chance: random.Random) -> list[tuple[float, float]]:
    width, height = size
    reach = max(width, height)
    tones = [(chance.uniform(0.7, 1.6) * tone, chance.uniform(0, math.tau), 1 / tone) for tone in (1, 2.3, 5.1)]
    points = []
    for step in range(121):
        x = width * step / 120
        lift = sum(share * math.sin(math.tau * pitch * x / reach + phase) for pitch, phase, share in tones)
        points.append((x, level - swing * lift))
    return [*points, (width, height), (0, height)]


def _mesh(size: Size, palette: Palette, chance: random.Random) -> Image.Image:
    """Return soft patches of colour, darker to the lower left where the words stand."""
    stretch = math.sqrt(size[0] / size[1])
    columns, rows = max(2, round(4 * stretch)), max(2, round(4 / stretch))
    patches = Image.new("RGB", (columns, rows))
    for x in range(columns):
        for y in range(rows):
            lightness = 0.55 - 0.42 * y / (rows - 1) + 0.3 * x / (columns - 1) + chance.uniform(-0.2, 0.2)
            patches.putpixel((x, y), palette.tone(lightness))
    return patches.resize(size, Image.Resampling.BICUBIC)


def _silk(size: Size, palette: Palette, chance: random.Random) -> Image.Image:
    picture = _mesh(size, palette, chance)
    ribbons(picture, colour=palette.light, chance=chance, count=14, opacity=20)
    ribbons(picture, colour=palette.deep, chance=chance, count=9, opacity=26)
    return picture


def _planet(size: Size, palette: Palette, chance: random.Random) -> Image.Image:
    width, height = size
    side = min(size)
    picture = _mesh(size, palette, chance)
    draw = ImageDraw.Draw(picture, "RGBA")
    for _ in range(70):
        x, y, r = chance.uniform(0, width), chance.uniform(0, height), side * chance.uniform(0.0008, 0.003)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=(*palette.light, chance.randrange(60, 200)))
    radius = side * chance.uniform(0.2, 0.28)
    x, y = width * chance.uniform(0.4, 0.7), height * chance.uniform(0.3, 0.42)
    picture.paste(palette.light, (round(x - radius * 2), round(y - radius * 2)), glow(round(radius * 4), strength=0.5))
    ball = round(radius * 2)
    shade = Image.linear_gradient("L").rotate(chance.randrange(20, 70)).resize((ball, ball))
    disc = Image.new("L", (ball, ball))
    ImageDraw.Draw(disc).ellipse((0, 0, ball - 1, ball - 1), fill=255)
    picture.paste(
        ImageOps.colorize(shade, palette.light, palette.deep, mid=palette.warm),
        (round(x - radius), round(y - radius)),
        disc,
    )
    for ring in range(5):
        reach = radius * (1.45 + ring * 0.22)
        box = (x - reach, y - reach, x + reach, y + reach)
        start = chance.randrange(360)
        draw.arc(
            box,
            start,
            start + chance.randrange(120, 300),
            fill=(*palette.light, 130 - 18 * ring),
            width=max(1, side // 400),
        )
    return picture
