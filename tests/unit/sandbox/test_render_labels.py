from __future__ import annotations

import pytest
from PIL import Image, ImageChops

from stablestudio.sandbox.render_art import PALETTES
from stablestudio.sandbox.render_labels import draw_labels, lay_out, mark_width, prompt_top

SIZES = [(1024, 1024), (1344, 768), (768, 1344), (1448, 181), (181, 1448), (512, 64), (64, 512), (854, 480)]
PALETTE = PALETTES[0]
GREY = (128, 128, 128)


@pytest.mark.parametrize("size", SIZES)
def test_the_mark_is_a_white_badge_with_dark_letters_inside_the_picture(size: tuple[int, int]) -> None:
    labels = lay_out(size, title="", prompt="a fox")
    picture = Image.new("RGB", size, GREY)
    draw_labels(picture, labels, palette=PALETTE)
    badge = picture.crop((0, 0, size[0], labels.margin + 2 * labels.header)).convert("L")
    white = badge.point(lambda level: 255 if level > 250 else 0).getbbox()
    assert white is not None
    inside = badge.crop(white)
    assert inside.width >= mark_width(labels.mark)
    dark = inside.histogram()
    assert sum(dark[:80]) > 0.06 * inside.width * inside.height


@pytest.mark.parametrize("size", SIZES)
def test_the_words_of_a_prompt_lie_in_their_block_and_within_the_margins(size: tuple[int, int]) -> None:
    labels = lay_out(size, title="", prompt="a lighthouse on a cliff in a storm")
    plain, written = (Image.new("RGB", size, GREY) for _ in range(2))
    draw_labels(plain, lay_out(size, title="", prompt=""), palette=PALETTE)
    draw_labels(written, labels, palette=PALETTE)
    bright = written.convert("L").point(lambda level: 255 if level > 200 else 0)
    block = bright.crop((0, prompt_top(size, labels), *size)).getbbox()
    assert block is not None
    assert block[0] >= labels.margin - 1
    assert block[2] <= size[0] - labels.margin + 2
    assert ImageChops.difference(plain, written).getbbox() is not None


@pytest.mark.parametrize("size", SIZES)
def test_the_prompt_never_reaches_into_the_header(size: tuple[int, int]) -> None:
    labels = lay_out(size, title="Nano Banana Pro - generate", prompt="word " * 2000)
    assert prompt_top(size, labels) >= labels.header_bottom - labels.header


def test_white_words_stand_on_shaded_ground_even_on_a_white_picture() -> None:
    picture = Image.new("RGB", (1024, 1024), "white")
    labels = lay_out(picture.size, title="Veo", prompt="a fox " * 30)
    draw_labels(picture, labels, palette=PALETTE)
    ground = picture.convert("L").crop((0, prompt_top(picture.size, labels), 1024, 1024))
    assert ground.getpixel((2, 5)) < 110  # type: ignore[operator] # one band
    assert ground.getpixel((2, ground.height - 3)) < 110  # type: ignore[operator] # one band


def test_on_an_empty_layer_only_the_labels_become_opaque() -> None:
    layer = Image.new("RGBA", (1280, 720), (*PALETTE.ink, 0))
    draw_labels(layer, lay_out(layer.size, title="Veo 3.1", prompt="a fox"), palette=PALETTE)
    alpha = layer.getchannel("A")
    assert alpha.getextrema() == (0, 255)
    assert alpha.crop((0, 250, 1280, 400)).getbbox() is None


def test_space_for_tiles_is_left_free() -> None:
    text = "word " * 400
    usual, squeezed = (lay_out((512, 512), title="", prompt=text, reserved=room) for room in (0, 300))
    assert squeezed.prompt.height < usual.prompt.height
