"""What the public documents show is accepted: every field, every value, every example request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stablestudio.catalog import OFFERINGS, Offering, PriceTable, by_path

PRICES = PriceTable(OFFERINGS)
BLOB = "https://example.blob.vercel-storage.com/uploads/abc/cat.png"

_BANANA: dict[str, Any] = {
    "prompt": "string",
    "aspectRatio": "1:1|1:4|1:8|2:3|3:2|3:4|4:1|4:3|4:5|5:4|8:1|9:16|16:9|21:9",
    "imageSize": "512|1K|2K|4K",
    "thinkingLevel": "minimal|high",
}
_BANANA_PRO: dict[str, Any] = {
    "prompt": "string",
    "aspectRatio": "1:1|2:3|3:2|3:4|4:3|4:5|5:4|9:16|16:9|21:9",
    "imageSize": "1K|2K|4K",
}
_GPT_2: dict[str, Any] = {
    "prompt": "string",
    "quality": "low|medium|high",
    "size": "1024x1024|1536x1024|1024x1536|auto",
    "background": "opaque|auto",
    "output_format": "png|jpeg|webp",
    "moderation": "low|auto",
}
_GPT_1 = _GPT_2 | {"background": "transparent|opaque|auto"}
_FLUX_RATIO = "1:1|16:9|9:16|3:2|2:3|4:5|5:4|4:3|3:4"
_FLUX_PRO: dict[str, Any] = {
    "prompt": "string",
    "aspect_ratio": _FLUX_RATIO,
    "resolution": "0.5 MP|1 MP|2 MP",
    "output_format": "webp|jpg|png",
    "output_quality": 80,
    "safety_tolerance": 2,
    "prompt_upsampling": False,
}
_FLUX_PRO_EDIT: dict[str, Any] = {
    "prompt": "string",
    "aspect_ratio": _FLUX_RATIO,
    "resolution": "0.5 MP|1 MP|2 MP",
    "images": [BLOB],
}
_MAX: dict[str, Any] = {"resolution": "0.5 MP|1 MP|2 MP|4 MP"}
_GROK: dict[str, Any] = {
    "prompt": "string",
    "aspect_ratio": "1:1|16:9|9:16|4:3|3:4|3:2|2:3|2:1|1:2|19.5:9|9:19.5|20:9|9:20",
}
_IMAGES: dict[str, Any] = {"images": [BLOB]}
_SEEDANCE: dict[str, Any] = {
    "prompt": "string",
    "duration": "4|5|6|7|8|9|10|11|12|13|14|15",
    "aspectRatio": "16:9",
    "outputResolution": "480p|720p|1080p",
    "resolution": "720x720|720x960|960x720|1280x720|720x1280|1280x540",
    "upscaleResolution": "4k",
    "callBackUrl": "https://example.com/hook",
}
# Route 003 offers upscaling on both models, but no price for it on the fast one: there it is refused.
_SEEDANCE_FAST: dict[str, Any] = {k: v for k, v in _SEEDANCE.items() if k != "upscaleResolution"} | {
    "outputResolution": "480p|720p"
}
_SEEDANCE_MEDIA: dict[str, Any] = {
    "mode": "keyframe|reference",
    "urls": [BLOB],
    "urlMediaTypes": ["image"],
    "audioUrls": ["https://example.com/a.mp3"],
}
_SEEDANCE_OLDER: dict[str, Any] = {
    "image": BLOB,
    "last_image": BLOB,
    "aspect_ratio": "16:9",
    "camera_fixed": False,
    "generate_audio": False,
    "seed": 0,
}
_WAN: dict[str, Any] = {
    "prompt": "string",
    "duration": "5|10|15",
    "negativePrompt": "string",
    "enablePromptExpansion": True,
    "multiShots": False,
    "audioUrl": "https://example.com/a.mp3",
    "seed": 0,
}
_SORA: dict[str, Any] = {
    "prompt": "string",
    "seconds": "4|8|12",
    "size": "1280x720|720x1280",
    "input_reference": BLOB,
    "autoCrop": True,
}
_VEO: dict[str, Any] = {
    "prompt": "string",
    "durationSeconds": "4|6|8",
    "resolution": "720p|1080p",
    "aspectRatio": "16:9|9:16",
    "negativePrompt": "string",
    "imageMode": "none|first-frame|reference|interpolation",
    "image": BLOB,
    "lastFrame": BLOB,
    "referenceImages": [BLOB],
}

# Field -> values, as the public documents write them (`a|b`), plus seedance's older form and gpt-image-1.
ROUTES: dict[str, dict[str, Any]] = {
    "nano-banana/generate": _BANANA,
    "nano-banana/edit": _BANANA | _IMAGES,
    "nano-banana-pro/generate": _BANANA_PRO,
    "nano-banana-pro/edit": _BANANA_PRO | _IMAGES,
    "gpt-image-2/generate": _GPT_2,
    "gpt-image-2/edit": _GPT_2 | _IMAGES,
    "gpt-image-1.5/generate": _GPT_1,
    "gpt-image-1.5/edit": _GPT_1 | {"input_fidelity": "high|low"} | _IMAGES,
    "gpt-image-1/generate": _GPT_1,
    "gpt-image-1/edit": _GPT_1 | {"input_fidelity": "high|low"} | _IMAGES,
    "flux-2-pro/generate": _FLUX_PRO,
    "flux-2-pro/edit": _FLUX_PRO_EDIT,
    "flux-2-max/generate": _FLUX_PRO | _MAX,
    "flux-2-max/edit": _FLUX_PRO_EDIT | _MAX,
    "grok/generate": _GROK,
    "grok/edit": _GROK | _IMAGES,
    "grok-video/generate": {
        "prompt": "string",
        "duration": "3|6|9|12|15",
        "resolution": "480p|720p",
        "aspect_ratio": "1:1|16:9|9:16|4:3|3:4|3:2|2:3",
        "image": BLOB,
    },
    "seedance/t2v": _SEEDANCE,
    "seedance/i2v": _SEEDANCE | _SEEDANCE_MEDIA | _SEEDANCE_OLDER,
    "seedance-fast/t2v": _SEEDANCE_FAST,
    "seedance-fast/i2v": _SEEDANCE_FAST | _SEEDANCE_MEDIA | _SEEDANCE_OLDER,
    "wan-2.6/t2v": _WAN | {"size": "1280*720|720*1280|1920*1080|1080*1920"},
    "wan-2.6/i2v": _WAN | {"image": BLOB, "resolution": "720p|1080p"},
    "sora-2/generate": _SORA,
    "sora-2-pro/generate": _SORA | {"size": "1280x720|720x1280|1792x1024|1024x1792"},
    "veo-3.1/generate": _VEO,
    "veo-3.1-fast/generate": _VEO,
    "upload": {"filename": "reference.mp4", "contentType": "video/mp4"},
}
_MODES: dict[str, dict[str, Any]] = {
    "none": {},
    "first-frame": {"image": BLOB},
    "interpolation": {"image": BLOB, "lastFrame": BLOB},
    "reference": {"referenceImages": [BLOB]},
}


def offered(key: str) -> Offering:
    offering = by_path("/api/upload" if key == "upload" else f"/api/generate/{key}")
    assert offering is not None
    return offering


def accepted(offering: Offering, body: dict[str, Any]) -> str:
    return str(PRICES.price(offering, offering.read(json.dumps(body).encode())))


def beside(offering: Offering, name: str, value: Any) -> dict[str, Any]:
    """The other fields that a field cannot do without."""
    body = {each: offering.input.example[each] for each, f in offering.input.model_fields.items() if f.is_required()}
    if name == "imageMode":
        return body | _MODES[value]
    if offering.model.startswith("seedance") and offering.operation == "i2v":
        body |= {"image": BLOB} if name in _SEEDANCE_OLDER else {"urls": [BLOB]}
    return body | {"lastFrame": {"image": BLOB}, "audioUrls": {"mode": "reference"}}.get(name, {})


@pytest.mark.parametrize("key", ROUTES)
def test_a_route_has_the_fields_of_the_public_documents_and_no_others(key: str) -> None:
    assert set(offered(key).input.model_fields) == set(ROUTES[key])


CASES = [
    (key, name, value)
    for key, fields in ROUTES.items()
    for name, shown in fields.items()
    for value in (shown.split("|") if isinstance(shown, str) else [shown])
]


@pytest.mark.parametrize(("key", "name", "value"), CASES)
def test_every_value_of_the_public_documents_is_accepted_and_priced(key: str, name: str, value: Any) -> None:
    offering = offered(key)
    assert accepted(offering, beside(offering, name, value) | {name: value})


_SUNSET = "A golden retriever running on a beach at sunset"
_SORA_EXAMPLE: dict[str, Any] = {
    "size": "1280x720",
    "prompt": f"{_SUNSET}, cinematic lighting",
    "seconds": "8",
    "autoCrop": True,
    "input_reference": "https://example.blob.vercel-storage.com/uploads/abc/dog.png",
}
_SHOT: dict[str, Any] = {"duration": "5", "aspectRatio": "16:9", "outputResolution": "720p"}
_KEYFRAME = _SHOT | {
    "prompt": "optional guidance",
    "mode": "keyframe",
    "urls": ["https://first-image.example", "https://optional-last-image.example"],
    "urlMediaTypes": ["image", "image"],
}
_REFERENCE = _SHOT | {
    "prompt": "@image1 keeps the character identity while @video1 supplies the camera move, synced to @audio1",
    "mode": "reference",
    "urls": ["https://image-reference.example", "https://video-reference.example"],
    "urlMediaTypes": ["image", "video"],
    "audioUrls": ["https://audio-reference.example"],
}
_OLDER: dict[str, Any] = {
    "image": BLOB,
    "prompt": "A cat slowly turning its head and blinking",
    "duration": "5",
    "resolution": "720p",
    "aspect_ratio": "16:9",
    "camera_fixed": False,
    "generate_audio": False,
}
_MARS = "A cat in a spacesuit on Mars"
REQUESTS: list[tuple[str, dict[str, Any], str]] = [
    ("sora-2/generate", {"prompt": _SUNSET, "seconds": "4", "size": "1280x720"}, "0.40"),
    ("sora-2/generate", _SORA_EXAMPLE, "0.80"),
    ("sora-2-pro/generate", _SORA_EXAMPLE | {"size": "1792x1024"}, "4.00"),
    ("seedance/i2v", {k: _OLDER[k] for k in ("prompt", "image", "duration", "resolution")}, "1.20"),
    ("seedance/i2v", _OLDER, "1.20"),
    ("seedance-fast/i2v", _OLDER, "0.85"),
    ("gpt-image-1/generate", {"prompt": _MARS}, "0.133"),
    (
        "gpt-image-1/generate",
        {
            "size": "1024x1024",
            "prompt": f"{_MARS}, photorealistic",
            "quality": "high",
            "background": "opaque",
            "moderation": "auto",
            "output_format": "png",
        },
        "0.133",
    ),
    ("seedance/t2v", {"prompt": "string"} | _SHOT, "1.20"),
    ("seedance-fast/t2v", {"prompt": "string"} | _SHOT, "0.85"),
    ("seedance/i2v", _KEYFRAME, "1.20"),
    ("seedance-fast/i2v", _KEYFRAME, "0.85"),
    ("seedance/i2v", _REFERENCE, "1.20"),
    ("seedance-fast/i2v", _REFERENCE, "0.85"),
    ("seedance/i2v", {k: v for k, v in _KEYFRAME.items() if k != "prompt"}, "1.20"),
    ("nano-banana-pro/generate", {"prompt": "string"}, "0.134"),
    ("upload", {"filename": "reference.mp4", "contentType": "video/mp4"}, "0.01"),
]


@pytest.mark.parametrize(("key", "body", "dollars"), REQUESTS)
def test_an_example_request_is_accepted_and_priced(key: str, body: dict[str, Any], dollars: str) -> None:
    assert accepted(offered(key), body) == dollars
