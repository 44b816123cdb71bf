"""Names looked up by the system's resolver: in threads, which no name server that never answers can hold all of."""

from __future__ import annotations

import asyncio
import socket
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from weakref import WeakValueDictionary

from stablestudio.media.addresses import FetchFailed

_THREADS = 16
_OF_ONE_DOMAIN = 2  # look-ups at a time of names that end in the same two labels
_PATIENCE = 10.0  # seconds for one look-up
_SILENCE = 30.0  # seconds for which a name that nobody answered for is not asked for again


class LookUps:
    """Looks names up for one purpose, with threads of its own: a look-up that is given up holds its thread all the same."""

    def __init__(self, *, patience: float = _PATIENCE) -> None:
        self._patience = patience
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="look-up")
        self._domains: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._silent: dict[str, float] = {}

    async def __call__(self, host: str) -> list[str]:
        """Return all addresses of a host; raise `FetchFailed`."""
        if self._silent.get(host, 0.0) > time.monotonic():
            raise _unanswered(host)
        domain = self._domains.setdefault(_domain(host), asyncio.Semaphore(_OF_ONE_DOMAIN))
        work = None
        try:
            async with asyncio.timeout(self._patience):
                await domain.acquire()
                work = self._begin(host, domain)
                answers = await asyncio.wrap_future(work)
        except TimeoutError:
            if work is not None and work.running():
                self._note_silence(host)
            raise _unanswered(host) from None
        except OSError:
            raise FetchFailed(f"{host} has no address.") from None
        return [str(address[0]) for *_, address in answers]

    def _begin(self, host: str, domain: asyncio.Semaphore) -> Future[Any]:
        """Ask in a thread, which makes room for the domain's next name when it has ended, whoever still waits for it."""
        loop = asyncio.get_running_loop()

        def ended(_: Future[Any]) -> None:
            with suppress(RuntimeError):  # the loop has ended, and with it whoever waits
                loop.call_soon_threadsafe(domain.release)

        work = self._threads.submit(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
        work.add_done_callback(ended)
        return work

    def _note_silence(self, host: str) -> None:
        now = time.monotonic()
        self._silent = {name: until for name, until in self._silent.items() if until > now}
        self._silent[host] = now + _SILENCE


def _domain(host: str) -> str:
    return ".".join(host.split(".")[-2:])


def _unanswered(host: str) -> FetchFailed:
    return FetchFailed(f"No name server answers for {host}.")
