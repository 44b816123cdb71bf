"""Keep what was made: each file under a key that is written once, measured, with a preview for clips."""

from __future__ import annotations

import hashlib
import logging

from stablestudio.clock import Clock
from stablestudio.media.decoding import DECODER
from stablestudio.media.probe import UnreadableMedia
from stablestudio.media.storage import AssetExists, Storage
from stablestudio.providers.provider import Output
from stablestudio.store import jobs as store
from stablestudio.store.database import Database

log = logging.getLogger(__name__)
_EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "video/mp4": "mp4"}


class Keeper:
    """Puts files into the storage and describes them in the books; doing either again changes nothing."""

    def __init__(self, database: Database, *, storage: Storage, clock: Clock) -> None:
        self._database = database
        self._storage = storage
        self._clock = clock

    async def keep(self, job_id: str, output: Output) -> None:
        """Keep a job's result. Raises `UnreadableMedia` where it is no picture or clip."""
        key = f"jobs/{job_id}/0.{_EXTENSIONS.get(output.content_type, 'bin')}"
        await self._store(job_id, key=key, role="result", output=output)

    async def add_thumbnail(self, clip: store.Asset) -> None:
        """Keep a picture of a clip, where one can be had."""
        data = self._storage.path(clip.key) or await self._storage.read(clip.key)
        try:
            picture = await DECODER.thumbnail(data, content_type=clip.content_type)
        except UnreadableMedia:
            # The clip is what was paid for: it is delivered without a preview rather than not at all.
            log.warning("no_thumbnail", extra={"job": clip.job_id})
            return
        output = Output(data=picture, content_type="image/jpeg")
        await self._store(clip.job_id, key=f"jobs/{clip.job_id}/0.thumb.jpg", role="thumbnail", output=output)

    async def _store(self, job_id: str, *, key: str, role: str, output: Output) -> None:
        data = output.data
        seen = await DECODER.probe(data)
        try:
            await self._storage.put_once(key, data, content_type=output.content_type)
        except AssetExists:
            data = await self._storage.read(key)  # kept before a stop; what is there stays
            seen = await DECODER.probe(data)
        asset = store.Asset(
            key=key,
            job_id=job_id,
            role=role,
            content_type=output.content_type,
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            width=seen.width,
            height=seen.height,
            milliseconds=round(seen.seconds * 1000) if seen.seconds is not None else None,
            created_at=self._clock.now_ms(),
        )
        await self._database.write(lambda connection: store.insert_asset(connection, asset))
