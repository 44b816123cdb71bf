"""The files that an input points to: an upload or `job:ID` of the same wallet, or what the guarded fetch may fetch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stablestudio.errors import StudioError
from stablestudio.media.copies import Copies
from stablestudio.media.fetch import MediaFetcher
from stablestudio.media.storage import Storage
from stablestudio.media.uploads import UploadDesk
from stablestudio.store import jobs
from stablestudio.store.database import Database

MAX_OWN_BYTES = 100 * 1024 * 1024
"""Of a file that is kept here, or more where uploads may have more; work holds its files in memory.

What comes from elsewhere has less, see `fetch`.
"""

_JOB = "job:"
_INLINE = "data:"


class NotYourMedia(StudioError):
    """The input points to a job that is not a finished one of the paying wallet."""

    status = 400
    hint = "Name a complete job of the wallet that pays."


class MediaNotKept(StudioError):
    """The input points to a file that is not kept any more."""

    status = 400
    hint = "Make it again, or upload it elsewhere and name its https address."


class MediaTooLarge(StudioError):
    """The input points to a file that is larger than work is made from."""

    status = 400
    hint = "Make a shorter or smaller one of it; nothing was charged."


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A file of an order to be: its bytes, or where it lies; `foreign` where another server sent it."""

    media: bytes | Path
    foreign: bool = False


class InputReader:
    """Reads what a buyer's input points to."""

    def __init__(
        self,
        database: Database,
        *,
        fetcher: MediaFetcher,
        storage: Storage,
        uploads: UploadDesk | None = None,
        copies: Copies | None = None,
        max_bytes: int = MAX_OWN_BYTES,
    ) -> None:
        """Take the parts; `max_bytes` is the largest file that is kept here and work is made from."""
        self._max_bytes = max_bytes
        self._uploads = uploads
        self._copies = copies
        self._database = database
        self._fetcher = fetcher
        self._storage = storage

    def is_elsewhere(self, url: str) -> bool:
        """Tell whether another server has to be asked for a file."""
        return not url.startswith((_JOB, _INLINE)) and not self._fetcher.is_own(url)

    async def open(self, url: str, *, wallet: str) -> Opened:
        """Return a file for an order that is not placed yet, which it must outlive. Raises a `StudioError`."""
        key = await self._own_key(url, wallet=wallet, new=True)
        if key is None and (linked := self._fetcher.check_own(url)) is not None:
            _require_kept(await self._database.read(lambda connection: jobs.find_asset(connection, linked)))
            key = linked
        if key is None:
            return Opened(media=(await self._fetcher.get(url)).data, foreign=self.is_elsewhere(url))
        if (await self._storage.size(key) or 0) > self._max_bytes:
            raise MediaTooLarge(f"The file is larger than {self._max_bytes // 1_000_000} MB.")
        return Opened(media=self._storage.path(key) or await self._storage.read(key))

    async def read(self, url: str, *, wallet: str, order_id: str, as_of_ms: int) -> bytes:
        """Return the bytes that an order is made from; `as_of_ms` is when it was made, as links valid then stay good."""
        key = await self.key_of(url, wallet=wallet, order_id=order_id)
        if key is not None:
            return await self._storage.read(key)
        return (await self._fetcher.get(url, max_bytes=self._max_bytes, as_of_ms=as_of_ms)).data

    async def key_of(self, url: str, *, wallet: str, order_id: str) -> str | None:
        """Return the storage key of an order's file, None for one that is not kept here."""
        own = await self._own_key(url, wallet=wallet)
        if own is not None or self._copies is None:
            return own
        copy = await self._copies.find(url, order_id=order_id)
        return copy.key if copy is not None else None

    async def _own_key(self, url: str, *, wallet: str, new: bool = False) -> str | None:
        """Return the storage key behind a `job:` reference or a blobUrl, None for any other address."""
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
