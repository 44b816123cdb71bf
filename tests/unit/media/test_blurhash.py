"""The hash is the one that other implementations give and read."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from PIL import Image

from stablestudio.media.blurhash import blurhash, encode

Paint = Callable[[int, int], tuple[int, int, int]]


def picture(size: tuple[int, int], paint: Paint) -> Image.Image:
    made = Image.new("RGB", size)
    for y in range(size[1]):
        for x in range(size[0]):
            made.putpixel((x, y), paint(x, y))
    return made


def gradient(x: int, y: int) -> tuple[int, int, int]:
    return x * 8, y * 12, x * y % 256


def noise(x: int, y: int) -> tuple[int, int, int]:
    return (x * x * 7 + y * 13) % 256, (x * 31 + y * y * 3) % 256, (x * 5 + y * 11) % 256


def half(x: int, y: int) -> tuple[int, int, int]:
    return (255, 255, 255) if x < 16 else (0, 0, 0)


# As the package `blurhash` 1.1.5 has them, a port of the first implementation.
@pytest.mark.parametrize(
    ("size", "paint", "waves", "wanted"),
    [
        ((32, 32), lambda *_: (255, 0, 0), (4, 3), "L9TI:j|cfQ|c|co1fQo1fQfQfQfQ"),
        ((8, 8), lambda *_: (0, 0, 0), (4, 3), "L00000fQfQfQfQfQfQfQfQfQfQfQ"),
        ((8, 8), lambda *_: (255, 255, 255), (3, 4), "TfTSUA~qfQ~qt7fQfQfQfQ~qt7fQ"),
        ((32, 20), gradient, (4, 3), "LxH24W2lwtX3qdWVjwfAgFfmfTfg"),
        ((16, 24), noise, (3, 4), "TTH2i-srSxs_NCR*I%NPE,xfrtnN"),
        ((16, 24), noise, (1, 1), "00H2i-"),
        ((32, 32), half, (4, 3), "L~Lqe9~qt7IUofofj[ayfQfQfQfQ"),
    ],
)
def test_the_hash_is_what_others_compute(
    size: tuple[int, int], paint: Paint, waves: tuple[int, int], wanted: str
) -> None:
    assert encode(picture(size, paint), *waves) == wanted


@pytest.mark.parametrize(("size", "first"), [((512, 288), "L"), ((288, 512), "T"), ((1, 1), "L"), ((3, 700), "T")])
def test_a_thumbnail_of_any_shape_has_a_hash_of_28_letters(size: tuple[int, int], first: str) -> None:
    out = io.BytesIO()
    Image.new("RGB", size, "teal").save(out, "JPEG")
    assert blurhash(out.getvalue())[0] == first
    assert len(blurhash(out.getvalue())) == 28
