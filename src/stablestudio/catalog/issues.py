"""Say what is wrong with a field, in our words: one issue for each fault that the validator found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic_core import ErrorDetails

from stablestudio.catalog.inputs import OfferingInput, choices
from stablestudio.catalog.spelling import clipped, label, nearest, shown
from stablestudio.errors import Issue

Path = tuple[str | int, ...]

_TYPES = {
    "string_type": "text in quotes",
    "int_type": "a whole number, without quotes",
    "bool_type": "true or false, without quotes",
    "tuple_type": "a list",
}

_LIMITS: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "string_too_short": ("too_short", lambda _: "must not be empty"),
    "string_pattern_mismatch": ("blank", lambda _: "must not be blank"),
    "string_too_long": ("too_long", lambda limit: f"has at most {limit['max_length']} characters"),
    "too_short": ("too_few", lambda limit: f"needs at least {limit['min_length']} entry"),
    "too_long": ("too_many", lambda limit: f"takes at most {limit['max_length']} entries"),
    "greater_than_equal": ("out_of_range", lambda limit: f"must be at least {limit['ge']}"),
    "less_than_equal": ("out_of_range", lambda limit: f"must be at most {limit['le']}"),
}


def field_issue(model: type[OfferingInput], error: ErrorDetails) -> Issue:
    """Translate one of the validator's errors."""
    path, code = error["loc"], error["type"]
    if code == "extra_forbidden":
        return unknown_field(model, str(path[0]))
    if code == "literal_error":
        return not_allowed(path, choices(model.model_fields[str(path[0])].annotation))
    if code == "missing":
        return Issue(path, code, f"Field {label(path)} is required")
    if code in _TYPES:
        return Issue(path, "wrong_type", f"{label(path)} must be {_TYPES[code]}")
    if code in _LIMITS:
        public, words = _LIMITS[code]
        return Issue(path, public, f"{label(path)} {words(error.get('ctx', {}))}")
    return Issue(path, code, f"{label(path)}: {error['msg']}")


def unknown_field(model: type[OfferingInput], name: str) -> Issue:
    """Refuse a field by its name and point to the one that was probably meant."""
    fields = tuple(model.model_fields)
    message = f"Unknown field {shown(name)}"
    if advice := model.elsewhere.get(name):
        message += f": {advice}"
    elif near := nearest(name, fields):
        message += f"; did you mean {near!r}?"
    return Issue((clipped(name),), "unknown_field", message, fields)


def not_allowed(path: Path, allowed: tuple[Any, ...]) -> Issue:
    """Refuse a value and list the right ones."""
    values = ", ".join(repr(value) for value in allowed)
    return Issue(path, "not_allowed", f"{label(path)} must be {'one of ' if len(allowed) > 1 else ''}{values}", allowed)


def missing(field: str, why: str) -> Issue:
    """Ask for a field that other fields make necessary."""
    return Issue((field,), "missing", f"Field {field!r} is required: {why}")


def conflict(path: Path, message: str, *, allowed: tuple[Any, ...] | None = None) -> Issue:
    """Refuse a value that is right alone and wrong beside the others."""
    return Issue(path, "conflict", f"{label(path)}: {message}", allowed)


def too_many(field: str, message: str) -> Issue:
    """Refuse a list that is too long beside the other fields."""
    return Issue((field,), "too_many", f"{field!r}: {message}")
