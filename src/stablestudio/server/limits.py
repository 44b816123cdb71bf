"""The HTTP server's own answers: request heads that do not end are cut off, and what is no HTTP is told so."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from pydantic_core import to_json

from stablestudio.errors import StudioError
from stablestudio.server.whole import WholeHttp

# Payments echo the challenge and come to a few KB; buyers' proxies add more; 32 KB have been seen.
MAX_HEAD = 128 * 1024
MAX_HEADERS = 500
_ANSWER = b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s"


class HeadersTooLarge(StudioError):
    """The request headers are too large."""

    status = 431
    hint = "Send fewer or shorter headers; nothing was charged."


class MalformedRequest(StudioError):
    """This is not HTTP/1.1."""

    status = 400
    hint = "Send a well-formed HTTP/1.1 request; nothing was charged."


class LimitedHttp(WholeHttp):
    """uvicorn's protocol, which by itself buffers a head without end. One more look at each piece that arrives."""

    _head = 0

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # uvicorn knows the method when the head is complete; trailers behind a body are added to the same headers.
        scope: Any = self.scope
        if scope is None or ("method" in scope and len(self.headers) <= MAX_HEADERS):
            self._head = 0
            return
        self._head += len(data)
        if self._head > MAX_HEAD or len(self.headers) > MAX_HEADERS:
            self._hang_up(HeadersTooLarge())

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - ours says the same as JSON
        self._hang_up(MalformedRequest())

    def _hang_up(self, error: StudioError) -> None:
        body = to_json(error.body() | {"docs": f"/docs/errors#{error.code}"})
        reason = HTTPStatus(error.status).phrase.encode()
        self.transport.write(_ANSWER % (error.status, reason, len(body), body))
        self.transport.close()
