"""Errors that people and programs read: one base class, one JSON shape (contract section 6)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Issue:
    """One field at fault: where, which rule, what is wrong, and what would be right."""

    path: tuple[str | int, ...]
    code: str
    message: str
    allowed: tuple[Any, ...] | None = None

    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = {"path": list(self.path), "code": self.code, "message": self.message}
        if self.allowed is not None:
            body["allowed"] = list(self.allowed)
        return body


# What the `code` of an issue can be beside the code of an error, by which files are refused.
ISSUE_CODES = {
    "blank": "The text consists of spaces.",
    "conflict": "The value is right alone, and wrong beside another one.",
    "duplicate_key": "The field is given twice.",
    "file_out_of_limits": "The file is too large, too long or of another shape than the model takes.",
    "invalid": "The value is none of its kind.",
    "invalid_filename": "The name is none of a file that is taken here.",
    "invalid_form": "The body is no well-formed multipart/form-data.",
    "invalid_json": "The body is no well-formed JSON.",
    "invalid_link": "The text is neither an address, nor a data: URI, nor job:ID.",
    "invalid_url": "The address is none that may be called.",
    "misaligned": "Two lists that belong together differ in length.",
    "mismatch": "The value is not the one that was offered.",
    "missing": "The field is required.",
    "mixed_forms": "The field is of an older form of this input, and others are of today's.",
    "not_a_file": "The field takes no file.",
    "not_allowed": "The value is none of those allowed.",
    "not_an_object": "The body must be a JSON object.",
    "not_made_here": "The model can, but no maker that this service has does.",
    "nul_character": "The text holds a NUL character.",
    "out_of_range": "The number is too small or too large.",
    "too_few": "The list needs more entries.",
    "too_long": "The text is too long.",
    "too_many": "The list has too many entries.",
    "too_many_values": "The body holds more values than any route takes.",
    "too_short": "The text is too short.",
    "unknown_field": "There is no such field here.",
    "unknown_reference": "The prompt speaks of a file that is not there.",
    "unknown_value": "The value is none of those there are.",
    "wrong_kind_of_media": "The file is a picture where a clip is wanted, or the like.",
    "wrong_type": "The value is of another type, such as a number in quotes.",
}


class StudioError(Exception):
    """Base of every error that reaches a buyer or an operator.

    `code` is the class name in snake case and part of the public contract; the class docstring is the default message.
    """

    code: ClassVar[str] = "studio_error"
    status: ClassVar[int] = 500
    hint: ClassVar[str] = "Try again later; if it persists, tell the operator the request id."
    retryable: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "code" not in cls.__dict__:
            cls.code = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()

    def __init__(
        self,
        message: str | None = None,
        *,
        hint: str | None = None,
        issues: Sequence[Issue] = (),
        charged: bool | None = False,
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.message = message or (type(self).__doc__ or type(self).__name__).strip().splitlines()[0]
        self.advice = hint or type(self).hint
        self.issues = tuple(issues)
        self.charged = charged
        self.extra = dict(extra or {})
        self.headers = list((headers or {}).items())  # a name may come several times, as WWW-Authenticate does
        super().__init__(self.message)

    def body(self) -> dict[str, Any]:
        """Return the JSON body of contract section 6; the server adds `docs`, whose address it knows."""
        body: dict[str, Any] = {
            "success": False,
            "error": self.message,
            "code": self.code,
            "status": self.status,
            "hint": self.advice,
            "retryable": self.retryable,
            "charged": self.charged,
        }
        if self.issues:
            body["issues"] = [issue.body() for issue in self.issues]
        return body | self.extra


class InvalidInput(StudioError):
    """The request body does not fit this route."""

    status = 400
    hint = "Correct the fields named in `issues` and send the request again; nothing was charged."


class InternalError(StudioError):
    """Something went wrong on our side."""

    status = 500
    retryable = True
