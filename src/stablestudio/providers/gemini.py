"""Google Gemini's image models over `generateContent`, which answers with the image itself."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from stablestudio.media.probe import UnreadableMedia, sniff
from stablestudio.providers.answers import Reply
from stablestudio.providers.faults import failed, turned_down
from stablestudio.providers.finish import finish
from stablestudio.providers.gemini_images import half_of, read_images
from stablestudio.providers.gemini_requests import MODELS, read, request
from stablestudio.providers.google_errors import kind_of, kind_of_limit
from stablestudio.providers.google_health import check_models
from stablestudio.providers.http import VendorHttp, segment
from stablestudio.providers.inputs import MediaSource
from stablestudio.providers.kept import KeptResults
from stablestudio.providers.provider import Accepted, Failed, FailureKind, Made, Output, Work

BASE_URL = "https://generativelanguage.googleapis.com/v1"
KEY_HEADER = "x-goog-api-key"


class Gemini:
    """One long request for each image. A refusal is an answer with status 200 and no image."""

    name = "gemini"
    models: ClassVar[Mapping[str, str]] = MODELS

    def __init__(self, http: VendorHttp, *, source: MediaSource, kept: KeptResults) -> None:
        """Take the line to `BASE_URL`, with the key as `KEY_HEADER`."""
        self._http = http
        self._source = source
        self._kept = kept

    async def submit(self, work: Work) -> Accepted | Failed:
        work = self._named(work)
        files = await read_images(self._source, work)
        if isinstance(files, Failed):
            return files
        path = f"/models/{segment(work.model)}:generateContent"
        body = request(work, files, model=work.model)
        reply = await self._http.submit("POST", path, json=body, refused=kind_of_limit)
        if not reply.ok:
            return turned_down(kind_of(reply), reply)
        found = await asyncio.to_thread(_image, reply)
        return found if isinstance(found, Failed) else await self._kept.accept(work, found)

    async def find(self, work: Work) -> Accepted | None:
        return await self._kept.find(self._named(work))

    async def poll(self, work: Work, task: str) -> Made | Failed:  # noqa: ARG002 - one result for each job
        return await self._kept.poll(work)

    async def fetch(self, work: Work, task: str) -> Output | Failed:  # noqa: ARG002 - see poll
        output = await self._kept.fetch(work)
        if isinstance(output, Failed):
            return output
        return await finish(output.data, work, within=await half_of(work, output.data))

    async def check(self) -> None:
        """Prove key and reach by a free question; raise `VendorUnusable`."""
        await check_models(self._http)

    async def close(self) -> None:
        await self._http.close()

    def _named(self, work: Work) -> Work:
        return replace(work, model=work.model or self.models[work.offering.key])


def _image(reply: Reply) -> Output | Failed:
    """Return the image of an answer; blocks, for tens of megabytes of base64."""
    found = read(reply.document, request_id=reply.request_id)
    if isinstance(found, Failed):
        return found
    try:
        sniff(found.data)
    except UnreadableMedia:
        return failed(
            FailureKind.UPSTREAM_ERROR, detail=f"not an image: {found.data[:40]!r}", request_id=reply.request_id
        )
    return found
