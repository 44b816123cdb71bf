"""Requests sent as forms: text fields and files of `multipart/form-data` become the JSON body that they mean."""

from __future__ import annotations

import asyncio
import base64
from collections import defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeGuard

from pydantic_core import to_json
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from stablestudio.catalog.inputs import OfferingInput
from stablestudio.catalog.links import CONTENT_TYPES, LONGEST_DATA_URI
from stablestudio.catalog.spelling import clipped, shown
from stablestudio.errors import InvalidInput, Issue
from stablestudio.magic import HEAD, sniff

_FORM = "multipart/form-data"
_MOST_PARTS = 100
_MOST_PIECES = 10_000
_LONGEST_BOUNDARY = 70  # RFC 2046 section 5.1.1
_DIGITS = 18  # of a number that any field takes


def is_form(content_type: str | None) -> TypeGuard[str]:
    """Tell whether a request with this Content-Type is a form."""
    return content_type is not None and content_type.lower().lstrip().startswith(_FORM)


async def read_form(model: type[OfferingInput], body: bytes, content_type: str) -> bytes:
    """Return the JSON body of a form (RFC 7578), the same for each way to write it down.

    A file becomes a `data:` URI of the type that its bytes have; a field that takes a list is one part for each entry,
    with or without `[]` behind its name. Raises `InvalidInput`.
    """
    # In a thread: whoever sends a form has not paid yet, and must not hold up everybody else.
    return await asyncio.to_thread(_read, model, body, content_type)


@dataclass(slots=True)
class _Part:
    """A part as it was written; a file has a name, text has none."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)
    name: str = ""
    is_file: bool = False


def _read(model: type[OfferingInput], body: bytes, content_type: str) -> bytes:
    values: defaultdict[str, list[str]] = defaultdict(list)
    for part in _parts(body, content_type):
        name = part.name.removesuffix("[]")
        values[name].append(_inline(model, name, part) if part.is_file else _text(part.data, name))
    return to_json({name: _value(_shape(model).get(name, {}), name, texts) for name, texts in values.items()})


def _parts(body: bytes, content_type: str) -> list[_Part]:
    _, options = parse_options_header(content_type)
    boundary, charset = options.get(b"boundary", b""), options.get(b"charset", b"utf-8")
    if not 0 < len(boundary) <= _LONGEST_BOUNDARY:
        raise _malformed("its Content-Type names no boundary of 1 to 70 characters")
    if charset.lower() not in (b"utf-8", b"us-ascii"):
        raise _malformed("its text must be UTF-8")
    collector = _Collector()
    parser = MultipartParser(boundary, collector.callbacks())
    try:
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise _malformed(str(error)) from None
    if not collector.is_complete:
        raise _malformed("it ends before its last boundary")
    return collector.parts


class _Collector:
    """Collects the parts that a parser meets."""

    def __init__(self) -> None:
        self.parts: list[_Part] = []
        self.is_complete = False
        self._pieces = 0
        self._header = bytearray()
        self._value = bytearray()

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._extend,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.parts) == _MOST_PARTS:
            raise _malformed(f"it has more than {_MOST_PARTS} parts")
        self.parts.append(_Part())

    def _extend(self, data: bytes, start: int, end: int) -> None:
        self._pieces += 1
        if self._pieces > _MOST_PIECES:  # each is a line that begins like the boundary
            raise _malformed("its boundary is too much like what is in it")
        self.parts[-1].data.extend(data[start:end])

    def _end_header(self) -> None:
        self.parts[-1].headers[bytes(self._header).lower()] = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _end_headers(self) -> None:
        part = self.parts[-1]
        kind, options = parse_options_header(part.headers.get(b"content-disposition"))
        if kind != b"form-data" or b"name" not in options:
            raise _malformed("a part has no name")
        part.name = _text(options[b"name"], "")
        part.is_file = b"filename" in options

    def _end(self) -> None:
        self.is_complete = True


def _text(data: bytes | bytearray, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise _refusal((clipped(name),) if name else (), "invalid_form", "Text in a form must be UTF-8") from None


def _inline(model: type[OfferingInput], name: str, part: _Part) -> str:
    content_type = sniff(bytes(part.data[:HEAD])) or "application/octet-stream"
    shape = _shape(model).get(name)
    if shape is not None:  # an unknown field is told by the input itself
        _require_taken(shape.get("items") or shape, name, content_type if part.data else "empty")
    uri = f"data:{content_type};base64,{base64.b64encode(part.data).decode()}"
    if len(uri) > LONGEST_DATA_URI:
        most = LONGEST_DATA_URI * 3 // 4 // 1_000_000
        told = f"{name!r}: a file in a form has at most {most} MB; send it by POST /api/upload and give its blobUrl"
        raise _refusal((name,), "file_out_of_limits", told)
    return uri


def _require_taken(shape: dict[str, Any], name: str, content_type: str) -> None:
    if "x-media" not in shape:
        raise _refusal((name,), "not_a_file", f"{name!r} takes no file")
    allowed = [each for kind in shape["x-media"] for each in CONTENT_TYPES[kind]]
    if content_type not in allowed:
        told = f"{name!r} takes files of these types: {', '.join(allowed)}; this one is {'empty' if content_type == 'empty' else 'of another'}"
        raise _refusal((name,), "wrong_kind_of_media", told)


def _value(shape: dict[str, Any], name: str, texts: list[str]) -> Any:
    """Return what the parts of one name mean; what cannot be meant stays text, which the input then refuses by itself."""
    if shape.get("type") == "array":
        return texts
    if len(texts) > 1:
        raise _refusal((clipped(name),), "duplicate_key", f"Field {shown(name)} is given {len(texts)} times")
    (text,) = texts
    if shape.get("type") == "boolean" and text in ("true", "false"):
        return text == "true"
    digits = text.removeprefix("-")
    if shape.get("type") == "integer" and digits.isascii() and digits.isdecimal() and len(digits) <= _DIGITS:
        return int(text)
    return text


def meant(model: type[OfferingInput], name: str, text: str) -> Any:
    """Return what the text of a form's part means as a field of an input."""
    return _value(_shape(model).get(name, {}), name, [text])


def takes_list(model: type[OfferingInput], name: str) -> bool:
    """Tell whether a field of an input is a list."""
    return _shape(model).get(name, {}).get("type") == "array"


@lru_cache(maxsize=64)
def _shape(model: type[OfferingInput]) -> dict[str, dict[str, Any]]:
    fields: dict[str, dict[str, Any]] = model.model_json_schema()["properties"]
    return fields


def _malformed(why: str) -> InvalidInput:
    return _refusal((), "invalid_form", f"The body is no well-formed multipart/form-data: {why}")


def _refusal(path: tuple[str | int, ...], code: str, message: str) -> InvalidInput:
    return InvalidInput(message, issues=[Issue(path, code, message)])
