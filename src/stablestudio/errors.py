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
        charged: bool = False,
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
