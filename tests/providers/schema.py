"""What vendors themselves say of their requests, taken from their clients' types, and a judge of ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

Fields = Mapping[str, Mapping[str, Any]]

_TYPES: Mapping[str, Any] = {
    "string": lambda value: isinstance(value, str),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "strings": lambda value: isinstance(value, list) and all(isinstance(each, str) for each in value),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "size": lambda value: isinstance(value, dict) and value.keys() == {"width", "height"},
}


@cache
def schemas(vendor: str) -> Mapping[str, Fields]:
    """Return the request schemas of a vendor by endpoint."""
    document = json.loads((Path(__file__).parent / "schemas" / f"{vendor}.json").read_text())
    found: Mapping[str, Fields] = document["endpoints"]
    return found


def problems(fields: Fields, body: Mapping[str, Any]) -> list[str]:
    """Return what a vendor would find wrong with a body."""
    missing = [f"{name} is missing" for name, field in fields.items() if field.get("required") and name not in body]
    unknown = [f"{name} is unknown" for name in body if name not in fields]
    wrong = [f"{name}: {body[name]!r}" for name in body if name in fields and not _fits(fields[name], body[name])]
    return missing + unknown + wrong


def _fits(field: Mapping[str, Any], value: Any) -> bool:
    named = any(type(value) is type(option) and value == option for option in field.get("enum", ()))
    if not named and not any(_TYPES[kind](value) for kind in field.get("types", ())):
        return False
    if "min" in field and not field["min"] <= value <= field["max"]:
        return False
    return len(value) <= field.get("most", field.get("longest", 10**9)) if isinstance(value, list | str) else True
