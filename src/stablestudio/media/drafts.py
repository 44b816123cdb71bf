"""Bytes of uploads on their way: noted before they are written, erased before they are forgotten, so that a stop leaves none behind."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import sqlalchemy as sa

from stablestudio.clock import Clock
from stablestudio.media.looks import UploadsBusy
from stablestudio.media.storage import Storage
from stablestudio.store import uploads as store
from stablestudio.store.database import Database, is_file

_BATCH = 100
# Vercel's client sends 6 parts at once; one whose connection broke may be here for a while when it is sent again.
_AT_ONCE = 8


class Drafts:
    """Gives out keys to write under, and erases what nobody needs under them."""

    def __init__(self, database: Database, *, storage: Storage, clock: Clock, useless_ms: int) -> None:
        """Take the parts; `useless_ms` is how long after its beginning nobody needs any more what is written."""
        self._database = database
        self._storage = storage
        self._clock = clock
        # Others may write, too: who was killed meanwhile looks like who is slow.
        self._patience_ms = 0 if is_file(database.url) else useless_ms
        self._writing: set[str] = set()

    @asynccontextmanager
    async def open(self, upload_id: str, note: Callable[[sa.Connection, str], None]) -> AsyncIterator[str]:
        """Have `note` write down a key, and give it out; what was not taken in the block is erased.

        Which file is an upload's is the table's word, so nobody wrote under this key before. Raises `UploadsBusy`.
        """
        folder = f"uploads/{upload_id}/"
        if sum(key.startswith(folder) for key in self._writing) >= _AT_ONCE:
            raise UploadsBusy(f"{_AT_ONCE} parts of this upload are on their way already.")
        key = folder + secrets.token_hex(8)
        self._writing.add(key)
        try:
            await self._database.write(lambda connection: note(connection, key))
            yield key
        finally:
            self._writing.discard(key)
            await self.clear(upload_id, left=key)

    async def clear(self, upload_id: str | None = None, *, left: str | None = None) -> None:
        """Erase what is not needed any more, of one upload or of all; what resists is left to the next time.

        `left` is a key that nobody writes under any more.
        """
        after: str | None = ""
        while after is not None:
            after, keys = await self._database.write(partial(self._page, after=after, upload_id=upload_id, left=left))
            if keys:
                gone = await self._storage.erase(keys)
                await self._database.write(partial(store.forget, keys=gone))

    def _page(
        self, connection: sa.Connection, *, after: str, upload_id: str | None, left: str | None
    ) -> tuple[str | None, Sequence[str]]:
        """Return where the next page begins, and the keys of this one that nobody writes under.

        Within a write, as what is being written under a key becomes a part or a file in another one.
        """
        if left is not None:
            store.leave(connection, left)
        begun_before = self._clock.now_ms() - self._patience_ms + 1
        keys = store.unneeded(connection, begun_before=begun_before, after=after, limit=_BATCH, upload_id=upload_id)
        return keys[-1] if len(keys) == _BATCH else None, [key for key in keys if key not in self._writing]
