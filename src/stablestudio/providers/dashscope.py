"""Alibaba's DashScope (Model Studio): Wan 2.6 as tasks that are asked for, asked about and fetched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from stablestudio.catalog import Offering, OfferingInput
from stablestudio.clock import Clock, SystemClock
from stablestudio.errors import Issue
from stablestudio.providers.answers import Reply
from stablestudio.providers.checks import asked
from stablestudio.providers.dashscope_requests import (
    ASYNC,
    LONGEST_SIDE,
    MAX_IMAGE_BYTES,
    MODELS,
    file_issue,
    is_forgotten,
    progress,
    refusal,
    request,
    result_url,
)
from stablestudio.providers.faults import turned_down, unusable
from stablestudio.providers.finish import collect
from stablestudio.providers.http import VendorHttp, segment
from stablestudio.providers.inputs import MediaFile, MediaSource, crop_to, read_files, shrink
from stablestudio.providers.provider import Accepted, Failed, Output, Work
from stablestudio.providers.tasks import Progress, Strangers, ended, look, no_result, task_named

BASE_URL = "https://dashscope-intl.aliyuncs.com/api/v1"
_SYNTHESIS = "/services/aigc/video-generation/video-synthesis"
_ANSWER_SECONDS = 120.0


class DashScope:
    """Makes Wan clips; key, model and the region in the base URL belong together."""

    name = "dashscope"
    models: ClassVar[Mapping[str, str]] = MODELS

    def __init__(self, http: VendorHttp, *, source: MediaSource, clock: Clock | None = None) -> None:
        self._http = http
        self._source = source
        self._strangers = Strangers(clock or SystemClock())

    def objections(self, offering: Offering, given: OfferingInput, *, model: str = "") -> tuple[Issue, ...]:  # noqa: ARG002 - the files alone matter
        files = [file_issue(media, has_address=self._source.has_address(media.url)) for media in given.media()]
        return tuple(filter(None, files))

    async def submit(self, work: Work) -> Accepted | Failed:
        files = await read_files(self._source, work, fit=_fitted)
        if isinstance(files, Failed):
            return files
        model = work.model or MODELS[work.offering.key]
        body = request(work, files, model=model)
        if isinstance(body, Failed):
            return body
        reply = await self._http.submit(
            "POST", _SYNTHESIS, json=body, headers=ASYNC, timeout=_ANSWER_SECONDS, refused=refusal
        )
        if not reply.ok:
            return turned_down(refusal(reply), reply)
        return Accepted(task=task_named(self.name, reply, "output", "task_id"), upstream_model=model)

    async def find(self, work: Work) -> Accepted | None:  # noqa: ARG002 - nothing of the work is in the vendor's list
        """Return None: the vendor takes no marker and its list names no input, so nobody can know."""
        return None

    async def poll(self, work: Work, task: str) -> Progress:  # noqa: ARG002 - the task says it all
        place = f"/tasks/{segment(task)}"
        return await look(
            self._http, place, task=task, read=progress, strangers=self._strangers, is_unknown=_is_unknown
        )

    async def fetch(self, work: Work, task: str) -> Output | Failed:
        place = f"/tasks/{segment(task)}"
        reply = await ended(self._http, place, task=task, strangers=self._strangers, is_unknown=_is_unknown)
        if isinstance(reply, Failed):
            return reply
        url = result_url(reply.document)
        if url is None:
            return no_result(reply)
        return await collect(self._http, url, work)

    async def check(self) -> None:
        """Prove key and reach with a list of one task. Raises `VendorUnusable`."""
        reply = await asked(self._http, "/tasks/?page_no=1&page_size=1")
        if not reply.ok:
            unusable(self.name, reply, kind=refusal(reply))

    async def cancel(self, work: Work, task: str) -> bool:  # noqa: ARG002 - the task says it all
        """Take back a task that still waits; the vendor refuses for any other."""
        return (await self._http.ask("POST", f"/tasks/{segment(task)}/cancel", deadline_seconds=20)).ok

    async def close(self) -> None:
        await self._http.close()


def _is_unknown(reply: Reply) -> bool:
    return is_forgotten(reply.document)


async def _fitted(file: MediaFile) -> MediaFile:
    """Make a picture small enough, and opaque: the vendor takes no transparency."""
    if file.kind != "image":
        return file
    opaque = await crop_to(file, (file.width, file.height))
    return await shrink(opaque, max_bytes=MAX_IMAGE_BYTES, longest=LONGEST_SIDE)
