"""What an input asks to be made: pixels, format, seconds, sound."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stablestudio.catalog import OFFERINGS, ImageOutput, Kind, OfferingInput, VideoOutput, by_path
from tests.strategies import inputs

A = "https://example.com/a.png"


def read(key: str, body: dict[str, Any]) -> OfferingInput:
    offering = by_path("/api/upload" if key == "upload" else f"/api/generate/{key}")
    assert offering is not None
    return offering.read(json.dumps(body).encode())


def image(key: str, body: dict[str, Any]) -> ImageOutput:
    output = read(key, {"prompt": "x"} | body).output()
    assert isinstance(output, ImageOutput)
    return output


def video(key: str, body: dict[str, Any]) -> VideoOutput:
    output = read(key, {"prompt": "x"} | body).output()
    assert isinstance(output, VideoOutput)
    return output


@pytest.mark.parametrize(
    ("ratio", "size", "pixels"),
    [
        (None, "1K", (1024, 1024)),
        ("1:1", "512", (512, 512)),
        ("16:9", "1K", (1376, 768)),
        ("16:9", "4K", (5504, 3072)),
        ("9:16", "2K", (1536, 2752)),
        ("21:9", "2K", (3168, 1344)),
        ("2:3", "512", (424, 632)),
        ("1:8", "1K", (384, 3072)),
        ("8:1", "512", (1536, 192)),
    ],
)
def test_nano_banana_sizes(ratio: str | None, size: str, pixels: tuple[int, int]) -> None:
    output = image("nano-banana/generate", {"imageSize": size} | ({"aspectRatio": ratio} if ratio else {}))
    assert (output.width, output.height, output.format, output.quality) == (*pixels, "png", None)


# Megapixels and ratio to pixels, rounded to sixteen
@pytest.mark.parametrize(
    ("ratio", "resolution", "pixels"),
    [
        ("1:1", "1 MP", (1024, 1024)),
        ("16:9", "1 MP", (1360, 768)),
        ("3:2", "1 MP", (1248, 832)),
        ("4:5", "1 MP", (912, 1152)),
        ("4:3", "1 MP", (1184, 880)),
        ("9:16", "1 MP", (768, 1360)),
        ("16:9", "2 MP", (1936, 1088)),
        ("16:9", "4 MP", (2720, 1536)),
        ("1:1", "4 MP", (2048, 2048)),
        ("1:1", "0.5 MP", (720, 720)),
    ],
)
def test_flux_sizes(ratio: str, resolution: str, pixels: tuple[int, int]) -> None:
    output = image("flux-2-max/generate", {"aspect_ratio": ratio, "resolution": resolution})
    assert (output.width, output.height) == pixels


@pytest.mark.parametrize("ratio", ["1:1", "16:9", "9:16", "3:2", "2:3", "4:5", "5:4", "4:3", "3:4"])
@pytest.mark.parametrize(("resolution", "megapixels"), [("0.5 MP", 0.5), ("1 MP", 1), ("2 MP", 2), ("4 MP", 4)])
def test_flux_sizes_keep_area_ratio_and_limit(ratio: str, resolution: str, megapixels: float) -> None:
    output = image("flux-2-max/generate", {"aspect_ratio": ratio, "resolution": resolution})
    across, down = map(int, ratio.split(":"))
    assert output.width % 16 == output.height % 16 == 0
    assert output.width * output.height <= 2048**2
    assert output.width * output.height == pytest.approx(megapixels * 2**20, rel=0.03)
    assert output.width / output.height == pytest.approx(across / down, rel=0.04)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, ("webp", 80)),
        ({"output_format": "jpg", "output_quality": 0}, ("jpeg", 0)),
        ({"output_format": "png", "output_quality": 55}, ("png", None)),
    ],
)
def test_flux_formats(body: dict[str, Any], expected: tuple[str, int | None]) -> None:
    output = image("flux-2-pro/generate", body)
    assert (output.format, output.quality) == expected


def test_an_edit_without_a_ratio_has_a_stand_in_shape() -> None:
    assert image("flux-2-pro/edit", {"images": [A]}) == ImageOutput(width=1024, height=1024, format="webp", quality=80)
    assert image("grok/edit", {"images": [A]}) == ImageOutput(width=1024, height=1024, format="jpeg")


@pytest.mark.parametrize(
    ("model", "body", "expected"),
    [
        ("gpt-image-2", {}, ImageOutput(width=1024, height=1024)),
        ("gpt-image-2", {"size": "auto"}, ImageOutput(width=1024, height=1024)),
        ("gpt-image-1.5", {"size": "auto"}, ImageOutput(width=1536, height=1024)),
        (
            "gpt-image-1",
            {"size": "1024x1536", "output_format": "jpeg"},
            ImageOutput(width=1024, height=1536, format="jpeg"),
        ),
        (
            "gpt-image-1.5",
            {"background": "transparent", "output_format": "webp"},
            ImageOutput(width=1024, height=1024, format="webp", transparent=True),
        ),
    ],
)
def test_gpt_image_outputs(model: str, body: dict[str, Any], expected: ImageOutput) -> None:
    assert image(f"{model}/generate", body) == expected


def test_grok_makes_every_shape_at_about_a_megapixel() -> None:
    for ratio in ("2:1", "1:2", "19.5:9", "9:19.5", "20:9", "9:20"):
        output = image("grok/generate", {"aspect_ratio": ratio})
        across, down = map(float, ratio.split(":"))
        assert output.width / output.height == pytest.approx(across / down, rel=0.03)
        assert output.width * output.height == pytest.approx(2**20, rel=0.03)


def clip(width: int, height: int, seconds: int) -> VideoOutput:
    return VideoOutput(width=width, height=height, seconds=seconds, audio=True)


@pytest.mark.parametrize(
    ("key", "body", "expected"),
    [
        ("grok-video/generate", {}, clip(1280, 720, 6)),
        ("grok-video/generate", {"resolution": "480p", "duration": 15}, clip(848, 480, 15)),
        ("grok-video/generate", {"aspect_ratio": "2:3"}, clip(720, 1088, 6)),
        ("seedance/t2v", {}, clip(1280, 720, 5)),
        ("seedance/t2v", {"aspectRatio": "3:4", "duration": "15"}, clip(834, 1112, 15)),
        ("seedance/t2v", {"aspectRatio": "21:9", "outputResolution": "1080p"}, clip(2206, 946, 5)),
        ("seedance/t2v", {"upscaleResolution": "4k"}, clip(3840, 2160, 5)),
        ("seedance/t2v", {"upscaleResolution": "4k", "resolution": "720x1280"}, clip(2160, 3840, 5)),
        ("seedance/t2v", {"resolution": "1280x540"}, clip(1280, 540, 5)),
        ("seedance-fast/t2v", {"outputResolution": "480p"}, clip(864, 496, 5)),
        ("seedance/i2v", {"urls": [A], "aspectRatio": "adaptive"}, clip(1280, 720, 5)),
        ("seedance/i2v", {"image": A, "resolution": "480p", "aspect_ratio": "9:16"}, clip(496, 864, 5)),
        ("wan-2.6/t2v", {"size": "1080*1920", "duration": "10"}, clip(1080, 1920, 10)),
        ("wan-2.6/i2v", {"image": A, "resolution": "1080p"}, clip(1920, 1080, 5)),
        ("sora-2/generate", {"size": "720x1280", "seconds": 12}, clip(720, 1280, 12)),
        ("sora-2-pro/generate", {"size": "1792x1024"}, clip(1792, 1024, 4)),
        ("veo-3.1/generate", {}, clip(1280, 720, 8)),
        ("veo-3.1/generate", {"resolution": "1080p", "aspectRatio": "9:16"}, clip(1080, 1920, 8)),
    ],
)
def test_video_outputs(key: str, body: dict[str, Any], expected: VideoOutput) -> None:
    assert video(key, body) == expected


def test_only_the_older_seedance_form_can_be_silent() -> None:
    assert video("seedance/i2v", {"image": A, "generate_audio": False}).audio is False
    assert video("seedance/i2v", {"image": A, "generate_audio": True}).audio is True
    assert video("seedance/i2v", {"image": A}).audio is True


def test_a_seed_is_told_where_it_was_given() -> None:
    assert read("wan-2.6/t2v", {"prompt": "x", "seed": 0}).seed_value() == 0
    assert read("wan-2.6/t2v", {"prompt": "x"}).seed_value() is None
    assert read("grok/generate", {"prompt": "x"}).seed_value() is None


def test_an_upload_makes_nothing() -> None:
    value = read("upload", {"filename": "a.png", "contentType": "image/png"})
    assert value.media() == ()
    with pytest.raises(TypeError, match="makes no output"):
        value.output()


@settings(max_examples=100)
@given(data=st.data())
def test_every_output_can_be_made(data: st.DataObject) -> None:
    offering = data.draw(st.sampled_from([each for each in OFFERINGS if each.kind is not Kind.UPLOAD]))
    output = offering.read(json.dumps(data.draw(inputs(offering))).encode()).output()
    assert output.width % 2 == output.height % 2 == 0, "video codecs need even sides"
    if isinstance(output, VideoOutput):
        assert output.seconds in offering.durations
    assert (offering.kind is Kind.VIDEO) == isinstance(output, VideoOutput)
