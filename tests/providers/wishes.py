"""Pairs of inputs that differ in one wish of the buyer, so that a wish which never reaches a vendor is noticed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from stablestudio.catalog.inputs import choices
from stablestudio.errors import InvalidInput
from stablestudio.providers.provider import Work
from tests.providers.works import of_body, work

Body = Mapping[str, Any]
_WORDS = ("prompt", "negativePrompt")
_MODES = {"mode", "imageMode", "urlMediaTypes"}
_IMAGE = "https://example.com/a.png"
_BASES: Mapping[str, tuple[Body, ...]] = {
    "seedance/i2v": (
        {"prompt": "x", "urls": [_IMAGE]},
        {"prompt": "x", "image": _IMAGE, "camera_fixed": True, "seed": 1},
        {"prompt": "x", "mode": "reference", "urls": [_IMAGE]},
    ),
    "seedance-fast/i2v": ({"prompt": "x", "urls": [_IMAGE]}, {"prompt": "x", "image": _IMAGE, "seed": 1}),
    "veo-3.1/generate": (
        {"prompt": "x"},
        {"prompt": "x", "image": _IMAGE},
        {"prompt": "x", "referenceImages": [_IMAGE]},
    ),
    "veo-3.1-fast/generate": ({"prompt": "x"}, {"prompt": "x", "image": _IMAGE}),
    "grok-video/generate": ({"prompt": "x"}, {"prompt": "x", "image": _IMAGE}),
}


def wishes(key: str) -> Iterator[tuple[str, Work, Work]]:
    """Yield the name of a field, and two works of the offering that differ in it alone."""
    fields = work(key).offering.input.model_fields
    for base in _BASES.get(key, (work(key).offering.input.example,)):
        for name, field in fields.items():
            if name in _MODES:
                continue
            values = ("one thing", "another") if name in _WORDS else _values(field.annotation, name)
            made = [of_body(key, {**base, name: value}) for value in values if _reads(key, {**base, name: value})]
            yield from ((name, one, other) for one, other in pairwise(made) if one.input != other.input)


def _values(annotation: Any, name: str) -> tuple[Any, ...]:
    if found := choices(annotation):
        return found
    if annotation in (bool, bool | None):
        return (False, True)
    if annotation in (int, int | None):
        return (1, 2, 3)
    if name in {"image", "last_image", "lastFrame", "audioUrl"}:
        return (None, _IMAGE)
    return ()


def _reads(key: str, body: Body) -> bool:
    try:
        work(key).offering.read(json.dumps(body).encode())
    except InvalidInput:
        return False
    return True
