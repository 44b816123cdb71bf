"""`size` in pixels for models that name shape and tier instead: which of their sizes is meant."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from math import log

from pydantic_core import to_json

from stablestudio.catalog import OfferingInput
from stablestudio.catalog.inputs import choices
from stablestudio.catalog.sizes import pixels
from stablestudio.catalog.spelling import shown
from stablestudio.errors import Issue

_RATIOS = ("aspectRatio", "aspect_ratio")
_TIERS = ("imageSize", "outputResolution", "resolution")
_PIXELS = re.compile(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}")
_SAME_SHAPE = log(1.03)  # 1792x1024 is meant as 16:9


@dataclass(frozen=True, slots=True, kw_only=True)
class _Size:
    """What a model makes, and the fields that ask for it."""

    width: int
    height: int
    fields: Mapping[str, str]

    @property
    def text(self) -> str:
        return f"{self.width}x{self.height}"


def fields_of(model: type[OfferingInput], size: str) -> dict[str, str] | Issue:
    """Return the input's own fields for a size in pixels, or what is wrong with it.

    A size of a shape that the model makes means the size of that shape which is nearest in area.
    """
    if (field := model.model_fields.get("size")) is not None:
        own = {each.replace("*", "x"): each for each in choices(field.annotation)}
        return {"size": own.get(size, size)}
    if size == "auto":
        return {}
    sold = _sizes(model)
    near = min(_fitting(sold, size, model=model), default=None, key=lambda found: found[0])
    if near is None:
        allowed = tuple(dict.fromkeys(each.text for each in sold))
        message = f"{shown(size)} is no size that this model makes; a size of the shape of one of these is: {', '.join(allowed)}"
        return Issue(("size",), "not_allowed", message, allowed)
    return dict(near[1].fields)


def _fitting(sold: tuple[_Size, ...], size: str, *, model: type[OfferingInput]) -> Iterator[tuple[float, _Size]]:
    if not _PIXELS.fullmatch(size):
        return
    width, height = pixels(size)
    for each in sold:
        shape = abs(log(width / height * each.height / each.width))
        area = abs(log(width * height / (each.width * each.height)))
        if _ratio(model) is None:
            yield area, each  # the first frame gives the shape
        elif shape < _SAME_SHAPE:
            yield shape + area, each


@cache
def _sizes(model: type[OfferingInput]) -> tuple[_Size, ...]:
    """Return every size that an input can ask for, as its own arithmetic has them."""
    ratio, tier = _ratio(model), _first(model, _TIERS)
    required = {name: model.example[name] for name, field in model.model_fields.items() if field.is_required()}
    found = []
    for shape in _values(model, ratio):
        for grade in _values(model, tier):
            fields = {name: value for name, value in ((ratio, shape), (tier, grade)) if name is not None}
            output = model.model_validate_json(to_json(required | fields)).output()
            found.append(_Size(width=output.width, height=output.height, fields=fields))
    return tuple(found)


def _ratio(model: type[OfferingInput]) -> str | None:
    return _first(model, _RATIOS)


def _first(model: type[OfferingInput], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in model.model_fields), None)


def _values(model: type[OfferingInput], name: str | None) -> tuple[str, ...]:
    """Return what a field takes, but for shapes that follow a picture; one empty value where there is no such field."""
    if name is None:
        return ("",)
    return tuple(value for value in choices(model.model_fields[name].annotation) if value != "adaptive")
