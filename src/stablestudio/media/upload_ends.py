"""The ends of uploads: what was never confirmed goes some time after its token, what was confirmed when it is kept no longer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import sqlalchemy as sa

from stablestudio.clock import Clock
from stablestudio.media.storage import Storage
from stablestudio.store import uploads as store
from stablestudio.store.database import Database

# A buyer may still be sending when the token ends, and confirms within the hour; what is not confirmed goes an hour later,
# so that no file goes while somebody looks at it.
CONFIRM_MS = 3_600_000
_ABANDONED_MS = 2 * CONFIRM_MS
_BATCH = 100


class UploadEnds:
    """Closes uploads whose time is over, in small batches, and erases what they leave; any process may do it."""

    def __init__(self, database: Database, *, storage: Storage, clock: Clock, kept_ms: int | None) -> None:
        """Take the parts; `kept_ms` is how long a confirmed file is kept, for ever where it is None."""
        self._database = database
        self._storage = storage
        self._clock = clock
        self._kept_ms = kept_ms

    async def look(self) -> tuple[int, int]:
        """Return how many files a purge would erase now, and how many bytes; nothing is changed."""
        now = self._clock.now_ms()
        expired = None if self._kept_ms is None else now - self._kept_ms
        return await self._database.read(partial(store.tally, abandoned=now - _ABANDONED_MS, expired=expired))

    async def close(self) -> int:
        """Close what is over; return how many uploads that were."""
        now = self._clock.now_ms()
        ended = await self._all(partial(store.abandon, before=now - _ABANDONED_MS, limit=_BATCH))
        if self._kept_ms is not None:
            ended += await self._all(partial(store.expire, before=now - self._kept_ms, limit=_BATCH))
        return ended

    async def purge(self) -> int:
        """Close what is over and erase what is left of it, beside a service that takes uploads; return how many files."""
        await self.close()
        erased, after = 0, ""
        while keys := await self._database.read(partial(store.left_over, after=after, limit=_BATCH)):
            gone = await self._storage.erase(keys)
            await self._database.write(partial(store.forget, keys=gone))
            erased, after = erased + len(gone), keys[-1]
        return erased

    async def _all(self, end: Callable[[sa.Connection], int]) -> int:
        count = 0
        while ended := await self._database.write(end):
            count += ended
        return count
