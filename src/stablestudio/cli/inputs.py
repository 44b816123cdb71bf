"""From words on a command line to the input of an offering. Pure but for a look whether the files that are named are there."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

FIELD_HELP = """A field of the input; repeat it for a list, name it FIELD[] for a list of one, or write JSON: \
'urls=["https://..."]'. @FILE hands over a file, @@ begins a text with @."""


def read_fields(pairs: Iterable[str]) -> dict[str, Any]:
    """Read `field=value` pairs: a value that is JSON counts as such, `@FILE` as a path, all else as text.

    A repeated field makes a list, and so does one whose name ends in `[]`.
    """
    fields: dict[str, Any] = {}
    seen: dict[str, list[Any]] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{pair!r} is not field=value.", param_hint="-p")
        seen.setdefault(name, []).append(name_files(read_value(text)))
    for name, values in seen.items():
        single = len(values) == 1 and not name.endswith("[]")
        fields[name.removesuffix("[]")] = values[0] if single else values
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


def name_files(value: Any) -> Any:
    """Return a value with a path in place of each text that begins with `@`; `@@` stands for a text's own `@`."""
    if isinstance(value, list):
        return [name_files(each) for each in value]
    if not isinstance(value, str) or not value.startswith("@"):
        return value
    return value[1:] if value.startswith("@@") else _present(value[1:], hint="-p")


def read_media(links: Iterable[str]) -> list[str | Path]:
    """Return links as they are (https, data:, job:ID) and files of this machine as paths."""
    return [link if _is_link(link) else _present(link, hint="--image") for link in links]


def place_media(links: Sequence[str | Path], *, model: str, operation: str) -> dict[str, Any]:
    """Return the field that takes media in this family of models; any other is set by `-p`."""
    if not links:
        return {}
    if operation == "edit":
        return {"images": list(links)}
    if model.startswith("seedance"):
        return {"urls": list(links)}
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


def _present(name: str, *, hint: str) -> Path:
    path = _at_home(name)
    if not path.is_file():
        raise click.BadParameter(f"{name!r} is no link and no file here.", param_hint=hint)
    return path


def _at_home(name: str) -> Path:
    """Return a path with `~` read as shells do, which leave it alone behind an @."""
    try:
        return Path(name).expanduser()
    except RuntimeError:  # there is no such user
        return Path(name)


def _no_number(name: str) -> float:
    raise ValueError(name)
