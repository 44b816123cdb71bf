"""Copies of files that buyers name by address: taken once, when an order is checked, and kept until it has ended."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from functools import partial

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
        await self._erase(await self._database.read(partial(store.keys_of, order_id=order_id)))

    async def discard(self, intake: str) -> None:
        """Erase the copies of an intake that no order is going to be made from."""
        await self._erase(await self._database.read(partial(store.unneeded_of, intake=intake)))

    async def look(self) -> tuple[int, int]:
        """Return how many files a purge would erase now, and how many bytes; nothing is changed."""
        return await self._database.read(partial(store.tally, before=self._clock.now_ms() - _UNCLAIMED_MS))

    async def purge(self) -> int:
        """Erase what no order took, and what a stop left behind; return how many files."""
        before = self._clock.now_ms() - _UNCLAIMED_MS
        count, after = 0, ""
        while keys := await self._database.read(partial(store.unneeded, before=before, after=after, limit=_BATCH)):
            count, after = count + await self._erase(keys), keys[-1]
        return count

    async def _erase(self, keys: Sequence[str]) -> int:
        if not keys:
            return 0
        gone = await self._storage.erase(keys)
        await self._database.write(partial(store.forget, keys=gone))
        return len(gone)
