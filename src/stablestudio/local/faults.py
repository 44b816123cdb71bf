"""What the worker refuses, in the words of OpenAI's protocol: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from stablestudio.errors import StudioError


class Refused(Exception):
    """The worker does not do what was asked; the class's name is the protocol's code.

    No error of the service: whoever reads it speaks OpenAI's protocol, and no money is near.
    """

    status: ClassVar[int] = 400
    kind: ClassVar[str] = "invalid_request_error"

    def __init__(self, message: str | None = None, *, param: str | None = None, retry_after: int | None = None) -> None:
        """Take the field at fault, and the seconds after which another try makes sense."""
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        self.headers = [] if retry_after is None else [("Retry-After", str(retry_after))]
        self.param = param
        super().__init__(self.message)

    @property
    def code(self) -> str:
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self).__name__).lower()

    def body(self) -> dict[str, Any]:
        error = {"message": self.message, "type": type(self).kind, "param": self.param, "code": self.code}
        return {"error": error}


class InvalidValue(Refused):
    """A field has a value that this model cannot work with."""


class InvalidImageFile(Refused):
    """An image cannot be read."""


class ModerationBlocked(Refused):
    """The model's own filter withheld what it made."""


class InvalidApiKey(Refused):
    """The key is not this worker's."""

    status = 401


class ModelNotFound(Refused):
    """This worker serves another model."""

    status = 404


class NotFound(Refused):
    """There is no such thing here."""

    status = 404


class NotReady(Refused):
    """The clip is not finished."""

    status = 409


class RequestTooLarge(Refused):
    """The request is larger than this worker reads."""

    status = 413


class UnsupportedMediaType(Refused):
    """Requests to this worker are JSON."""

    status = 415


class RateLimitExceeded(Refused):
    """The queue of the device is full."""

    status = 429
    kind = "rate_limit_error"


class ServerError(Refused):
    """The pipeline broke; nothing was made."""

    status = 500
    kind = "server_error"


class Stopped(Refused):
    """The work was cancelled."""

    status = 499
    code = "cancelled"


class CannotStart(StudioError):
    """The worker cannot start."""

    hint = "Correct what the line above names; see `stablestudio local serve --help`."
