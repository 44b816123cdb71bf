"""The last look before a question's bytes leave: whoever asks may have lost the right to, while it waited for a connection."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar

import httpx2

# A body goes in pieces, so that one which was held up on the way is not finished after the end: a vendor waits for the
# length that it was told, and half a question is as good as none.
_PIECE = 64 * 1024
# https://www.encode.io/httpcore/extensions/#trace: with connection and TLS made, before the first byte.
_HEAD_LEAVES = "send_request_headers.started"


class Leave:
    """A piece of work's leave to ask, as long as `require` does not raise."""

    def __init__(self, require: Callable[[], None]) -> None:
        self._require = require
        self.used = False  # whether anything of a question may have left

    def take(self) -> None:
        """Raise where nothing may leave any more."""
        self._require()
        self.used = True


# Set for a piece of work, so that no adapter has to know of it.
leave: ContextVar[Leave | None] = ContextVar("leave", default=None)


def take() -> None:
    """Raise where nothing may leave any more: what asks otherwise than over HTTP calls this first."""
    given = leave.get()
    if given is not None:
        given.take()


def guarded(request: httpx2.Request) -> httpx2.Request:
    """Return a request of which nothing leaves once the leave of its work is over, but what is in the system's own hands."""
    given = leave.get()
    if given is None:
        return request

    async def trace(event: str, _: object) -> None:
        if event.endswith(_HEAD_LEAVES):
            given.take()

    request.extensions = {**request.extensions, "trace": trace}
    request.stream = _Pieces(request.content, given)
    return request


class _Pieces(httpx2.AsyncByteStream):
    """A body, with a look before each piece of it."""

    def __init__(self, body: bytes, leave: Leave) -> None:
        self._body = body
        self._leave = leave

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for begin in range(0, len(self._body), _PIECE):
            self._leave.take()
            yield self._body[begin : begin + _PIECE]
