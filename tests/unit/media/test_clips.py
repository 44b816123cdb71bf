"""Clips of exact pixels: scaled to cover, the middle kept, the sound untouched."""

from __future__ import annotations

import io

import av
import pytest
from PIL import Image

from stablestudio.media.clips import reshaped
from stablestudio.media.probe import UnreadableMedia, first_frame, probe
from tests.media_samples import BLUE, clip, image, wav


def scaled(data: bytes, size: tuple[int, int]) -> bytes:
    made = reshaped(data, size=size)
    assert made is not None
    return made


def packets_of_sound(data: bytes) -> list[bytes]:
    with av.open(io.BytesIO(data), "r") as container:
        return [bytes(packet) for packet in container.demux(container.streams.audio[0]) if packet.dts is not None]


@pytest.mark.parametrize(("size", "wanted"), [((294, 126), (256, 108)), ((96, 96), (144, 144)), ((84, 112), (72, 96))])
def test_a_clip_gets_exactly_the_pixels_that_were_ordered(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    before = clip(size=size, seconds=2, colour=BLUE)
    after = probe(scaled(before, wanted))

    assert (after.width, after.height) == wanted
    assert after.seconds == pytest.approx(2, abs=0.1)


def test_the_picture_fills_the_frame_and_keeps_its_colour() -> None:
    picture = first_frame(scaled(clip(size=(294, 126), colour=BLUE), (256, 108)))

    assert isinstance(picture, Image.Image)
    for corner in ((0, 0), (255, 0), (0, 107), (255, 107), (128, 54)):
        seen = picture.convert("RGB").getpixel(corner)
        assert isinstance(seen, tuple)
        assert all(abs(have - want) < 25 for have, want in zip(seen, BLUE, strict=True))


def test_the_sound_is_carried_over_as_it_was() -> None:
    before = clip(size=(294, 126), seconds=2, sound="aac")
    after = scaled(before, (256, 108))

    assert packets_of_sound(after) == packets_of_sound(before)


def test_a_clip_of_the_right_size_is_left_alone() -> None:
    assert reshaped(clip(size=(64, 48)), size=(64, 48)) is None


@pytest.mark.parametrize("data", [b"nothing", image(), wav()])
def test_what_is_no_clip_is_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableMedia):
        reshaped(data, size=(32, 32))
