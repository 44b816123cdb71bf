"""The files that buyers name in what they order: uploads, copies kept for a job, and who reads all of them."""

from __future__ import annotations

from stablestudio.catalog import MediaInput
from stablestudio.clock import Clock
from stablestudio.config import Settings
from stablestudio.media.copies import Copies
from stablestudio.media.decoding import DECODER
from stablestudio.media.fetch import MediaFetcher, OwnAssets
from stablestudio.media.inputs import MAX_OWN_BYTES, InputReader
from stablestudio.media.links import Links
from stablestudio.media.probe import Probe
from stablestudio.media.storage import Storage
from stablestudio.media.uploads import UploadDesk
from stablestudio.protocols.blob import BlobTokens
from stablestudio.providers.inputs import public_url
from stablestudio.providers.provider import Work
from stablestudio.server.storage import kept_uploads_ms
from stablestudio.store.database import Database


class BuyersFiles:
    """The desk that takes uploads, the copies, and the reader of inputs, which knows both."""

    def __init__(
        self,
        settings: Settings,
        *,
        database: Database,
        storage: Storage,
        links: Links,
        tokens: BlobTokens,
        clock: Clock,
    ) -> None:
        self._storage = storage
        self._links = links
        self._clock = clock
        self.desk = UploadDesk(
            database,
            storage=storage,
            tokens=tokens,
            clock=clock,
            origin=settings.origin,
            max_bytes=settings.max_upload_bytes,
            look=self._look,
            kept_ms=kept_uploads_ms(settings),
        )
        self.copies = Copies(database, storage=storage, clock=clock)
        self.reader = InputReader(
            database,
            fetcher=MediaFetcher(own=OwnAssets(links=links, storage=storage, clock=clock)),
            storage=storage,
            uploads=self.desk,
            copies=self.copies,
            max_bytes=max(MAX_OWN_BYTES, settings.max_upload_bytes),
        )

    async def publish(self, work: Work, media: MediaInput) -> str | None:
        """Return a link by which a vendor can fetch a file kept here, where this service can be reached from outside."""
        key = await self.reader.key_of(media.url, wallet=work.wallet, order_id=work.job_id)
        url = self._links.url(key, now_ms=self._clock.now_ms()) if key is not None else None
        return url if url is not None and public_url(url) is not None else None

    async def _look(self, key: str) -> Probe:
        return await DECODER.probe(self._storage.path(key) or await self._storage.read(key))
