"""Results of vendors that answer with the result itself: kept before anybody is told that there is one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from stablestudio.media.links import AssetGone
from stablestudio.media.probe import sniff
from stablestudio.media.storage import AssetExists, Storage, StorageUnavailable
from stablestudio.providers.faults import failed
from stablestudio.providers.provider import Accepted, Failed, FailureKind, Made, Output, Work

log = logging.getLogger(__name__)
TASK = "kept"
_PAUSE_SECONDS = 5.0
_ADDRESS = b"address "  # no file of ours begins like this

Follow = Callable[[str], Awaitable[Output | Failed]]


class KeptResults:
    """Makes a synchronous vendor look like one with tasks: `submit` waits, keeps, and only then says accepted.

    After a crash in between, nobody knows whether the vendor made (and charged) anything: `find` then says None.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def put(self, job_id: str, data: bytes, content_type: str) -> None:
        """Keep a job's result durably; one that is kept already stays.

        It is paid for and nowhere else: where there is no room for it, it waits here until there is.
        """
        while True:
            try:
                await self._storage.put_once(_key(job_id), data, content_type=content_type)
            except AssetExists:
                return
            except StorageUnavailable:
                log.warning("result_waits_for_room", extra={"job": job_id})
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                return

    async def get(self, job_id: str) -> Output | None:
        """Return the file that is kept; its own first bytes say what it is."""
        data = await self._read(job_id)
        return None if data is None or data.startswith(_ADDRESS) else Output(data=data, content_type=sniff(data))

    async def drop(self, job_id: str) -> None:
        """Forget a result, once the job's own file is there."""
        await self._storage.delete(_key(job_id))

    async def accept(self, work: Work, output: Output) -> Accepted:
        """Keep the output of work and return its acceptance: the end of a synchronous `submit`."""
        await self.put(work.job_id, output.data, output.content_type)
        return Accepted(task=TASK, upstream_model=work.model)

    async def accept_address(self, work: Work, url: str) -> Accepted:
        """Keep where the output of work is, which `fetch` then follows: its store may be slow, and it is paid for."""
        await self.put(work.job_id, _ADDRESS + url.encode(), "text/plain")
        return Accepted(task=TASK, upstream_model=work.model)

    async def find(self, work: Work) -> Accepted | None:
        """Return the acceptance if the result was kept; None means that nobody knows."""
        if await self._storage.size(_key(work.job_id)) is None:
            return None
        return Accepted(task=TASK, upstream_model=work.model)

    async def poll(self, work: Work) -> Made | Failed:
        if await self._storage.size(_key(work.job_id)) is None:
            return _gone()
        return Made()

    async def fetch(self, work: Work, *, follow: Follow | None = None) -> Output | Failed:
        """Return what is kept; `follow` gets it where only its address is."""
        data = await self._read(work.job_id)
        if data is None:
            return _gone()
        if follow is not None and data.startswith(_ADDRESS):
            return await follow(data.removeprefix(_ADDRESS).decode())
        return Output(data=data, content_type=sniff(data))

    async def _read(self, job_id: str) -> bytes | None:
        try:
            return await self._storage.read(_key(job_id))
        except AssetGone:
            return None


def _key(job_id: str) -> str:
    return f"tasks/{job_id}"


def _gone() -> Failed:
    return failed(FailureKind.UPSTREAM_UNKNOWN, "The result was lost before it was delivered.")
