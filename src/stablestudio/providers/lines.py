"""Connections to a vendor, for each running event loop its own."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from dataclasses import dataclass
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx2

from stablestudio import __version__

# A work of ten minutes is ten silent minutes on the line: routers forget such connections after five or six.
_KEEP_ALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 30), ("TCP_KEEPCNT", 5))
        if hasattr(socket, name)
    ),
]


@dataclass(frozen=True, slots=True)
class _Line:
    """The connections of one event loop."""

    fresh: httpx2.AsyncClient
    pooled: httpx2.AsyncClient

    async def close(self) -> None:
        await self.fresh.aclose()
        await self.pooled.aclose()


class Lines:
    """One line for each running event loop: the engine makes jobs on a loop of its own."""

    def __init__(self, transport: httpx2.AsyncBaseTransport | None) -> None:
        self._transport = transport
        self._made: dict[asyncio.AbstractEventLoop, _Line] = {}
        self._lock = threading.Lock()

    def fresh(self) -> httpx2.AsyncClient:
        """Return a client that never takes a used connection, which the vendor may be about to close unheard."""
        return self._here().fresh

    def pooled(self) -> httpx2.AsyncClient:
        return self._here().pooled

    async def close(self) -> None:
        with self._lock:
            made, self._made = self._made, {}
        for loop, line in made.items():
            if loop is asyncio.get_running_loop():
                await line.close()
            elif loop.is_running():
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(line.close(), loop))

    def _here(self) -> _Line:
        loop = asyncio.get_running_loop()
        with self._lock:
            if loop not in self._made:
                self._made = {each: line for each, line in self._made.items() if not each.is_closed()}
                self._made[loop] = _Line(self._client(keep=0), self._client(keep=20))
            return self._made[loop]

    def _client(self, *, keep: int) -> httpx2.AsyncClient:
        transport = self._transport or httpx2.AsyncHTTPTransport(
            verify=_tls(),
            trust_env=False,
            # How many jobs run at once is limited elsewhere; a second limit here would turn work away.
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=keep, keepalive_expiry=5.0),
            socket_options=_KEEP_ALIVE,
        )
        return httpx2.AsyncClient(
            transport=transport,
            trust_env=False,
            follow_redirects=False,
            headers={"User-Agent": f"StableStudio/{__version__}"},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )


@cache
def _tls() -> ssl.SSLContext:
    return httpx2.create_ssl_context(trust_env=False)
