"""Keep what was made: each file under a key that is written once, measured, with previews."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from pathlib import Path

from stablestudio.clock import Clock
from stablestudio.media.blurhash import blurhash
from stablestudio.media.decoding import DECODER
from stablestudio.media.probe import UnreadableMedia
from stablestudio.media.storage import AssetExists, Storage
from stablestudio.providers.provider import Output
from stablestudio.store import jobs as store
from stablestudio.store.database import Database

log = logging.getLogger(__name__)
_POSTER = 1920  # pixels of the longer side
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

    async def add_previews(self, result: store.Asset) -> None:
        """Keep a thumbnail of a result with its blurhash, and a poster of a clip, where they can be had."""
        data: Path | bytes = self._storage.path(result.key) or await self._storage.read(result.key)
        job_id = result.job_id
        try:
            if result.content_type.startswith("video/"):
                data = await DECODER.thumbnail(data, content_type=result.content_type, longest=_POSTER)
                poster = Output(data=data, content_type="image/jpeg")
                await self._store(job_id, key=f"jobs/{job_id}/0.poster.jpg", role="poster", output=poster)
            picture = await DECODER.thumbnail(data, content_type=result.content_type)
        except UnreadableMedia:
            # The result is what was paid for: it is delivered without a preview rather than not at all.
            log.warning("no_thumbnail", extra={"job": job_id})
            return
        blur = await asyncio.to_thread(blurhash, picture)
        output = Output(data=picture, content_type="image/jpeg")
        await self._store(job_id, key=f"jobs/{job_id}/0.thumb.jpg", role="thumbnail", output=output, blur=blur)

    async def _store(self, job_id: str, *, key: str, role: str, output: Output, blur: str | None = None) -> None:
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
            blurhash=blur,
        )
        await self._database.write(lambda connection: store.insert_asset(connection, asset))
