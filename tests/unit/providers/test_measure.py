"""A file is held against its order: the usual differences pass, a lower class is told, a fraction is a breach."""

from __future__ import annotations

import pytest

from stablestudio.catalog.values import ImageOutput, VideoOutput
from stablestudio.media.probe import Probe
from stablestudio.providers.measure import shortfalls
from stablestudio.server.providers import MADE
from tests.providers.works import work

CLIP = VideoOutput(width=1280, height=720, seconds=8, audio=True)


def picture(width: int, height: int) -> Probe:
    return Probe(kind="image", content_type="image/png", width=width, height=height, seconds=None, has_audio=False)


def clip(width: int = 1280, height: int = 720, seconds: float = 8.0, *, sound: bool = True) -> Probe:
    return Probe(kind="video", content_type="video/mp4", width=width, height=height, seconds=seconds, has_audio=sound)


@pytest.mark.parametrize("size", [(1024, 1024), (1536, 1024), (1280, 720), (4096, 4096), (888, 888)])
def test_sizes_that_come_near_to_the_order_pass(size: tuple[int, int]) -> None:
    assert shortfalls(ImageOutput(width=1024, height=1024), picture(*size)) == ()


@pytest.mark.parametrize(
    ("size", "is_breach"), [((724, 724), False), ((512, 512), False), ((511, 512), True), ((8, 8), True)]
)
def test_a_smaller_class_of_pixels_is_told_and_a_fraction_is_a_breach(size: tuple[int, int], is_breach: bool) -> None:  # noqa: FBT001
    (found,) = shortfalls(ImageOutput(width=1024, height=1024), picture(*size))

    assert (found.measure, found.ordered, found.made) == ("pixels", 1 << 20, size[0] * size[1])
    assert found.is_breach is is_breach


@pytest.mark.parametrize(
    "made", [clip(720, 720), clip(720, 1280), clip(1470, 630), clip(seconds=7.5), clip(seconds=30)]
)
def test_a_clip_in_another_shape_or_a_frame_shorter_passes(made: Probe) -> None:
    assert shortfalls(CLIP, made) == ()


@pytest.mark.parametrize(
    ("made", "measure", "is_breach"),
    [
        (clip(864, 496), "pixels", False),
        (clip(300, 160), "pixels", True),
        (clip(seconds=5), "seconds", False),
        (clip(seconds=4), "seconds", False),
        (clip(seconds=3.9), "seconds", True),
        (clip(sound=False), "sound", False),
    ],
)
def test_each_measure_of_a_clip_has_its_own_bounds(made: Probe, measure: str, is_breach: bool) -> None:  # noqa: FBT001
    assert [(each.measure, each.is_breach) for each in shortfalls(CLIP, made)] == [(measure, is_breach)]


def test_silence_that_was_ordered_is_no_lack() -> None:
    assert shortfalls(VideoOutput(width=1280, height=720, seconds=8, audio=False), clip(sound=False)) == ()


@pytest.mark.parametrize("key", [offering.key for offering in MADE])
def test_what_is_made_to_the_letter_passes_for_every_offering(key: str) -> None:
    wanted = work(key).input.output()
    exact = (
        clip(wanted.width, wanted.height, wanted.seconds, sound=wanted.audio)
        if isinstance(wanted, VideoOutput)
        else picture(wanted.width, wanted.height)
    )
    assert shortfalls(wanted, exact) == ()
