"""The conditions across fields, each by itself: what it refuses, where, and what it lets by."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stablestudio.catalog import OfferingInput, by_path
from stablestudio.errors import InvalidInput

A, B, C = (f"https://example.com/{name}.png" for name in "abc")
V = "https://example.com/v.mp4"
S = "https://example.com/s.mp3"
PNG = "data:image/png;base64,AAAA"
MP4 = "data:video/mp4;base64,AAAA"
Found = list[tuple[tuple[str | int, ...], str]]


def read(key: str, body: dict[str, Any]) -> OfferingInput:
    offering = by_path(f"/api/generate/{key}")
    assert offering is not None
    return offering.read(json.dumps(body).encode())


def found(key: str, body: dict[str, Any]) -> Found:
    return [(issue.path, issue.code) for issue in refused(key, body).issues]


def refused(key: str, body: dict[str, Any]) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        read(key, body)
    return caught.value


VEO = ["veo-3.1/generate", "veo-3.1-fast/generate"]


@pytest.mark.parametrize("key", VEO)
@pytest.mark.parametrize("seconds", ["4", "6", 6])
@pytest.mark.parametrize("cause", [{"resolution": "1080p"}, {"image": A, "lastFrame": B}, {"referenceImages": [A]}])
def test_veo_needs_eight_seconds_for_1080p_last_frame_and_references(
    key: str, seconds: Any, cause: dict[str, Any]
) -> None:
    body = {"prompt": "x"} | cause
    error = refused(key, body | {"durationSeconds": seconds})
    assert [(each.path, each.code, each.allowed) for each in error.issues] == [
        (("durationSeconds",), "conflict", ("8",))
    ]
    assert next(reversed(cause)) in error.message
    assert read(key, body | {"durationSeconds": 8}) == read(key, body | {"durationSeconds": "8"})
    read(key, body)


@pytest.mark.parametrize(
    ("fields", "mode"),
    [
        ({}, "none"),
        ({"image": A}, "first-frame"),
        ({"image": A, "lastFrame": B}, "interpolation"),
        ({"referenceImages": [A, B, C]}, "reference"),
        ({"referenceImages": []}, "none"),
    ],
)
def test_veo_infers_the_image_mode(fields: dict[str, Any], mode: str) -> None:
    value = read("veo-3.1/generate", {"prompt": "x"} | fields)
    assert value.mode == mode  # type: ignore[attr-defined] # of Veo
    read("veo-3.1/generate", {"prompt": "x", "imageMode": mode} | fields)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"imageMode": "none", "image": A}, [(("image",), "conflict")]),
        ({"imageMode": "first-frame"}, [(("image",), "missing")]),
        ({"imageMode": "first-frame", "image": A, "lastFrame": B}, [(("lastFrame",), "conflict")]),
        ({"imageMode": "interpolation", "image": A}, [(("lastFrame",), "missing")]),
        ({"lastFrame": B}, [(("image",), "missing")]),
        ({"imageMode": "reference"}, [(("referenceImages",), "missing")]),
        ({"imageMode": "reference", "image": A}, [(("image",), "conflict"), (("referenceImages",), "missing")]),
        ({"image": A, "referenceImages": [B]}, [(("referenceImages",), "conflict")]),
        ({"image": A, "lastFrame": B, "referenceImages": [C]}, [(("referenceImages",), "conflict")]),
        ({"referenceImages": [A] * 4}, [(("referenceImages",), "too_many")]),
    ],
)
def test_veo_refuses_images_that_do_not_fit_the_mode(fields: dict[str, Any], expected: Found) -> None:
    assert found("veo-3.1/generate", {"prompt": "x"} | fields) == expected


def test_veo_says_which_mode_takes_the_field() -> None:
    assert refused("veo-3.1/generate", {"prompt": "x", "imageMode": "none", "image": A}).message == (
        "'image': imageMode 'none' does not take it; 'first-frame' and 'interpolation' do"
    )


@pytest.mark.parametrize("key", ["gpt-image-1.5/generate", "gpt-image-1.5/edit", "gpt-image-1/generate"])
def test_transparency_needs_png_or_webp(key: str) -> None:
    body = {"prompt": "x", "background": "transparent"} | ({"images": [A]} if key.endswith("edit") else {})
    error = refused(key, body | {"output_format": "jpeg"})
    assert [(each.path, each.code, each.allowed) for each in error.issues] == [
        (("output_format",), "conflict", ("png", "webp"))
    ]
    for file_format in ("png", "webp"):
        read(key, body | {"output_format": file_format})
    read(key, body)


def test_gpt_image_2_has_no_transparency() -> None:
    assert found("gpt-image-2/generate", {"prompt": "x", "background": "transparent"}) == [
        (("background",), "not_allowed")
    ]


@pytest.mark.parametrize("key", ["wan-2.6/t2v", "wan-2.6/i2v"])
def test_several_shots_need_prompt_expansion(key: str) -> None:
    body = {"prompt": "x", "multiShots": True} | ({"image": A} if key.endswith("i2v") else {})
    assert found(key, body | {"enablePromptExpansion": False}) == [(("multiShots",), "conflict")]
    read(key, body)
    read(key, body | {"multiShots": False, "enablePromptExpansion": False})


def test_seedance_fast_has_no_1080p() -> None:
    for key, media in (("seedance-fast/t2v", {"prompt": "x"}), ("seedance-fast/i2v", {"urls": [A]})):
        assert found(key, media | {"outputResolution": "1080p"}) == [(("outputResolution",), "not_allowed")]
    assert found("seedance-fast/i2v", {"image": A, "resolution": "1080p"}) == [(("resolution",), "not_allowed")]


def test_seedance_fast_makes_no_4k() -> None:
    assert found("seedance-fast/t2v", {"prompt": "x", "upscaleResolution": "4k"}) == [
        (("upscaleResolution",), "unknown_field")
    ]


def test_seedance_upscales_to_4k_only() -> None:
    assert found("seedance/t2v", {"prompt": "x", "upscaleResolution": "8k"}) == [
        (("upscaleResolution",), "not_allowed")
    ]


@pytest.mark.parametrize("key", ["seedance/t2v", "seedance-fast/t2v", "seedance/i2v", "seedance-fast/i2v"])
def test_seedance_pixels_agree_with_the_shape(key: str) -> None:
    body = {"prompt": "x", "resolution": "720x960"} | ({"urls": [A]} if key.endswith("i2v") else {})
    wrong = {"aspectRatio": "16:9", "outputResolution": "480p"}
    assert found(key, body | wrong) == [(("aspectRatio",), "conflict"), (("outputResolution",), "conflict")]
    read(key, body | {"aspectRatio": "3:4", "outputResolution": "720p"})
    read(key, body)


I2V = ["seedance/i2v", "seedance-fast/i2v"]


@pytest.mark.parametrize("key", I2V)
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"prompt": "x"}, [(("urls",), "missing")]),
        ({"urls": [A, B, C]}, [(("urls",), "too_many")]),
        ({"urls": []}, [(("urls",), "too_few")]),
        ({"urls": [V]}, [(("urls", 0), "conflict")]),
        ({"urls": [A, V], "urlMediaTypes": ["image", "video"]}, [(("urls", 1), "conflict")]),
        ({"urls": [A], "audioUrls": [S]}, [(("audioUrls",), "conflict")]),
    ],
)
def test_keyframes_are_one_or_two_images(key: str, body: dict[str, Any], expected: Found) -> None:
    assert found(key, body) == expected
    assert found(key, body | {"mode": "keyframe"}) == expected


@pytest.mark.parametrize(
    ("images", "videos", "audio", "expected"),
    [
        (9, 3, 3, []),
        (10, 0, 0, [(("urls",), "too_many")]),
        (1, 4, 0, [(("urls",), "too_many")]),
        (1, 0, 4, [(("audioUrls",), "too_many")]),
        (0, 1, 0, []),
    ],
)
def test_references_are_at_most_nine_images_three_videos_three_audio(
    images: int, videos: int, audio: int, expected: Found
) -> None:
    body = {
        "mode": "reference",
        "urls": [A] * images + [V] * videos,
        "urlMediaTypes": ["image"] * images + ["video"] * videos,
        "audioUrls": [S] * audio,
    }
    if expected:
        assert found("seedance/i2v", body) == expected
    else:
        assert len(read("seedance/i2v", body).media()) == images + videos + audio


def test_audio_is_never_alone() -> None:
    error = refused("seedance/i2v", {"mode": "reference", "audioUrls": [S]})
    assert [(each.path, each.code) for each in error.issues] == [(("urls",), "missing")]
    assert "audioUrls alone is not enough" in error.message


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"urls": [A], "urlMediaTypes": []}, [(("urlMediaTypes",), "misaligned")]),
        ({"urls": [A], "urlMediaTypes": ["image", "image"]}, [(("urlMediaTypes",), "misaligned")]),
        ({"urls": [PNG], "urlMediaTypes": ["video"]}, [(("urlMediaTypes", 0), "conflict")]),
        ({"urls": [A, MP4], "urlMediaTypes": ["image", "image"]}, [(("urlMediaTypes", 1), "conflict")]),
        ({"urls": [A], "urlMediaTypes": ["audio"]}, [(("urlMediaTypes", 0), "not_allowed")]),
    ],
)
def test_media_types_align_with_urls(fields: dict[str, Any], expected: Found) -> None:
    assert found("seedance/i2v", {"mode": "reference"} | fields) == expected


MEDIA = {
    "mode": "reference",
    "urls": [A, V, B],
    "urlMediaTypes": ["image", "video", "image"],
    "audioUrls": [S],
}


@pytest.mark.parametrize(
    "prompt", ["@image2 beside @Image1, moved as @video1 to @AUDIO1", "a@image9.com", "@imagery", "@@image7"]
)
def test_a_prompt_may_name_what_is_there(prompt: str) -> None:
    read("seedance/i2v", MEDIA | {"prompt": prompt})


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        ("@image3", ["@image3"]),
        ("@image0", ["@image0"]),
        ("@video2 and @video2 again, @Audio2", ["@video2", "@audio2"]),
        ("(@image99999999999999999999)", ["@image999999999"]),
    ],
)
def test_a_prompt_must_not_name_what_is_not_there(prompt: str, named: list[str]) -> None:
    error = refused("seedance/i2v", MEDIA | {"prompt": prompt})
    assert [(each.path, each.code) for each in error.issues] == [(("prompt",), "unknown_reference")] * len(named)
    assert all(name in each.message for name, each in zip(named, error.issues, strict=True))


def test_a_reference_to_a_video_that_names_tell_to_be_none_is_explained() -> None:
    body = {"mode": "reference", "urls": ["https://example.com/1.png"], "prompt": "@video1"}
    assert "urlMediaTypes says which urls are videos" in refused("seedance/i2v", body).message


@pytest.mark.parametrize("key", I2V)
def test_the_older_form_is_accepted_alone(key: str) -> None:
    body = {
        "image": A,
        "last_image": B,
        "prompt": "x",
        "duration": "12",
        "resolution": "480p",
        "aspect_ratio": "9:16",
        "camera_fixed": True,
        "generate_audio": False,
        "seed": 7,
    }
    value = read(key, body)
    assert [(each.path, each.role, each.url) for each in value.media()] == [
        (("image",), "first_frame", A),
        (("last_image",), "last_frame", B),
    ]
    assert value.seed_value() == 7
    assert read(key, {"image": A, "seed": -1}).seed_value() is None
    assert read(key, {"image": A, "urls": None}).media()[0].path == ("image",)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"image": A, "urls": [B]}, [(("image",), "mixed_forms")]),
        ({"image": A, "aspectRatio": "16:9"}, [(("image",), "mixed_forms")]),
        (
            {"urls": [A], "generate_audio": False, "seed": 1},
            [(("generate_audio",), "mixed_forms"), (("seed",), "mixed_forms")],
        ),
        ({"urls": [A], "resolution": "720p"}, [(("resolution",), "mixed_forms")]),
        ({"image": A, "resolution": "1280x720"}, [(("image",), "mixed_forms")]),
        ({"last_image": A}, [(("image",), "missing")]),
        ({"resolution": "480p"}, [(("image",), "missing")]),
        ({"image": A, "duration": 13}, [(("duration",), "not_allowed")]),
        ({"image": A, "seed": -2}, [(("seed",), "out_of_range")]),
    ],
)
def test_the_older_form_does_not_mix_with_the_current_one(body: dict[str, Any], expected: Found) -> None:
    assert found("seedance/i2v", body) == expected


def test_a_mixed_form_says_what_to_use_instead() -> None:
    body = {"urls": [A], "outputResolution": "720p", "aspect_ratio": "1:1"}
    assert refused("seedance/i2v", body).message == (
        "'aspect_ratio' is of the older form and does not go with outputResolution and urls: use aspectRatio"
    )


def test_a_reference_to_what_no_name_tells_waits_for_the_files() -> None:
    body = {"mode": "reference", "urls": ["https://example.com/blob/1"], "prompt": "@video1"}
    read("seedance/i2v", body)
    assert "points to nothing" in refused("seedance/i2v", body | {"urlMediaTypes": ["image"]}).message
