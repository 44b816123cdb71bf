"""Fields of an input in words, read off its JSON schema."""

from __future__ import annotations

import json
from typing import Any

from stablestudio.catalog.offering import InputType
from stablestudio.server.discovery.schemas import Schema, whole


def sketch(input_type: InputType) -> str:
    """Return an input as one line of JSON: each field with its values, or with what it is."""
    return json.dumps({name: _brief(field) for name, field in whole(input_type)["properties"].items()})


def _brief(field: Schema) -> Any:
    kind = _text(field)
    if kind.get("type") == "array":
        return [_brief(kind["items"])]
    if "enum" in kind or "const" in kind:
        return "|".join(str(value) for value in kind.get("enum", [kind.get("const")]))
    return "https://..." if kind.get("format") == "uri" else kind["type"]


def lines(input_type: InputType) -> list[str]:
    """Return one line for each field: its name, whether it must be there, what it takes, and what it means."""
    schema = whole(input_type)
    required = schema.get("required", [])
    return [_line(name, field, needed=name in required) for name, field in schema["properties"].items()]


def _line(name: str, field: Schema, *, needed: bool) -> str:
    facts = ["required" if needed else "optional", *_facts(field)]
    if "default" in field:
        facts.append(f"default {json.dumps(field['default'])}")
    return f"- `{name}` ({'; '.join(facts)}): {field.get('description', '')}"


def _facts(field: Schema) -> list[str]:
    kind = _text(field)
    if kind.get("type") == "array":
        count = f"{kind.get('minItems', 0)}-{kind['maxItems']}" if "maxItems" in kind else "any number"
        return [f"list, {count} of", *_facts(kind["items"])]
    if "enum" in kind or "const" in kind:
        values = kind.get("enum", [kind.get("const")])
        return [f"one of {', '.join(json.dumps(value) for value in values)}"]
    limits = [
        f"{words} {kind[name]}"
        for name, words in (("minimum", "from"), ("maximum", "to"), ("maxLength", "at most"))
        if name in kind
    ]
    return [" ".join(["URL" if kind.get("format") == "uri" else kind["type"], *limits])]


def _text(field: Schema) -> Schema:
    """Return the first of the forms that a field takes: where text or a whole number may stand, the text is told."""
    form: Schema = field["anyOf"][0] if "anyOf" in field else field
    return form
