"""The HTTP server's own bound: request heads that do not end are cut off."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Payments echo the challenge and come to a few KB; buyers' proxies add more (facts/agentcash.md 0.2 asks for 32 KB).
MAX_HEAD = 128 * 1024
_BODY = (
    b'{"success":false,"error":"The request headers are too large.","code":"headers_too_large","status":431,'
    b'"hint":"Send fewer or shorter headers; nothing was charged.","retryable":false,"charged":false}'
)
_ANSWER = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%s"
)


class LimitedHttp(HttpToolsProtocol):
    """uvicorn's protocol, which by itself buffers a head without end."""

    _head = 0
    _in_head = False

    def on_message_begin(self) -> None:
        self._head = 0
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        # Counted after it was read: the last piece of a head may carry the beginning of a body.
        if self._in_head and self._head > MAX_HEAD:
            self.transport.write(_ANSWER % (len(_BODY), _BODY))
            self.transport.close()
            return
        super().data_received(data)
        if self._in_head:
            self._head += len(data)
