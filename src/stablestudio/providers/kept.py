"""Results of vendors that answer with the result itself: kept before anybody is told that there is one."""

from __future__ import annotations

from stablestudio.media.links import AssetGone
from stablestudio.media.probe import sniff
from stablestudio.media.storage import AssetExists, Storage
from stablestudio.providers.faults import failed
from stablestudio.providers.provider import Accepted, Failed, FailureKind, Made, Output, Work

TASK = "kept"


class KeptResults:
    """Makes a synchronous vendor look like one with tasks: `submit` waits, keeps, and only then says accepted.

    After a crash in between, nobody knows whether the vendor made (and charged) anything: `find` then says None.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def put(self, job_id: str, data: bytes, content_type: str) -> None:
        """Keep a job's result durably; one that is kept already stays."""
        try:
            await self._storage.put_once(_key(job_id), data, content_type=content_type)
        except AssetExists:
            return

    async def get(self, job_id: str) -> Output | None:
        """Return what is kept; its own first bytes say what it is."""
        try:
            data = await self._storage.read(_key(job_id))
        except AssetGone:
            return None
        return Output(data=data, content_type=sniff(data))

    async def drop(self, job_id: str) -> None:
        """Forget a result, once the job's own file is there."""
        await self._storage.delete(_key(job_id))

    async def accept(self, work: Work, output: Output) -> Accepted:
        """Keep the output of work and return its acceptance: the end of a synchronous `submit`."""
        await self.put(work.job_id, output.data, output.content_type)
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

    async def fetch(self, work: Work) -> Output | Failed:
        return await self.get(work.job_id) or _gone()


def _key(job_id: str) -> str:
    return f"tasks/{job_id}"


def _gone() -> Failed:
    return failed(FailureKind.UPSTREAM_UNKNOWN, "The result was lost before it was delivered.")
