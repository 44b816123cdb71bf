"""The files that an input points to: an upload or `job:ID` of the same wallet, or what the guarded fetch may fetch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from stablestudio.catalog import MediaInput
from stablestudio.errors import InvalidInput, Issue, StudioError
from stablestudio.media.decoding import DECODER
from stablestudio.media.fetch import MediaFetcher
from stablestudio.media.storage import Storage
from stablestudio.media.uploads import UploadDesk
from stablestudio.store import jobs
from stablestudio.store.database import Database

_JOB = "job:"
_AT_ONCE = 4  # files of one input that are fetched at the same time


class NotYourMedia(StudioError):
    """The input points to a job that is not a finished one of the paying wallet."""

    status = 400
    hint = "Name a complete job of the wallet that pays."


class MediaNotKept(StudioError):
    """The input points to a file that is not kept any more."""

    status = 400
    hint = "Make it again, or upload it elsewhere and name its https address."


class InputReader:
    """Reads what a buyer's input points to."""

    def __init__(
        self, database: Database, *, fetcher: MediaFetcher, storage: Storage, uploads: UploadDesk | None = None
    ) -> None:
        self._uploads = uploads
        self._database = database
        self._fetcher = fetcher
        self._storage = storage

    async def check(self, media: Sequence[MediaInput], *, wallet: str) -> None:
        """Look at every file that an input points to: whose it is, that it can be had, and that it is what it should be.

        For whoever shows a payment that holds, before it is taken: nothing is fetched for others. Raises `InvalidInput`
        with an issue for each field at fault, and any error of ours that passes.
        """
        at_once = asyncio.Semaphore(_AT_ONCE)
        faults = await asyncio.gather(*(self._fault(each, wallet, at_once) for each in media))
        issues = [issue for issue in faults if issue is not None]
        if issues:
            raise InvalidInput(issues[0].message, issues=issues)

    async def _fault(self, media: MediaInput, wallet: str, at_once: asyncio.Semaphore) -> Issue | None:
        try:
            async with at_once:
                seen = await DECODER.probe(await self._file(media.url, wallet=wallet))
        except StudioError as error:
            if error.retryable:
                raise
            return Issue(media.path, error.code, error.message)
        if seen.kind == media.kind:
            return None
        told = f"This must be of the kind {media.kind}, but the file is of the kind {seen.kind} ({seen.content_type})."
        return Issue(media.path, "wrong_kind_of_media", told, allowed=(media.kind,))

    async def _file(self, url: str, *, wallet: str) -> Path | bytes:
        key = await self.key_of(url, wallet=wallet, new=True)
        if key is None and (own := self._fetcher.check_own(url)) is not None:
            _require_kept(await self._database.read(lambda connection: jobs.find_asset(connection, own)))
            key = own
        if key is None:
            return (await self._fetcher.get(url, as_of_ms=None)).data
        return self._storage.path(key) or await self._storage.read(key)

    async def read(self, url: str, *, wallet: str, as_of_ms: int) -> bytes:
        """Return the bytes; `as_of_ms` is when the order was made, so that a link valid then stays good."""
        key = await self.key_of(url, wallet=wallet)
        if key is not None:
            return await self._storage.read(key)
        return (await self._fetcher.get(url, as_of_ms=as_of_ms)).data

    async def key_of(self, url: str, *, wallet: str, new: bool = False) -> str | None:
        """Return the storage key behind a `job:` reference or a blobUrl, None for any other address.

        `new` is for an order to be, which a file must outlive.
        """
        if url.startswith(_JOB):
            return await self._result(url[len(_JOB) :], wallet)
        upload = await self._uploads.resolve(url, wallet=wallet, new=new) if self._uploads is not None else None
        return upload.key if upload is not None else None

    async def _result(self, job_id: str, wallet: str) -> str:
        job = await self._database.read(lambda connection: jobs.find(connection, job_id))
        result = await self._database.read(lambda connection: jobs.find_result(connection, job_id))
        if job is None or job.wallet != wallet or job.state != "complete" or result is None:
            raise NotYourMedia(f"{_JOB}{job_id} is not a complete job of this wallet.")
        _require_kept(result)
        return result.key


def _require_kept(asset: jobs.Asset | None) -> None:
    if asset is None or asset.gone is not None:
        raise MediaNotKept
