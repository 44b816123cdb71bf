"""The HTTP server's own answers: request heads that do not end, or not in time, are cut off, and what is no HTTP is told so."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

from pydantic_core import to_json

from stablestudio.errors import StudioError
from stablestudio.server.http import RequestTooSlow
from stablestudio.server.whole import WholeHttp

# Payments echo the challenge and come to a few KB; buyers' proxies add more; 32 KB have been seen.
MAX_HEAD = 128 * 1024
MAX_HEADERS = 500
HEAD_SECONDS = 30.0
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
    _clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_clock()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # uvicorn knows the method when the head is complete; trailers behind a body are added to the same headers.
        scope: Any = self.scope
        if scope is None:
            return
        if "method" in scope and len(self.headers) <= MAX_HEADERS:
            self._head = 0
            self._stop_clock()
            return
        self._head += len(data)
        self._start_clock()
        if self._head > MAX_HEAD or len(self.headers) > MAX_HEADERS:
            self._hang_up(HeadersTooLarge())

    def _start_clock(self) -> None:
        if self._clock is None:
            self._clock = self.loop.call_later(HEAD_SECONDS, self._end_slow_head)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _end_slow_head(self) -> None:
        self._hang_up(RequestTooSlow("The request's head took too long to arrive."))

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - ours says the same as JSON
        self._hang_up(MalformedRequest())

    def _hang_up(self, error: StudioError) -> None:
        body = to_json(error.body() | {"docs": f"/docs/errors#{error.code}"})
        reason = HTTPStatus(error.status).phrase.encode()
        self.transport.write(_ANSWER % (error.status, reason, len(body), body))
        self.transport.close()
