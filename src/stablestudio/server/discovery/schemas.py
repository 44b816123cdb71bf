"""JSON schemas of inputs, made from the models that the routes validate with: whole, bare for headers, folded for many."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import Any

from stablestudio.catalog.fields import LINK_HELP
from stablestudio.catalog.offering import InputType

Schema = dict[str, Any]

_REFERENCE = len('{"$ref":"#/components/schemas/"}')
_WORDS = frozenset({"title", "description", "examples", "x-media"})


@cache
def whole(input_type: InputType) -> Schema:
    """Return what a body must be, with what each field means; the example stands beside it in every document."""
    schema = input_type.model_json_schema()
    schema["properties"] = {name: _terse(field) for name, field in schema["properties"].items()}
    return {name: value for name, value in schema.items() if name not in {"title", "examples"}}


@cache
def bare(input_type: InputType) -> Schema:
    """Return the same rules without a word of explanation: it travels in every 402, and back in every payment."""
    schema = _silent(whole(input_type))
    schema["properties"] = {name: _silent(field) for name, field in schema["properties"].items()}
    return schema


@cache
def lean(input_type: InputType) -> Schema:
    """Return the same rules in fewer bytes, for the document that has them all: values tell of which type they are."""
    schema = whole(input_type)
    return schema | {"properties": {name: _lean(field) for name, field in schema["properties"].items()}}


def _lean(field: Schema) -> Schema:
    if "anyOf" in field:
        rest = {name: value for name, value in field.items() if name != "anyOf"}
        return {"enum": [value for form in field["anyOf"] for value in form["enum"]]} | rest
    if "enum" in field or "const" in field:
        return {name: value for name, value in field.items() if name != "type"}
    return field | {"items": _lean(field["items"])} if "items" in field else field


def _terse(field: Schema) -> Schema:
    """Leave out what a link may be, which each document says once; `x-media` tells that a field takes links."""
    told = field.get("description", "")
    short = re.sub(rf"(:|,) {re.escape(LINK_HELP)}", "", told)
    return field | {"description": short} if short != told else field


def _silent(schema: Schema) -> Schema:
    return {name: _silent(value) if name == "items" else value for name, value in schema.items() if name not in _WORDS}


def rules(input_type: InputType) -> list[str]:
    """Return the rules that span several fields, in words."""
    return [rule.text for rule in input_type.rules]


def folded(schemas: Iterable[Schema]) -> tuple[list[Schema], dict[str, Schema]]:
    """Return schemas in which fields that several have alike are references, and those fields by their new names."""
    schemas = list(schemas)
    counts = Counter(_key(field) for schema in schemas for field in schema["properties"].values())
    names: dict[str, str] = {}
    shared: dict[str, Schema] = {}

    def fold(name: str, field: Schema) -> Schema:
        key = _key(field)
        referring = counts[key] * (_REFERENCE + len(name)) + len(name) + len(key)
        if counts[key] * len(key) <= referring:
            return field
        if key not in names:
            alike = sum(each.rstrip("0123456789") == name for each in shared)
            names[key] = f"{name}{alike + 1}" if alike else name
            shared[names[key]] = field
        return {"$ref": f"#/components/schemas/{names[key]}"}

    short = [
        schema | {"properties": {name: fold(name, field) for name, field in schema["properties"].items()}}
        for schema in schemas
    ]
    return short, shared


def _key(field: Schema) -> str:
    return json.dumps(field, sort_keys=True, separators=(",", ":"))
