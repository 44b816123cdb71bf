"""What the books know of a stored file that somebody asks for by its link: a job's asset, an upload, or a buyer's file kept for a job."""

from __future__ import annotations

from stablestudio.clock import Clock
from stablestudio.media.links import AssetDeleted, AssetExpired
from stablestudio.server.assets import AssetInfo
from stablestudio.store import copies, jobs, uploads
from stablestudio.store.database import Database


class AssetRecords:
    """Looks files up by their key."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def describe(self, key: str) -> AssetInfo | None:
        """Return what is known of a file, None where no book has it; raise `AssetDeleted` or `AssetExpired`."""
        asset = await self._database.read(lambda connection: jobs.find_asset(connection, key))
        if asset is None:
            return await self._describe_upload(key) or await self._describe_copy(key)
        if asset.gone == "deleted":
            raise AssetDeleted
        if asset.gone or (asset.expires_at is not None and asset.expires_at <= self._clock.now_ms()):
            raise AssetExpired
        return AssetInfo(
            content_type=asset.content_type, size=asset.size, sha256=asset.sha256, made_at_s=asset.created_at // 1000
        )

    async def _describe_upload(self, key: str) -> AssetInfo | None:
        upload = await self._database.read(lambda connection: uploads.find_by_key(connection, key))
        if upload is None or upload.size is None or upload.sha256 is None or upload.stored_at is None:
            return None
        return AssetInfo(
            content_type=upload.content_type,
            size=upload.size,
            sha256=upload.sha256,
            made_at_s=upload.stored_at // 1000,
        )

    async def _describe_copy(self, key: str) -> AssetInfo | None:
        copy = await self._database.read(lambda connection: copies.find_by_key(connection, key))
        if copy is None:
            return None
        return AssetInfo(
            content_type=copy.content_type, size=copy.size, sha256=copy.sha256, made_at_s=copy.created_at // 1000
        )
