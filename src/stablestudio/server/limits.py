"""The HTTP server's own answers: request heads that do not end are cut off, and what is no HTTP is told so."""

from __future__ import annotations

from http import HTTPStatus

from pydantic_core import to_json
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from stablestudio.errors import StudioError

# Payments echo the challenge and come to a few KB; buyers' proxies add more; 32 KB have been seen.
MAX_HEAD = 128 * 1024
_ANSWER = b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s"


class HeadersTooLarge(StudioError):
    """The request headers are too large."""

    status = 431
    hint = "Send fewer or shorter headers; nothing was charged."


class MalformedRequest(StudioError):
    """This is not HTTP/1.1."""

    status = 400
    hint = "Send a well-formed HTTP/1.1 request; nothing was charged."


class LimitedHttp(HttpToolsProtocol):
    """uvicorn's protocol, which by itself buffers a head without end."""

    _head = 0
    _in_head = False

    def on_message_begin(self) -> None:
        self._head = 0
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:  # a trailer, behind the body: nobody reads it, and it may not go on for ever
            self._head += len(name) + len(value)
            return
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        # Counted after it was read: the last piece of a head may carry the beginning of a body.
        if self._head > MAX_HEAD:
            return self._hang_up(HeadersTooLarge())
        super().data_received(data)
        if self._in_head:
            self._head += len(data)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - ours says the same as JSON
        self._hang_up(MalformedRequest())

    def _hang_up(self, error: StudioError) -> None:
        body = to_json(error.body() | {"docs": f"/docs/errors#{error.code}"})
        reason = HTTPStatus(error.status).phrase.encode()
        self.transport.write(_ANSWER % (error.status, reason, len(body), body))
        self.transport.close()
