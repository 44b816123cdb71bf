"""Whole answers in one write: what the edge offers to hot routes as an ASGI extension, in place of two messages.

uvicorn looks for control characters in each name and value with a regular expression, and hands head and body to the
transport apart; for a 402 of all rails, that takes as long as making its offers.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from stablestudio.server.http import WHOLE, Headers, Scope


class WholeHttp(HttpToolsProtocol):
    """uvicorn's protocol, with the extension in each request's scope."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._extensions = {WHOLE: self._write}

    def on_message_begin(self) -> None:
        super().on_message_begin()
        scope: Any = self.scope
        scope["extensions"] = self._extensions

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._extensions.clear()  # or protocol and scope would hold each other until a garbage collection

    def _write(self, scope: Scope, status: int, body: bytes, headers: Headers) -> bool:
        """Write an answer, complete but for the length, with names in lower case; False where ASGI must be used.

        That is so where anything is out of the ordinary: a request with others behind it, a connection that is to be
        closed, has gone or takes no more for now, no body, or a header that would end early and begin another.
        """
        cycle = self.cycle
        if cycle.scope is not scope or not cycle.keep_alive or cycle.disconnected or self.flow.write_paused:
            return False
        if cycle.response_started or cycle.access_log or scope["method"] == "HEAD":
            return False
        lines = [b": ".join(line) for line in (*cycle.default_headers, *headers)]
        said = b"".join(lines)
        if b"\r" in said or b"\n" in said or b"\0" in said:
            return False
        lines += b"content-length: %d" % len(body), b"", body
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        self.transport.write(STATUS_LINE[status] + b"\r\n".join(lines))
        cycle.message_event.set()
        cycle.on_response()
        return True
