"""From words on a command line to the input of an offering. Pure but for reading the media files that are named."""

from __future__ import annotations

import base64
import json
import math
import mimetypes
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

FIELD_HELP = """A field of the input; repeat it for a list, or write JSON: 'urls=["https://..."]'."""
_LARGEST_FILE = 3_000_000  # becomes 4 million characters of data: URI, which is what the service takes inline


def read_fields(pairs: Iterable[str]) -> dict[str, Any]:
    """Read `field=value` pairs: a value that is JSON counts as such, all else as text; a repeated field makes a list."""
    fields: dict[str, Any] = {}
    seen: dict[str, list[Any]] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{pair!r} is not field=value.", param_hint="-p")
        seen.setdefault(name, []).append(read_value(text))
    for name, values in seen.items():
        fields[name] = values[0] if len(values) == 1 else values
    return fields


def read_value(text: str) -> Any:
    """Return the JSON that a text is, or the text; `"5"` in quotes stays text."""
    try:
        value = json.loads(text, parse_constant=_no_number)
    except ValueError:
        return text
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return text
    return value


def read_media(links: Iterable[str]) -> list[str]:
    """Return links as they are (https, data:, job:ID) and files of this machine as data: URIs."""
    return [link if _is_link(link) else _inline(Path(link)) for link in links]


def place_media(links: list[str], *, model: str, operation: str) -> dict[str, Any]:
    """Return the field that takes media in this family of models; any other is set by `-p`."""
    if not links:
        return {}
    if operation == "edit":
        return {"images": links}
    if model.startswith("seedance"):
        return {"urls": links}
    field = "input_reference" if model.startswith("sora") else "image"
    if len(links) > 1:
        raise click.BadParameter(f"{model} takes one image here; name further ones with -p.", param_hint="--image")
    return {field: links[0]}


def split_model(text: str, *, operation: str | None) -> tuple[str, str | None]:
    """Read `model` or `model/operation`; an operation that is named twice must be the same."""
    model, slash, named = text.partition("/")
    if not model or (slash and (not named or "/" in named)):
        raise click.BadParameter(f"{text!r} is not MODEL or MODEL/OPERATION.", param_hint="MODEL")
    if named and operation and named != operation:
        raise click.BadParameter(f"MODEL names {named!r} and --op names {operation!r}.", param_hint="--op")
    return model, named or operation


def _is_link(text: str) -> bool:
    return text.startswith(("https://", "http://", "data:", "job:"))


def _inline(path: Path) -> str:
    kind = mimetypes.guess_type(path.name)[0]
    if kind is None or not path.is_file():
        raise click.BadParameter(f"{str(path)!r} is no link and no media file here.", param_hint="--image")
    if path.stat().st_size > _LARGEST_FILE:
        raise click.BadParameter(f"{path} is larger than 3 MB: give a link to it instead.", param_hint="--image")
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _no_number(name: str) -> float:
    raise ValueError(name)
