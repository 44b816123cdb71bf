"""The strict edge for messages from outside: base64 JSON headers and typed members. Errors name a part, never its content."""

from __future__ import annotations

import binascii
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_DEPTH = 100
MAX_UINT256 = (1 << 256) - 1
_MAX_DIGITS = len(str(MAX_UINT256))
_MAX_REMARK = 500
_BRACKETS = re.compile(r"[\[{]+|[\]}]+")
_URLSAFE = str.maketrans("-_", "+/")


class WireError(ValueError):
    """A message from outside breaks its format; `path` names the part at fault."""

    def __init__(self, problem: str, *, path: tuple[str, ...] = ()) -> None:
        self.path = path
        super().__init__(f"{'.'.join(path) or 'The header'} {problem}")


@dataclass(frozen=True, slots=True)
class Form:
    """The syntax of a text: what a reader is told, and the expression that it must match as a whole."""

    what: str
    pattern: re.Pattern[str]


def form(what: str, pattern: str) -> Form:
    return Form(what, re.compile(pattern))


@dataclass(frozen=True, slots=True)
class Fields:
    """Read typed members of one JSON object; unknown members are ignored, `null` counts as absent where that is allowed."""

    value: Mapping[str, Any]
    path: tuple[str, ...] = ()

    def fault(self, name: str, problem: str) -> WireError:
        return WireError(problem, path=(*self.path, name))

    def text(self, name: str, syntax: Form) -> str:
        value = self.value.get(name)
        if not isinstance(value, str) or not syntax.pattern.fullmatch(value):
            raise self.fault(name, f"must be {syntax.what}")
        return value

    def optional_text(self, name: str, syntax: Form) -> str | None:
        """Return None for an absent, null or empty member."""
        return None if self.value.get(name) in (None, "") else self.text(name, syntax)

    def remark(self, name: str) -> str | None:
        """Read words for people, cut to 500 characters; of another type they do not matter."""
        value = self.value.get(name)
        return value[:_MAX_REMARK] if isinstance(value, str) and value else None

    def texts(self, name: str, syntax: Form, *, limit: int) -> tuple[str, ...]:
        """Read an array of at most `limit` texts; absent and null are empty."""
        items = self.items(name, limit=limit)
        if not all(isinstance(item, str) and syntax.pattern.fullmatch(item) for item in items):
            raise self.fault(name, f"must hold only {syntax.what}")
        return tuple(items)

    def items(self, name: str, *, limit: int) -> list[Any]:
        value = self.value.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or len(value) > limit:
            raise self.fault(name, f"must be an array of at most {limit} items")
        return value

    def uint256(self, name: str) -> int:
        """Read a decimal string, without sign, space or leading zero, below 2**256."""
        value = int(self.text(name, DECIMAL))
        if value > MAX_UINT256:
            raise self.fault(name, "must be below 2**256")
        return value

    def whole(self, name: str, *, default: int | None = None) -> int:
        """Read a non-negative JSON integer of at most 53 bits, the range that every JSON reader keeps exactly."""
        value = self.value.get(name, default)
        if value is None and default is not None:
            return default
        if type(value) is not int or not 0 <= value < 1 << 53:
            raise self.fault(name, "must be a non-negative integer")
        return value

    def flag(self, name: str) -> bool:
        value = self.value.get(name)
        if not isinstance(value, bool):
            raise self.fault(name, "must be true or false")
        return value

    def object(self, name: str) -> Fields:
        value = self.value.get(name)
        if not isinstance(value, dict):
            raise self.fault(name, "must be an object")
        return Fields(value, (*self.path, name))

    def optional_object(self, name: str) -> Fields | None:
        return None if self.value.get(name) is None else self.object(name)

    def others(self, *known: str) -> dict[str, Any]:
        """Return the members that are none of `known`."""
        return {name: value for name, value in self.value.items() if name not in known}


DECIMAL = form(f"a decimal string of at most {_MAX_DIGITS} digits", rf"0|[1-9][0-9]{{0,{_MAX_DIGITS - 1}}}")
EVM_ADDRESS = form("an address: 0x and 40 hexadecimal digits", r"0x[0-9a-fA-F]{40}")
CHAIN_ID = form("a CAIP-2 chain id such as eip155:84532", r"[-a-z0-9]{3,8}:[-_a-zA-Z0-9]{1,32}")
LINE = form("a text of at most 512 characters without control characters", r"[^\x00-\x1f\x7f]{1,512}")
VISIBLE = form("visible ASCII, at most 2048 characters", r"[!-~]{1,2048}")


def encode_json(value: Mapping[str, Any]) -> str:
    """Return standard base64 of compact JSON; escaped to ASCII, because buyers in browsers decode with `atob`."""
    return binascii.b2a_base64(json.dumps(value, separators=(",", ":")).encode(), newline=False).decode()


def decode_json(header: str, *, limit: int) -> Fields:
    """Read base64 of a JSON object of at most `limit` characters.

    Taken are the standard and, as some buyers send it, the URL-safe alphabet (never both at once), with right or no
    padding. Refused are duplicate names, non-finite or endless numbers, NUL, lone surrogates, and nesting beyond
    `MAX_DEPTH`: all that a store, a hash or another reader would treat otherwise than we do.
    """
    if len(header) > limit:
        raise WireError(f"must have at most {limit} characters")
    try:
        text = _unbase64(header).decode()
    except ValueError:
        raise WireError("must be base64 of UTF-8 JSON") from None
    try:
        value = _loads(text)
    except ValueError:
        raise WireError(
            "must hold well-formed JSON: unique names, finite numbers, valid characters, little depth"
        ) from None
    if not isinstance(value, dict):
        raise WireError("must hold a JSON object")
    return Fields(value)


def _unbase64(header: str) -> bytes:
    digits = header.rstrip("=")
    padding = -len(digits) % 4
    if len(header) - len(digits) not in (0, padding):
        raise ValueError("padding")
    if "-" in digits or "_" in digits:
        if "+" in digits or "/" in digits:
            raise ValueError("two alphabets")
        digits = digits.translate(_URLSAFE)
    return binascii.a2b_base64(digits + "=" * padding, strict_mode=True)


def _loads(text: str) -> Any:
    if "\\u0000" in text.replace("\\\\", ""):
        raise ValueError("NUL")
    if text.count("{") + text.count("[") > MAX_DEPTH:
        _require_shallow(text)
    value = _DECODER.decode(text)
    if "\\ud" in text or "\\uD" in text:
        json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate has no UTF-8
    return value


def _require_shallow(text: str) -> None:
    # Before parsing: where a library raised the recursion limit, deep JSON overruns the C stack and kills the process.
    unescaped = text.replace("\\\\", "").replace('\\"', "")
    depth = 0
    for run in _BRACKETS.findall("".join(unescaped.split('"')[::2])):
        depth += len(run) if run[0] in "[{" else -len(run)
        if depth > MAX_DEPTH:
            raise ValueError("depth")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("duplicate names")
    return value


def _integer(digits: str) -> int:
    if len(digits.removeprefix("-")) > _MAX_DIGITS:
        raise ValueError("endless number")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError("not finite")
    return value


def _no_constant(name: str) -> float:
    raise ValueError(name)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_integer, parse_float=_finite, parse_constant=_no_constant
)
