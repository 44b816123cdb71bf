"""Turns: so many at once for each name, such as a wallet, so that one alone never takes all places."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """So many at once for each name; a name that nobody uses is forgotten."""

    def __init__(self, each: int) -> None:
        self._each = each
        self._users: defaultdict[str, int] = defaultdict(int)
        self._locks: dict[str, asyncio.Semaphore] = {}

    @asynccontextmanager
    async def of(self, name: str) -> AsyncIterator[None]:
        """Wait for a turn of this name, and have it for the block."""
        lock = self._locks.setdefault(name, asyncio.Semaphore(self._each))
        self._users[name] += 1
        try:
            async with lock:
                yield
        finally:
            self._users[name] -= 1
            if not self._users[name]:
                del self._users[name], self._locks[name]
