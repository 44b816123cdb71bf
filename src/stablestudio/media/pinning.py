"""Connections to permitted addresses only: a host is looked up once, every answer is judged, and that very address is called."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import ip_address

import httpcore2

from stablestudio.media.addresses import Address, FetchFailed, FetchRefused, literal
from stablestudio.media.heads import HeadStream

_MAX_ATTEMPTS = 4  # addresses of one host that are tried

Resolver = Callable[[str], Awaitable[Sequence[str]]]


class PinnedBackend(httpcore2.AsyncNetworkBackend):
    """Connect to permitted addresses only; TLS above it still checks the host's name, and heads of answers are bounded."""

    def __init__(
        self, *, resolve: Resolver, permits: Callable[[Address], bool], inner: httpcore2.AsyncNetworkBackend
    ) -> None:
        self._resolve = resolve
        self._permits = permits
        self._inner = inner

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (the signature is httpcore's)
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        *others, last = await self._addresses(host)
        for address in others:
            try:
                stream = await self._inner.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
            return HeadStream(stream, host=host)
        stream = await self._inner.connect_tcp(str(last), port, timeout, local_address, socket_options)
        return HeadStream(stream, host=host)

    async def _addresses(self, host: str) -> list[Address]:
        spelled = literal(host)
        addresses = [spelled] if spelled else [ip_address(answer) for answer in await self._resolve(host)]
        if not addresses:
            raise FetchFailed(f"{host} has no address.")
        if not all(self._permits(address) for address in addresses):
            raise FetchRefused(f"{host} is not a public address.")
        return addresses[:_MAX_ATTEMPTS]
