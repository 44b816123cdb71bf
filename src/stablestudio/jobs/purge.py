"""The purge: files whose time is over, or whose owner deleted them, are erased, and a stop at any point loses no track."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from stablestudio.clock import Clock
from stablestudio.failpoints import reach
from stablestudio.loops import every
from stablestudio.media.storage import Storage
from stablestudio.store import assets as store
from stablestudio.store.assets import Doomed, Tally
from stablestudio.store.database import Database

log = logging.getLogger(__name__)
_INTERVAL = 3600.0
_BATCH = 100
# No link outlives its file; a download that began with the last one may take this long.
GRACE_MS = 600_000


class Purger:
    """Erases files in three steps, each of which may be repeated: mark the row, erase the bytes, note that they are gone."""

    def __init__(self, database: Database, *, storage: Storage, clock: Clock) -> None:
        self._database = database
        self._storage = storage
        self._clock = clock

    async def run(self) -> None:
        """Work until cancelled."""
        await every(_INTERVAL, self.purge, name="purge")

    async def look(self) -> Tally:
        """Return what a purge would erase now; nothing is changed."""
        before = self._clock.now_ms() - GRACE_MS
        return await self._database.read(lambda connection: store.tally(connection, before=before))

    async def purge(self) -> Tally:
        """Erase what has expired, and what an earlier run or a deletion left; return what this run erased."""
        told = Tally(files=0, size=0, oldest=None)
        while await self._mark():
            reach("purge.marked")
            told += await self._erase()
        told += await self._erase()
        if told.files:
            log.info("files_purged", extra={"files": told.files, "bytes": told.size})
        return told

    async def erase_job(self, job_id: str) -> None:
        """Erase what was marked of one job; what cannot be erased now is left to the next purge."""
        await self._erase(job_id=job_id)

    async def _mark(self) -> int:
        now = self._clock.now_ms()
        return await self._database.write(
            lambda connection: store.mark_expired(connection, before=now - GRACE_MS, now=now, limit=_BATCH)
        )

    async def _erase(self, *, job_id: str | None = None) -> Tally:
        told, after = Tally(files=0, size=0, oldest=None), ""
        while files := await self._doomed(after=after, job_id=job_id):
            after = files[-1].key
            told += _sum(await self._erase_files(files))
        return told

    async def _doomed(self, *, after: str, job_id: str | None) -> list[Doomed]:
        return await self._database.read(
            lambda connection: store.doomed(connection, limit=_BATCH, after=after, job_id=job_id)
        )

    async def _erase_files(self, files: Sequence[Doomed]) -> list[Doomed]:
        gone = await self._storage.erase(file.key for file in files)
        reach("purge.erased")
        now = self._clock.now_ms()
        noted = await self._database.write(lambda connection: store.note_erased(connection, gone, now=now))
        reach("purge.noted")
        return [file for file in files if file.key in set(noted)]


def _sum(files: Sequence[Doomed]) -> Tally:
    oldest = min((file.created_at for file in files), default=None)
    return Tally(files=len(files), size=sum(file.size for file in files), oldest=oldest)
