"""Copies of files that buyers name by address: taken once, when an order is checked, and kept until it has ended."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable

import sqlalchemy as sa

from stablestudio.clock import Clock
from stablestudio.media.storage import Storage
from stablestudio.store import copies as store
from stablestudio.store.copies import Copy
from stablestudio.store.database import Database

# From a check to the claim of its payment it takes seconds.
_UNCLAIMED_MS = 3_600_000
_BATCH = 100


class Copies:
    """Keeps what was checked, so that this very file is what an order is made from, whatever its address says later."""

    def __init__(self, database: Database, *, storage: Storage, clock: Clock) -> None:
        self._database = database
        self._storage = storage
        self._clock = clock

    async def keep(self, url: str, data: bytes, *, content_type: str, intake: str) -> None:
        """Keep what an address led to, as a part of the `intake` that looked at it; see `store.copies.link`."""
        copy = Copy(
            key=f"inputs/{intake}/{secrets.token_hex(8)}",
            intake=intake,
            url=url,
            content_type=content_type,
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            created_at=self._clock.now_ms(),
        )
        await self._database.write(lambda connection: store.insert(connection, copy))
        await self._storage.put_once(copy.key, data, content_type=content_type)

    async def find(self, url: str, *, order_id: str) -> Copy | None:
        """Return the copy that an order was checked with."""
        return await self._database.read(lambda connection: store.find(connection, order_id=order_id, url=url))

    async def drop(self, order_id: str) -> None:
        """Erase the copies of an order that has come to its end."""
        for key in await self._database.read(lambda connection: store.keys_of(connection, order_id)):
            await self._erase(key)

    async def discard(self, intake: str) -> None:
        """Erase the copies of an intake that no order is going to be made from."""
        now = self._clock.now_ms()
        await self._erase_unneeded(lambda connection: store.unneeded(connection, before=now + 1, intake=intake))

    async def purge(self) -> int:
        """Erase what no order took, and what a stop left behind; return how many files."""
        before = self._clock.now_ms() - _UNCLAIMED_MS
        count = 0
        while found := await self._erase_unneeded(
            lambda connection: store.unneeded(connection, before=before, limit=_BATCH)
        ):
            count += found
        return count

    async def _erase_unneeded(self, query: Callable[[sa.Connection], list[str]]) -> int:
        keys = await self._database.read(query)
        for key in keys:
            await self._erase(key)
        return len(keys)

    async def _erase(self, key: str) -> None:
        await self._storage.delete(key)
        await self._database.write(lambda connection: store.forget(connection, key))
