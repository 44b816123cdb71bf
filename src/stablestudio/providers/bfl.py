"""Black Forest Labs' FLUX.2: tasks that are polled where they say, and results that live for ten minutes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import ClassVar

from stablestudio.catalog import Offering, OfferingInput
from stablestudio.clock import Clock, SystemClock
from stablestudio.errors import Issue
from stablestudio.providers.answers import Reply
from stablestudio.providers.bfl_requests import MODELS, MOST_IMAGES, NOT_FOUND, Sample, lacks, read, refusal, request
from stablestudio.providers.checks import asked
from stablestudio.providers.faults import turned_down, unusable
from stablestudio.providers.finish import collect
from stablestudio.providers.http import VendorHttp, segment
from stablestudio.providers.inputs import MediaFile, MediaSource, read_files, shrink
from stablestudio.providers.kept import KeptResults
from stablestudio.providers.lacks import accept, objections
from stablestudio.providers.provider import Accepted, Failed, FailureKind, Made, Output, Running, Work
from stablestudio.providers.tasks import Progress, Strangers, task_named, unknown_state

log = logging.getLogger(__name__)

BASE_URL = "https://api.bfl.ai/v1"
KEY_HEADER = "x-key"
OWN_HOSTS = ("*.bfl.ai",)
"""Tasks live on one of the vendor's clusters, such as api.us1.bfl.ai, and are polled there with the key."""
MAX_IMAGE_BYTES = 5 * 1024 * 1024
_MOST_IMAGES = 8  # as the vendor documents
_LONGEST_PLACE = 2048  # characters of an address of a task


class Bfl:
    """The answer to a submission says where to ask; that address is the task's handle here."""

    name = "bfl"
    models: ClassVar[Mapping[str, str]] = MODELS

    def __init__(
        self,
        http: VendorHttp,
        *,
        source: MediaSource,
        kept: KeptResults,
        clock: Clock | None = None,
    ) -> None:
        """Take the line to `BASE_URL`, with the key as `KEY_HEADER` and `own_hosts=OWN_HOSTS`."""
        self._http = http
        self._source = source
        self._kept = kept
        self._strangers = Strangers(clock or SystemClock())
        self.lacks = lacks(MOST_IMAGES)

    def objections(self, offering: Offering, given: OfferingInput, *, model: str = "") -> tuple[Issue, ...]:  # noqa: ARG002 - every model has the same lacks
        return objections(self.lacks.get(offering.key, ()), given)

    async def submit(self, work: Work) -> Accepted | Failed:
        model = work.model or self.models[work.offering.key]
        accept(self.objections(work.offering, work.input), vendor=self.name)
        files = await self._files(work)
        if isinstance(files, Failed):
            return files
        reply = await self._http.submit("POST", f"/{segment(model)}", json=request(work, files))
        if not reply.ok:
            return turned_down(refusal(reply), reply)
        return Accepted(task=self._task(reply.document, task_named(self.name, reply, "id")), upstream_model=model)

    async def find(self, work: Work) -> Accepted | None:  # noqa: ARG002 - the vendor has no list
        return None

    async def poll(self, work: Work, task: str) -> Progress:
        if await self._kept.find(work) is not None:
            return Made()
        reply = await self._http.ask("GET", task)
        if unknown := self._strangers.judge(self.name, task, reply, is_unknown=_is_unknown):
            return unknown
        found = read(reply.document, request_id=reply.request_id)
        if isinstance(found, Sample):
            return await self._keep(work, found)
        return found if isinstance(found, Running | Failed) else unknown_state(self.name, reply.document.get("status"))

    async def fetch(self, work: Work, task: str) -> Output | Failed:  # noqa: ARG002 - kept while it was there
        return await self._kept.fetch(work)

    async def check(self) -> None:
        """Ask for the balance; raise `VendorUnusable` where key, reach or credit is missing."""
        reply = await asked(self._http, "/credits")
        if not reply.ok:
            unusable(self.name, reply)
        credit = reply.document.get("credits")
        if isinstance(credit, int | float) and credit <= 0:
            unusable(self.name, reply, kind=FailureKind.UPSTREAM_QUOTA)

    async def close(self) -> None:
        await self._http.close()

    def _task(self, document: Mapping[str, object], task_id: str) -> str:
        """Return where to ask about a task: where the vendor says, if that is a host of its own."""
        where = document.get("polling_url")
        if isinstance(where, str) and len(where) <= _LONGEST_PLACE and self._http.is_own(where):
            return where
        if where is not None:
            log.warning("polling_url_is_foreign", extra={"provider": self.name, "url": str(where)[:200]})
        return f"/get_result?id={segment(task_id)}"

    async def _files(self, work: Work) -> tuple[MediaFile, ...] | Failed:
        """Return the images, none larger than the result will be: the vendor bills the pixels that go in as well."""
        wanted = work.input.output()
        longest = max(wanted.width, wanted.height)
        return await read_files(
            self._source, work, fit=lambda file: shrink(file, max_bytes=MAX_IMAGE_BYTES, longest=longest)
        )

    async def _keep(self, work: Work, sample: Sample) -> Made | Failed:
        """Get the image now: in ten minutes its address leads nowhere."""
        output = await collect(self._http, sample.url, work)
        if isinstance(output, Failed):
            return output
        await self._kept.put(work.job_id, output.data, output.content_type)
        return Made()


def _is_unknown(reply: Reply) -> bool:
    return reply.document.get("status") == NOT_FOUND
