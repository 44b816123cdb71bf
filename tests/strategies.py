"""Hypothesis strategies that other tests share: valid request bodies for every offering."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from hypothesis import strategies as st
from pydantic.fields import FieldInfo

from stablestudio.catalog import Offering
from stablestudio.catalog.inputs import choices
from stablestudio.errors import InvalidInput

Body = dict[str, Any]
Strategy = st.SearchStrategy[Any]

# No surrogates, which JSON cannot carry, no NUL, and no @, which may name a reference that is not there.
_words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0@"), min_size=1, max_size=40).filter(
    lambda text: any(not character.isspace() for character in text)
)
_image = st.sampled_from(
    [
        "https://example.com/a.png",
        "https://store.example.com/uploads/1/my%20cat.jpg?token=a:b&x=1",
        "http://localhost:8402/assets/a.png",
        "http://127.0.0.1/a.png",
        "job:job_01k9x",
        "data:image/png;base64,iVBORw0KGgo=",
    ]
)
_video = st.sampled_from(["https://example.com/move.mp4", "data:video/mp4;base64,AAAA"])
_audio = st.sampled_from(["https://example.com/beat.mp3", "data:audio/wav;base64,UklGRg=="])

_BY_NAME: dict[str, Strategy] = {
    "prompt": _words,
    "negativePrompt": _words,
    "image": _image,
    "last_image": _image,
    "input_reference": _image,
    "audioUrl": _audio,
    "callBackUrl": st.just("https://example.com/hook"),
    "filename": st.sampled_from(["a.png", "Ünïcode name.mp4"]),
}


@cache
def inputs(offering: Offering) -> st.SearchStrategy[Body]:
    """Generate request bodies that the offering accepts, with any of its fields."""
    if offering.model.startswith("veo"):
        return _veo(offering)
    if offering.model.startswith("seedance") and offering.operation == "i2v":
        return st.one_of(_seedance_older(offering), _seedance_keyframe(offering), _seedance_reference(offering))
    return _plain(offering).filter(lambda body: _accepts(offering, body))


def _accepts(offering: Offering, body: Body) -> bool:
    try:
        offering.read(json.dumps(body).encode())
    except InvalidInput:
        return False
    return True


def _plain(offering: Offering, *, without: tuple[str, ...] = (), **needed: Strategy) -> st.SearchStrategy[Body]:
    """Generate each field by itself; `needed` replaces and demands some, `without` leaves some out."""
    required, optional = dict(needed), dict[str, Strategy]()
    for name, field in offering.input.model_fields.items():
        if name not in needed and name not in without:
            (required if field.is_required() else optional)[name] = _field(offering, name, field)
    return st.fixed_dictionaries(required, optional=optional)


def _field(offering: Offering, name: str, field: FieldInfo) -> Strategy:
    if name in _BY_NAME:
        return _BY_NAME[name]
    if values := choices(field.annotation):
        seconds = name == getattr(offering.input, "seconds_field", None)
        return st.sampled_from([*values, *map(int, values)] if seconds else list(values))
    if name == "images":
        most = next(limit.max_length for limit in field.metadata if hasattr(limit, "max_length"))
        return st.lists(_image, min_size=1, max_size=most)
    if field.annotation in (bool, bool | None):
        return st.booleans()
    limits = {key: getattr(limit, key) for limit in field.metadata for key in ("ge", "le") if hasattr(limit, key)}
    return st.integers(min_value=limits.get("ge", 0), max_value=limits.get("le", 2**31 - 1))


_FRAMES = ("imageMode", "image", "lastFrame", "referenceImages")


def _veo(offering: Offering) -> st.SearchStrategy[Body]:
    long = st.sampled_from(["8", 8])
    references = st.lists(_image, min_size=1, max_size=3)
    shapes: list[Body] = [
        {},
        {"imageMode": st.just("none")},
        {"image": _image},
        {"imageMode": st.just("first-frame"), "image": _image, "durationSeconds": long},
        {"imageMode": st.just("interpolation"), "image": _image, "lastFrame": _image, "durationSeconds": long},
        {"image": _image, "lastFrame": _image, "durationSeconds": long},
        {"imageMode": st.just("reference"), "referenceImages": references, "durationSeconds": long},
        {"referenceImages": references, "durationSeconds": long},
    ]
    plain = [_plain(offering, without=tuple(name for name in _FRAMES if name not in each), **each) for each in shapes]
    return st.one_of(plain).filter(lambda body: _accepts(offering, body))


_OLDER = ("image", "last_image", "aspect_ratio", "camera_fixed", "generate_audio", "seed")
_CURRENT = ("aspectRatio", "outputResolution", "upscaleResolution", "mode", "urls", "urlMediaTypes", "audioUrls")


def _seedance_older(offering: Offering) -> st.SearchStrategy[Body]:
    tiers = [tier for tier in choices(offering.input.model_fields["resolution"].annotation) if tier.endswith("p")]
    seconds = [*range(4, 13), *map(str, range(4, 13))]
    plain = _plain(offering, without=(*_CURRENT, "resolution"), image=_image, duration=st.sampled_from(seconds))
    return st.builds(lambda body, tier: body | tier, plain, st.sampled_from([{}, *({"resolution": t} for t in tiers)]))


def _seedance_keyframe(offering: Offering) -> st.SearchStrategy[Body]:
    urls = st.lists(_image, min_size=1, max_size=2)
    typed = urls.map(lambda given: {"urls": given, "urlMediaTypes": ["image"] * len(given)})
    media = st.one_of(typed, urls.map(lambda given: {"urls": given, "mode": "keyframe"}))
    return _with_media(offering, media)


def _seedance_reference(offering: Offering) -> st.SearchStrategy[Body]:
    images, videos = st.lists(_image, min_size=1, max_size=9), st.lists(_video, max_size=3)
    media = st.builds(
        lambda images, videos, audio: {
            "mode": "reference",
            "urls": [*images, *videos],
            "urlMediaTypes": ["image"] * len(images) + ["video"] * len(videos),
            "audioUrls": audio,
            "prompt": f"@image{len(images)}" + (f" @Video{len(videos)}" if videos else ""),
        },
        images,
        videos,
        st.lists(_audio, max_size=3),
    )
    return _with_media(offering, media)


def _with_media(offering: Offering, media: Strategy) -> st.SearchStrategy[Body]:
    plain = _plain(offering, without=(*_OLDER, "mode", "urls", "urlMediaTypes", "audioUrls", "resolution"))
    return st.builds(lambda body, files: body | files, plain, media)
