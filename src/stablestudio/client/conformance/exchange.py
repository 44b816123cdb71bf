"""One question and its answer, as they are recorded for the checks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Purpose(StrEnum):
    """What a request is to show; the words stand behind the address in findings."""

    DOCUMENT = "the document"
    LLMS = "the words for agents"
    NOWHERE = "an address without anything"
    EMPTY = "empty body"
    EXAMPLE = "the documented example"
    UNFIT = "fields of a wrong type"
    BROKEN = "broken JSON"
    HUGE = "a body of 16 MB"
    JUNK_X402 = "an x402 payment of junk"
    JUNK_MPP = "an MPP payment of junk"
    METHOD = "another method"
    PREFLIGHT = "a browser's preflight"
    SIGN_IN = "unsigned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """An operation that sells; prices are the document's, in US dollars as they are written there, empty where none is."""

    path: str
    low: str = ""
    high: str = ""
    example: Any = None
    schema: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request to send once."""

    purpose: Purpose
    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | int | None = None
    """The bytes, or how many spaces to send."""
    route: Route | None = None

    @property
    def where(self) -> str:
        return f"{self.method} {self.path} ({self.purpose})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back; header names are in lower case and may repeat."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name.lower()]

    def header(self, name: str) -> str:
        """Return a header's values as one list; empty where there is none."""
        return ", ".join(self.all(name))

    def tokens(self, name: str) -> set[str]:
        """Return the members of a comma-separated header in lower case."""
        return {token.strip().lower() for token in self.header(name).split(",") if token.strip()}

    def document(self) -> dict[str, Any] | None:
        """Return the body as a JSON object, None for anything else."""
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None

    @property
    def header_bytes(self) -> int:
        """Return the size of all headers on the wire."""
        return sum(len(name) + len(value) + len(": \r\n") for name, value in self.headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A question with its answer, at a time of our own clock; `origin` is the seller's."""

    question: Question
    answer: Answer
    origin: str
    now_s: float

    @property
    def where(self) -> str:
        return self.question.where

    @property
    def url(self) -> str:
        return self.origin + self.question.path


def walk(value: object, *names: str) -> Any:
    """Return a member of nested objects; None where one is missing or of another kind."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def objects(value: object) -> Iterator[dict[str, Any]]:
    """Yield the objects of an array; nothing for anything else."""
    yield from (item for item in value if isinstance(item, dict)) if isinstance(value, list) else ()
