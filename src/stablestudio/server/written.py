"""JSON as it was written: keys that came twice and numbers to the letter, for bodies whose parts another reader judges."""

from __future__ import annotations

import json
from typing import Any

from pydantic_core import from_json

from stablestudio.catalog.reading import holds_too_much


class Pairs(list[tuple[str, Any]]):
    """A JSON object as it was written, with repeated keys."""

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self]


class Number(str):
    """A number as it was written."""

    __slots__ = ()


_DECODER = json.JSONDecoder(object_pairs_hook=Pairs, parse_int=Number, parse_float=Number, parse_constant=Number)


def parse(body: bytes) -> Any:
    """Read JSON; raise `ValueError` where it is none, nested too deeply, or has more values than any body needs."""
    if holds_too_much(body):
        raise ValueError("too many values")
    from_json(body)  # refuses what is nested too deeply for the decoder below
    return _DECODER.decode(body.decode())


def write(value: Any) -> str:
    """Write JSON as it was read."""
    if isinstance(value, Pairs):
        return "{" + ",".join(f"{json.dumps(name)}:{write(each)}" for name, each in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(write, value)) + "]"
    return str(value) if isinstance(value, Number) else json.dumps(value)
