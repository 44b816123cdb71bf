from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import av
import pytest
from PIL import Image, ImageChops, ImageStat

from stablestudio.catalog import VideoOutput
from stablestudio.media.probe import probe
from stablestudio.sandbox.render_video import frame_rate
from stablestudio.sandbox.renderer import Brief, render
from tests import media_samples as samples

BRIEF = Brief(
    title="Veo 3.1 - generate",
    prompt="a fox runs",
    seed=3,
    output=VideoOutput(width=320, height=180, seconds=2, audio=True),
)


def _sized(width: int, height: int, *, seconds: int = 1, audio: bool = False) -> Brief:
    return replace(BRIEF, output=VideoOutput(width=width, height=height, seconds=seconds, audio=audio))


def _opened(data: bytes) -> Any:
    return av.open(io.BytesIO(data))


def _frames(data: bytes) -> list[Image.Image]:
    with _opened(data) as container:
        return [frame.to_image() for frame in container.decode(video=0)]


def _boxes(data: bytes) -> list[bytes]:
    at, names = 0, []
    while at < len(data):
        names.append(data[at + 4 : at + 8])
        at += int.from_bytes(data[at : at + 4])
    return names


def _mean(picture: Image.Image) -> list[float]:
    width, height = picture.size
    return ImageStat.Stat(picture.crop((0, height // 3, width, height // 2))).mean


# Among them planes whose lines are padded, and an odd number of chroma rows or columns.
@pytest.mark.parametrize("size", [(320, 180), (180, 320), (854, 480), (256, 256), (130, 270), (960, 540)])
def test_a_clip_has_exactly_the_asked_size_and_is_what_browsers_play(size: tuple[int, int]) -> None:
    rendered = render(_sized(*size))
    assert rendered.content_type == probe(rendered.data).content_type == "video/mp4"
    with _opened(rendered.data) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (context.name, context.pix_fmt, stream.profile) == ("h264", "yuv420p", "High")
        assert (context.width, context.height) == size
        assert len(container.streams.audio) == 0


@pytest.mark.parametrize("seconds", [1, 3, 5])
@pytest.mark.parametrize("audio", [True, False])
def test_the_duration_is_exact_and_sound_is_there_only_when_asked(seconds: int, audio: bool) -> None:  # noqa: FBT001 - parametrized
    data = render(_sized(128, 72, seconds=seconds, audio=audio)).data
    with _opened(data) as container:
        picture = container.streams.video[0]
        assert float(picture.duration * picture.time_base) == seconds
        assert container.duration == pytest.approx(seconds * av.time_base, abs=av.time_base / 12)
        assert len(container.streams.audio) == int(audio)
        for track in container.streams.audio:
            assert (track.codec_context.name, track.codec_context.channels) == ("aac", 2)
    assert len(_frames(data)) == seconds * frame_rate((128, 72))


def test_the_index_comes_before_the_frames() -> None:
    names = _boxes(render(BRIEF).data)
    assert names.index(b"moov") < names.index(b"mdat")


def test_the_sound_is_audible_but_does_not_clip() -> None:
    with _opened(render(BRIEF).data) as container:
        levels = [
            abs(level) for frame in container.decode(audio=0) for level in memoryview(bytes(frame.planes[0])).cast("f")
        ]
    assert 0.05 < max(levels) < 0.9


def test_the_same_brief_gives_the_same_bytes_and_another_seed_others() -> None:
    first = render(BRIEF).data
    assert render(BRIEF).data == first
    assert render(replace(BRIEF, seed=4)).data != first


def test_something_moves_while_the_words_stand_still() -> None:
    frames = _frames(render(_sized(320, 180, seconds=3)).data)
    first, last = frames[0], frames[-1]
    middle = (0, 60, 320, 100)
    moved = ImageStat.Stat(ImageChops.difference(first.crop(middle), last.crop(middle)).convert("L")).mean[0]
    assert moved > 2
    badges = [frame.crop((245, 8, 311, 22)).convert("L") for frame in frames]
    assert all(badge.histogram()[-20:] != [0] * 20 for badge in badges)
    assert ImageStat.Stat(ImageChops.difference(badges[0], badges[-1])).mean[0] < 12


def test_colours_survive_the_way_into_the_encoders_planes() -> None:
    for colour in (samples.RED, samples.BLUE, (30, 160, 60)):
        frame = _frames(render(replace(_sized(320, 180), inputs=(samples.image(colour=colour),))).data)[0]
        shown = frame.getpixel((160, 70))
        assert isinstance(shown, tuple)
        assert all(abs(int(part) - wanted) < 14 for part, wanted in zip(shown, colour, strict=True))


def test_a_clip_begins_with_its_first_input_and_ends_with_its_second() -> None:
    inputs = (samples.image(colour=samples.RED), samples.image(colour=samples.BLUE))
    frames = _frames(render(replace(_sized(320, 180), inputs=inputs)).data)
    first, last = _mean(frames[0]), _mean(frames[-1])
    assert first[0] > first[2] + 60
    assert last[2] > last[0] + 60


def test_videos_and_sounds_may_be_references() -> None:
    inputs = (samples.clip(colour=samples.BLUE), samples.wav(), samples.image())
    first = _mean(_frames(render(replace(_sized(320, 180), inputs=inputs)).data)[0])
    assert first[2] > first[0] + 60


def test_odd_sides_are_refused_and_not_rounded() -> None:
    with pytest.raises(ValueError, match="even sides"):
        render(_sized(321, 180))


def test_larger_pictures_have_fewer_frames() -> None:
    assert frame_rate((1280, 720)) > frame_rate((1920, 1080)) > frame_rate((3840, 2160)) >= 5
