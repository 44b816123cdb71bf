from __future__ import annotations

import io
import random

import pytest
from PIL import Image

from stablestudio.media.probe import PIXEL_CAP, Probe, UnreadableMedia, first_frame, open_image, probe, sniff
from tests import media_samples as samples

IMAGES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}


@pytest.mark.parametrize(("format_", "content_type"), IMAGES.items())
def test_an_image_is_named_by_its_bytes(format_: str, content_type: str) -> None:
    assert probe(samples.image(format_)) == Probe(
        kind="image", content_type=content_type, width=64, height=48, seconds=None, has_audio=False
    )


@pytest.mark.parametrize(
    ("format_", "sound", "content_type"),
    [
        ("mp4", None, "video/mp4"),
        ("mp4", "aac", "video/mp4"),
        ("mov", None, "video/quicktime"),
        ("webm", None, "video/webm"),
        ("webm", "libopus", "video/webm"),
    ],
)
def test_a_video_tells_its_size_duration_and_sound(format_: str, sound: str | None, content_type: str) -> None:
    found = probe(samples.clip(format_, sound=sound, seconds=2))
    assert (found.kind, found.content_type, found.width, found.height) == ("video", content_type, 64, 48)
    assert found.seconds == pytest.approx(2, abs=0.1)
    assert found.has_audio is (sound is not None)


@pytest.mark.parametrize(
    ("data", "content_type"),
    [
        (samples.sound("mp3", "mp3"), "audio/mpeg"),
        (samples.sound("mp3", "mp3")[45:], "audio/mpeg"),
        (samples.sound("ogg", "libopus"), "audio/ogg"),
        (samples.sound("ipod", "aac"), "audio/mp4"),
        (samples.sound("mp4", "aac"), "audio/mp4"),
        (samples.sound("webm", "libopus"), "audio/webm"),
        (samples.wav(), "audio/wav"),
    ],
    ids=["mp3", "mp3 without tag", "ogg", "m4a", "mp4", "webm", "wav"],
)
def test_a_file_without_a_picture_is_a_sound(data: bytes, content_type: str) -> None:
    found = probe(data)
    assert (found.kind, found.content_type, found.width, found.has_audio) == ("audio", content_type, 0, True)
    assert found.seconds == pytest.approx(1, abs=0.1)


def test_sizes_are_those_of_the_upright_picture() -> None:
    turned = probe(samples.image("JPEG", orientation=6))
    filmed = probe(samples.clip(rotation=90))
    assert (turned.width, turned.height) == (48, 64)
    assert (filmed.width, filmed.height) == (48, 64)


def _hostile() -> dict[str, bytes]:
    png, jpeg, clip = samples.image(), samples.image("JPEG", size=(400, 300)), samples.clip(sound="aac", seconds=2)
    giant_chunk = bytearray(samples.wav())
    giant_chunk[16:20] = b"\xff\xff\xff\x7f"
    return {
        "empty": b"",
        "one byte": b"\xff",
        "text": b"a cat on the moon",
        "html": b"<!doctype html><script>alert(1)</script>",
        "svg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "playlist": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        "concat script": b"ffconcat version 1.0\nfile /etc/passwd\n",
        "jpeg head, script body": jpeg[:24] + b"<script>alert(1)</script>" * 40,
        "gif head, script body": b"GIF89a/*" + b"*/alert(1);" * 40,
        "png magic only": png[:8],
        "html before png": b"<html>" + png,
        "png without its end": png[: len(png) // 2],
        "jpeg without its end": jpeg[:-200],
        "mp4 without its end": clip[:-5],
        "mp4 half": clip[: len(clip) // 2],
        "webm half": (webm := samples.clip("webm", seconds=2))[: len(webm) // 2],
        "wav half": (wav := samples.wav())[: len(wav) // 2],
        "wav with a chunk of 2 GB": bytes(giant_chunk),
        "heic": b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00heicmif1" + bytes(64),
        "matroska": samples.clip("matroska"),
        "tiff": samples.image("TIFF"),
        "bitmap": samples.image("BMP"),
        "ftyp only": b"\x00\x00\x00\x10ftypisom\x00\x00\x02\x00",
    }


@pytest.mark.parametrize(("data"), [pytest.param(data, id=name) for name, data in _hostile().items()])
def test_what_is_no_whole_media_file_is_refused(data: bytes) -> None:
    with pytest.raises(UnreadableMedia) as refusal:
        probe(data)
    assert refusal.value.status == 400
    assert refusal.value.message.endswith(".")


def test_a_pixel_bomb_is_refused_before_it_is_decoded() -> None:
    bomb = samples.bomb_png()
    assert len(bomb) < 100_000
    for reader in (probe, open_image):
        with pytest.raises(UnreadableMedia, match="more than this service decodes"):
            reader(bomb)


def test_the_cap_counts_pixels_below_the_librarys_own_limit_too() -> None:
    assert Image.MAX_IMAGE_PIXELS == PIXEL_CAP
    just_above = samples.bomb_png(side=6400)
    with pytest.raises(UnreadableMedia):
        probe(just_above)


def test_an_image_reader_does_not_take_a_video_and_the_other_way_round() -> None:
    with pytest.raises(UnreadableMedia):
        open_image(samples.clip())
    with pytest.raises(UnreadableMedia):
        first_frame(samples.image())


def test_the_first_frame_is_upright_and_shows_the_clip() -> None:
    frame = first_frame(samples.clip(rotation=90, colour=samples.BLUE))
    assert frame is not None
    assert frame.size == (48, 64)
    red, _, blue = _pixel(frame)
    assert blue > 150 > red


def test_a_sound_has_no_frame() -> None:
    assert first_frame(samples.sound("mp3", "mp3")) is None


def test_flipped_bytes_are_read_or_refused_but_never_crash() -> None:
    chance = random.Random(20)
    files = [samples.image(format_) for format_ in IMAGES] + [samples.clip(sound="aac"), samples.wav()]
    outcomes: set[str] = set()
    for _ in range(400):
        data = bytearray(chance.choice(files))
        for _ in range(chance.choice((1, 4, 30))):
            data[chance.randrange(12, len(data))] = chance.randrange(256)
        try:
            outcomes.add(probe(bytes(data)).kind)
        except UnreadableMedia:
            outcomes.add("refused")
    assert {"image", "refused"} <= outcomes


def test_sniffing_needs_only_the_first_bytes() -> None:
    assert sniff(samples.clip("webm")[:64]) == "video/webm"
    assert sniff(b"RIFF\x00\x00\x00\x00WEBPVP8 ") == "image/webp"


def _pixel(picture: Image.Image) -> tuple[int, ...]:
    found = picture.getpixel((picture.width // 2, picture.height // 2))
    assert isinstance(found, tuple)
    return tuple(int(part) for part in found)


def test_a_jpeg_may_be_decoded_smaller_but_not_below_the_asked_size() -> None:
    large = samples.image("JPEG", size=(1600, 1200))
    assert open_image(large).size == (1600, 1200)
    small = open_image(large, at_least=(300, 300))
    assert 300 <= min(small.size) < 1200
    assert Image.open(io.BytesIO(large)).size == (1600, 1200)


def test_a_clip_that_declares_less_than_it_holds_is_as_long_as_it_is() -> None:
    data = bytearray(samples.clip(seconds=4))
    for box in (b"mvhd", b"mdhd"):  # ISO/IEC 14496-12 sections 8.2.2 and 8.4.2: timescale, then duration
        at = data.index(box) + 16
        scale = int.from_bytes(data[at : at + 4])
        data[at + 4 : at + 8] = scale.to_bytes(4)  # one second
    assert probe(bytes(data)).seconds == pytest.approx(4.0, abs=0.2)
