"""OpenAI's image models, and every server that speaks the same protocol (Azure, gateways, local ones)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

from stablestudio.providers.answers import Reply, Unreadable
from stablestudio.providers.faults import failed, turned_down
from stablestudio.providers.finish import collect, finish
from stablestudio.providers.http import VendorHttp
from stablestudio.providers.inputs import MediaFile, MediaSource, read_files, shrink
from stablestudio.providers.kept import KeptResults
from stablestudio.providers.openai_errors import listed_models, refusal, warnings_of
from stablestudio.providers.openai_images_requests import edit, edit_form, generation, picture, share_of
from stablestudio.providers.provider import Accepted, Failed, FailureKind, Made, Output, Running, Work

BASE_URL = "https://api.openai.com/v1"

log = logging.getLogger(__name__)


class OpenAIImages:
    """One long request for each image; the vendor knows no tasks, so what it answers is kept at once.

    OpenAI itself takes `Authorization: Bearer` (and `OpenAI-Organization`, `OpenAI-Project`), Azure `api-key` at
    `https://{resource}/openai/v1`. `edits="form"` is for servers that take images as form data only.
    """

    models: ClassVar[Mapping[str, str]] = {
        "gpt-image-2/generate": "gpt-image-2",
        "gpt-image-2/edit": "gpt-image-2",
        "gpt-image-1.5/generate": "gpt-image-1.5",
        "gpt-image-1.5/edit": "gpt-image-1.5",
        "gpt-image-1/generate": "gpt-image-1",
        "gpt-image-1/edit": "gpt-image-1",
    }

    def __init__(
        self,
        http: VendorHttp,
        *,
        source: MediaSource,
        kept: KeptResults,
        user: Callable[[str], str],
        served: Mapping[str, str] | None = None,
        edits: Literal["json", "form"] = "json",
    ) -> None:
        """Take the parts; `user` hashes a wallet; `served` is offering to model as configured, for `check`."""
        self.name = http.name
        self.notices: tuple[str, ...] = ()
        self._http = http
        self._source = source
        self._kept = kept
        self._user = user
        self._served = self.models if served is None else served
        self._edits = edits

    async def submit(self, work: Work) -> Accepted | Failed:
        """Ask for the image, wait for it, keep it."""
        share = share_of(len(work.input.media()))
        files = await read_files(self._source, work, fit=lambda file: shrink(file, max_bytes=share))
        if isinstance(files, Failed):
            return files
        reply = await self._post(work, files)
        if not reply.ok:
            return turned_down(refusal(reply), reply)
        return await self._taken(work, reply)

    async def find(self, work: Work) -> Accepted | None:
        return await self._kept.find(work)

    async def poll(self, work: Work, task: str) -> Running | Made | Failed:  # noqa: ARG002 - one job, one image
        return await self._kept.poll(work)

    async def fetch(self, work: Work, task: str) -> Output | Failed:  # noqa: ARG002 - one job, one image
        return await self._kept.fetch(work, follow=lambda url: collect(self._http, url, work))

    async def check(self) -> None:
        """Prove key and address by the list of models; `notices` then tells which of ours end or are missing."""
        self.notices = warnings_of(await listed_models(self._http), self._served)
        for notice in self.notices:
            log.warning("model_notice", extra={"provider": self.name, "notice": notice})

    async def close(self) -> None:
        await self._http.close()

    async def _post(self, work: Work, files: Sequence[MediaFile]) -> Reply:
        user = {"safety_identifier": self._user(work.wallet)}
        if not files:
            body = generation(work) | user
            return await self._http.submit("POST", "/images/generations", json=body, refused=refusal)
        if self._edits == "json":
            body = edit(work, files) | user
            return await self._http.submit("POST", "/images/edits", json=body, refused=refusal)
        form, content_type = edit_form(work, files, more=user)
        headers = {"Content-Type": content_type}
        return await self._http.submit("POST", "/images/edits", content=form, headers=headers, refused=refusal)

    async def _taken(self, work: Work, reply: Reply) -> Accepted | Failed:
        """Keep the picture of the answer, or its address; what is not in the answer will not come."""
        try:
            found = await asyncio.to_thread(lambda: picture(reply.document))  # tens of megabytes
        except Unreadable as error:
            detail = f"{error}: {reply.excerpt}"
            return failed(FailureKind.UPSTREAM_ERROR, detail=detail, request_id=reply.request_id)
        usage = reply.document.get("usage")
        log.info("vendor_usage", extra={"provider": self.name, "job": work.job_id, "usage": usage})
        if isinstance(found, str):
            return await self._kept.accept_address(work, found)
        output = await finish(found, work)
        return output if isinstance(output, Failed) else await self._kept.accept(work, output)
