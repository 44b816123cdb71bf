"""Connections whose answers begin soon: an endless head, or interim answers without end, would be parsed for ever."""

from __future__ import annotations

import ssl
from typing import Any

import httpcore2

from stablestudio.media.addresses import FetchFailed

MOST_BYTES = 64 * 1024
# The client parses what one read brought at a stretch: smaller pieces let others work in between.
_PIECE = 4096


class HeadStream(httpcore2.AsyncNetworkStream):
    """A stream that raises `FetchFailed` after 64 KiB, unless `admit_body` was called since something was written."""

    def __init__(self, inner: httpcore2.AsyncNetworkStream, *, host: str) -> None:
        self._inner = inner
        self._host = host
        self._left: int | None = MOST_BYTES

    def admit_body(self) -> None:
        """Take any number of bytes from here on: the head of the answer is complete."""
        self._left = None

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 (httpcore's signature)
        if self._left is None:
            return await self._inner.read(max_bytes, timeout)
        if self._left <= 0:
            raise FetchFailed(f"{self._host} sent {MOST_BYTES // 1024} KiB before its answer.")
        data = await self._inner.read(min(max_bytes, _PIECE), timeout)
        self._left -= len(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 (as above)
        self._left = MOST_BYTES
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 (as above)
    ) -> httpcore2.AsyncNetworkStream:
        return HeadStream(await self._inner.start_tls(ssl_context, server_hostname, timeout), host=self._host)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def admit_body(response: httpcore2.Response) -> None:
    """Let the body of an answer be read, whose head is complete."""
    stream = response.extensions.get("network_stream")
    if isinstance(stream, HeadStream):
        stream.admit_body()
