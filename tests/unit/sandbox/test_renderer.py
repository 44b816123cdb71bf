from __future__ import annotations

import io
from dataclasses import replace

import pytest
from PIL import Image, ImageStat

from stablestudio.catalog import ImageOutput
from stablestudio.media.probe import UnreadableMedia, probe
from stablestudio.sandbox.renderer import Brief, render
from tests import media_samples as samples

BRIEF = Brief(
    title="Nano Banana - generate",
    prompt="a fox reads the newspaper",
    seed=7,
    output=ImageOutput(width=256, height=256, format="png", quality=None, transparent=False),
)


def _drawn(brief: Brief) -> Image.Image:
    picture = Image.open(io.BytesIO(render(brief).data))
    picture.load()
    return picture


def _sized(width: int, height: int, format_: str = "png", *, transparent: bool = False) -> Brief:
    return replace(
        BRIEF,
        output=ImageOutput(width=width, height=height, format=format_, quality=None, transparent=transparent),  # type: ignore[arg-type] # parametrized
    )


def _mean(picture: Image.Image) -> list[float]:
    middle = picture.convert("RGB").crop((0, picture.height // 4, picture.width, picture.height // 2))
    return ImageStat.Stat(middle).mean


@pytest.mark.parametrize("format_", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("size", [(512, 512), (672, 384), (384, 672), (1448, 181), (64, 512), (333, 77)])
def test_size_and_format_are_exactly_as_asked(format_: str, size: tuple[int, int]) -> None:
    rendered = render(_sized(*size, format_))
    found = probe(rendered.data)
    assert rendered.content_type == found.content_type == f"image/{format_}"
    assert (found.width, found.height) == size
    assert Image.open(io.BytesIO(rendered.data)).mode == "RGB"


def test_four_thousand_pixels_square() -> None:
    found = probe(render(_sized(4096, 4096)).data)
    assert (found.width, found.height) == (4096, 4096)


@pytest.mark.parametrize("format_", ["png", "webp"])
@pytest.mark.parametrize("size", [(256, 256), (512, 64)])
def test_a_transparent_picture_is_really_clear_outside_and_solid_inside(format_: str, size: tuple[int, int]) -> None:
    picture = _drawn(_sized(*size, format_, transparent=True))
    assert picture.mode == "RGBA"
    alpha = picture.getchannel("A")
    width, height = size
    corners = [alpha.getpixel(at) for at in ((0, 0), (width - 1, 0), (0, height - 1), (width - 1, height - 1))]
    assert max(int(level) for level in corners if isinstance(level, (int, float))) <= 8
    assert alpha.getpixel((width // 2, height // 2)) == 255


def test_quality_decides_the_size_of_lossy_files_and_zero_is_a_quality() -> None:
    for format_ in ("jpeg", "webp"):
        lengths = [
            len(render(replace(BRIEF, output=ImageOutput(width=256, height=256, format=format_, quality=quality))).data)
            for quality in (0, 60, 100)
        ]
        assert lengths == sorted(set(lengths))


def test_the_same_brief_gives_the_same_bytes() -> None:
    edited = replace(BRIEF, inputs=(samples.image(), samples.wav()))
    for brief in (BRIEF, edited, _sized(128, 128, "webp", transparent=True)):
        assert render(brief).data == render(brief).data


def test_seed_prompt_and_title_each_change_the_picture() -> None:
    variants = [
        BRIEF,
        replace(BRIEF, seed=8),
        replace(BRIEF, prompt="a cat"),
        replace(BRIEF, title="Grok - generate"),
    ]
    assert len({render(brief).data for brief in variants}) == len(variants)


def test_every_picture_carries_the_mark() -> None:
    for seed in range(6):
        badge = _drawn(replace(BRIEF, seed=seed)).convert("L").crop((128, 0, 256, 48))
        assert badge.getextrema()[1] == 255


@pytest.mark.parametrize("prompt", ["", "x" * 32_000, "word " * 6400, "猫" * 300, "\x00\u202e\ufffd"])
def test_any_prompt_can_be_written(prompt: str) -> None:
    assert _drawn(replace(BRIEF, prompt=prompt)).size == (256, 256)


def test_an_edit_follows_the_colours_of_its_first_input() -> None:
    red, blue = (
        _mean(_drawn(replace(BRIEF, inputs=(samples.image(colour=colour), samples.image()))))
        for colour in (samples.RED, samples.BLUE)
    )
    assert red[0] > red[2] + 60
    assert blue[2] > blue[0] + 60


@pytest.mark.parametrize("further", [samples.image(colour=samples.BLUE), samples.clip(colour=samples.BLUE)])
def test_further_inputs_lie_on_the_picture_as_tiles(further: bytes) -> None:
    first = samples.image(colour=samples.RED)
    one, two = (_drawn(replace(BRIEF, inputs=inputs)) for inputs in ((first,), (first, further)))
    assert _bluish(two) > _bluish(one) + 200


def _bluish(picture: Image.Image) -> int:
    red, _, blue = picture.convert("RGB").split()
    pairs = zip(red.tobytes(), blue.tobytes(), strict=True)
    return sum(1 for r, b in pairs if b > 170 and r < 60)


def test_a_sound_is_shown_and_leaves_the_ground_generated() -> None:
    silent, sounding = _drawn(BRIEF), _drawn(replace(BRIEF, inputs=(samples.wav(),)))
    assert sounding.tobytes() != silent.tobytes()
    assert sounding.crop((0, 60, 256, 110)).tobytes() == silent.crop((0, 60, 256, 110)).tobytes()


def test_a_video_can_be_the_ground_of_an_edit() -> None:
    mean = _mean(_drawn(replace(BRIEF, inputs=(samples.clip(colour=samples.BLUE),))))
    assert mean[2] > mean[0] + 60


def test_many_inputs_are_counted_where_they_find_no_room() -> None:
    few, many = (_drawn(replace(BRIEF, inputs=(samples.image(),) * count)) for count in (9, 15))
    assert few.tobytes() != many.tobytes()


@pytest.mark.parametrize("bad", [b"", b"<svg/>", samples.image()[:60], samples.bomb_png()])
def test_an_input_that_cannot_be_decoded_fails_the_work(bad: bytes) -> None:
    with pytest.raises(UnreadableMedia):
        render(replace(BRIEF, inputs=(samples.image(), bad)))
