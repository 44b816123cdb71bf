from __future__ import annotations

import io

import pytest
from PIL import Image

from stablestudio.media.probe import UnreadableMedia
from stablestudio.media.thumbnail import still, thumbnail
from tests import media_samples as samples


def _opened(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


def _near(pixel: object, colour: tuple[int, int, int]) -> bool:
    assert isinstance(pixel, tuple)
    return all(abs(int(part) - wanted) < 12 for part, wanted in zip(pixel, colour, strict=True))


@pytest.mark.parametrize(
    ("size", "expected"), [((1600, 800), (512, 256)), ((800, 1600), (256, 512)), ((300, 200), (300, 200))]
)
def test_the_longest_side_is_bounded_and_nothing_is_enlarged(size: tuple[int, int], expected: tuple[int, int]) -> None:
    for format_ in ("PNG", "JPEG", "WEBP"):
        small = _opened(thumbnail(samples.image(format_, size=size), content_type="image/png"))
        assert (small.format, small.mode, small.size) == ("JPEG", "RGB", expected)


def test_the_longest_side_can_be_chosen() -> None:
    assert _opened(thumbnail(samples.image(size=(400, 200)), content_type="image/png", longest=100)).size == (100, 50)


def test_a_turned_photograph_stands_upright() -> None:
    turned = thumbnail(samples.image("JPEG", size=(1200, 600), orientation=6), content_type="image/jpeg")
    assert _opened(turned).size == (256, 512)


def test_transparency_lies_on_white() -> None:
    half = samples.image(mode="RGBA", colour=(255, 0, 0, 128))
    nothing = samples.image(mode="LA", colour=(0, 0))
    assert _near(_opened(thumbnail(half, content_type="image/png")).getpixel((5, 5)), (255, 127, 127))
    assert _near(_opened(thumbnail(nothing, content_type="image/png")).getpixel((5, 5)), (255, 255, 255))


@pytest.mark.parametrize(
    ("mode", "colour", "expected"), [("I;16", 0x8000, 128), ("L", 128, 128), ("P", 0, 0), ("1", 1, 255)]
)
def test_unusual_pixels_keep_their_lightness(mode: str, colour: int, expected: int) -> None:
    picture = still(samples.image(mode=mode, colour=colour), at_least=(1, 1))
    assert picture is not None
    assert _near(picture.getpixel((5, 5)), (expected, expected, expected))


def test_cmyk_photographs_become_rgb() -> None:
    picture = still(samples.image("JPEG", mode="CMYK", colour=(0, 255, 255, 0)), at_least=(1, 1))
    assert picture is not None
    assert _near(picture.getpixel((5, 5)), (255, 0, 0))


@pytest.mark.parametrize("format_", ["mp4", "mov", "webm"])
def test_a_video_is_shown_by_its_first_frame(format_: str) -> None:
    data = samples.clip(format_, colour=samples.BLUE)
    small = _opened(thumbnail(data, content_type="video/mp4"))
    assert small.size == (64, 48)
    pixel = small.getpixel((30, 20))
    assert isinstance(pixel, tuple)
    assert pixel[2] > 150 > pixel[0]


def test_a_sound_and_a_broken_file_have_no_thumbnail() -> None:
    with pytest.raises(UnreadableMedia, match="audio/mpeg"):
        thumbnail(samples.sound("mp3", "mp3"), content_type="audio/mpeg")
    with pytest.raises(UnreadableMedia):
        thumbnail(samples.image()[:40], content_type="image/png")
