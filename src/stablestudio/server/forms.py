"""Requests sent as forms: text fields and files of `multipart/form-data` become the JSON body that they mean."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import AsyncGenerator
from functools import lru_cache
from typing import Any, TypeGuard

from pydantic_core import to_json
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from stablestudio.catalog.inputs import OfferingInput
from stablestudio.errors import InvalidInput, Issue
from stablestudio.media.probe import UnreadableMedia, sniff

_FORM = "multipart/form-data"
_MOST_PARTS = 100
_DIGITS = 18  # of a number that any field takes


def is_form(content_type: str | None) -> TypeGuard[str]:
    """Tell whether a request with this Content-Type is a form."""
    return content_type is not None and content_type.lower().lstrip().startswith(_FORM)


async def read_form(model: type[OfferingInput], body: bytes, content_type: str) -> bytes:
    """Return the JSON body of a form (RFC 7578), the same for each way to write it down.

    A file becomes a `data:` URI of the type that its bytes have; a field that takes a list is one part for each entry,
    with or without `[]` behind its name. Raises `InvalidInput`.
    """

    async def stream() -> AsyncGenerator[bytes]:
        yield body

    parser = MultiPartParser(
        Headers({"content-type": content_type}),
        stream(),
        max_files=_MOST_PARTS,
        max_fields=_MOST_PARTS,
        max_part_size=len(body),
    )
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, UnicodeDecodeError, LookupError) as error:
        told = error.message if isinstance(error, MultiPartException) else "it cannot be read"
        raise _refusal((), "invalid_form", f"The body is no well-formed multipart/form-data: {told}") from None
    parts: defaultdict[str, list[str]] = defaultdict(list)
    for name, value in form.multi_items():
        field = name.removesuffix("[]")
        parts[field].append(await _inline(model, field, value) if isinstance(value, UploadFile) else value)
    await form.close()
    return to_json({name: _value(_shape(model).get(name, {}), name, texts) for name, texts in parts.items()})


async def _inline(model: type[OfferingInput], field: str, file: UploadFile) -> str:
    shape = _shape(model).get(field)
    if shape is not None and (shape.get("items") or shape).get("format") != "uri":
        raise _refusal((field,), "not_a_file", f"{field!r} takes no file")
    data = await file.read()
    try:
        content_type = sniff(data)
    except UnreadableMedia:
        content_type = file.content_type or "application/octet-stream"
    return f"data:{content_type};base64,{base64.b64encode(data).decode()}"


def _value(shape: dict[str, Any], name: str, texts: list[str]) -> Any:
    """Return what the parts of one name mean; what cannot be meant stays text, which the input then refuses by itself."""
    if shape.get("type") == "array":
        return texts
    if len(texts) > 1:
        raise _refusal((name,), "duplicate_key", f"Field {name!r} is given {len(texts)} times")
    (text,) = texts
    if shape.get("type") == "boolean" and text in ("true", "false"):
        return text == "true"
    if shape.get("type") == "integer" and len(text) <= _DIGITS and text.removeprefix("-").isascii():
        return int(text) if text.removeprefix("-").isdigit() else text
    return text


@lru_cache(maxsize=64)
def _shape(model: type[OfferingInput]) -> dict[str, dict[str, Any]]:
    fields: dict[str, dict[str, Any]] = model.model_json_schema()["properties"]
    return fields


def _refusal(path: tuple[str | int, ...], code: str, message: str) -> InvalidInput:
    return InvalidInput(message, issues=[Issue(path, code, message)])
