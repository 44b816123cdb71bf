"""Connections to permitted addresses only: a host is looked up once, every answer is judged, and that very address is called."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import ip_address

import httpcore2

from stablestudio.errors import StudioError
from stablestudio.media.addresses import Address, FetchRefused, literal

_MAX_ATTEMPTS = 4  # addresses of one host that are tried
# Threads of their own: whoever runs a name server that never answers must not hold those that the service works with.
_LOOK_UPS = ThreadPoolExecutor(max_workers=16, thread_name_prefix="look-up")

Resolver = Callable[[str], Awaitable[Sequence[str]]]


class FetchFailed(StudioError):
    """This address could not be fetched."""

    status = 400
    hint = "Check that the address answers with the file itself to anyone, without signing in, then try again."


class PinnedBackend(httpcore2.AsyncNetworkBackend):
    """Connect to permitted addresses only; TLS above it still checks the host's name."""

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
        addresses = await self._addresses(host)
        for address in addresses[:-1]:
            try:
                return await self._inner.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return await self._inner.connect_tcp(str(addresses[-1]), port, timeout, local_address, socket_options)

    async def _addresses(self, host: str) -> list[Address]:
        spelled = literal(host)
        addresses = [spelled] if spelled else [ip_address(answer) for answer in await self._resolve(host)]
        if not addresses:
            raise FetchFailed(f"{host} has no address.")
        if not all(self._permits(address) for address in addresses):
            raise FetchRefused(f"{host} is not a public address.")
        return addresses[:_MAX_ATTEMPTS]


async def resolve_host(host: str) -> list[str]:
    """Return all addresses of a host by the system's resolver; raise `FetchFailed`."""
    look_up = partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
    try:
        answers = await asyncio.get_running_loop().run_in_executor(_LOOK_UPS, look_up)
    except OSError:
        raise FetchFailed(f"{host} has no address.") from None
    return [str(address[0]) for *_, address in answers]
