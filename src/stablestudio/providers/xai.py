"""xAI's Grok Imagine: images in one long request, clips by task."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar

from stablestudio.catalog import Kind
from stablestudio.clock import Clock
from stablestudio.providers.answers import Reply, Unreadable
from stablestudio.providers.checks import asked
from stablestudio.providers.faults import failed, turned_down, unusable
from stablestudio.providers.finish import collect, finish
from stablestudio.providers.http import VendorHttp, segment
from stablestudio.providers.inputs import MediaFile, MediaSource, read_files, shrink
from stablestudio.providers.kept import KeptResults
from stablestudio.providers.openai_errors import warnings_of
from stablestudio.providers.provider import Accepted, Failed, FailureKind, Made, Output, Running, Work
from stablestudio.providers.tasks import Strangers, at, forgotten, task_named
from stablestudio.providers.xai_requests import (
    MAX_IMAGE_BYTES,
    clip,
    clip_url,
    edit,
    generation,
    picture,
    progress_of,
    refusal,
)

BASE_URL = "https://api.x.ai/v1"

log = logging.getLogger(__name__)


class Xai:
    """Images and clips of one vendor with one key; `Authorization: Bearer`."""

    models: ClassVar[Mapping[str, str]] = {
        "grok/generate": "grok-imagine-image",
        "grok/edit": "grok-imagine-image",
        "grok-video/generate": "grok-imagine-video",
    }

    def __init__(
        self,
        http: VendorHttp,
        *,
        source: MediaSource,
        kept: KeptResults,
        clock: Clock,
        user: Callable[[str], str],
        served: Mapping[str, str] | None = None,
    ) -> None:
        """Take the parts; `user` hashes a wallet; `served` is offering to model as configured, for `check`."""
        self.name = http.name
        self.notices: tuple[str, ...] = ()
        self._http = http
        self._source = source
        self._kept = kept
        self._strangers = Strangers(clock)
        self._user = user
        self._served = self.models if served is None else served

    async def submit(self, work: Work) -> Accepted | Failed:
        files = await read_files(self._source, work, fit=_fit)
        if isinstance(files, Failed):
            return files
        path, body = self._request(work, files)
        reply = await self._http.submit("POST", path, json=body, refused=refusal)
        if not reply.ok:
            return turned_down(refusal(reply), reply)
        if work.offering.kind is Kind.VIDEO:
            return Accepted(task=task_named(self.name, reply, "request_id"), upstream_model=work.model)
        return await self._taken(work, reply)

    async def find(self, work: Work) -> Accepted | None:
        """Return the kept image; of clips xAI has no list, so nobody knows."""
        return None if work.offering.kind is Kind.VIDEO else await self._kept.find(work)

    async def poll(self, work: Work, task: str) -> Running | Made | Failed:
        if work.offering.kind is not Kind.VIDEO:
            return await self._kept.poll(work)
        reply = await self._http.ask("GET", _place(task))
        # xAI tells of a clip that its rules refused by an error status, too.
        unknown = self._strangers.judge(self.name, task, reply, is_verdict=lambda _: True)
        return unknown or progress_of(self.name, reply)

    async def fetch(self, work: Work, task: str) -> Output | Failed:
        """Copy the result; a clip's address is temporary, so it is asked for anew."""
        if work.offering.kind is not Kind.VIDEO:
            return await self._kept.fetch(work, follow=lambda url: collect(self._http, url, work))
        reply = await self._http.ask("GET", _place(task))
        unknown = self._strangers.judge(self.name, task, reply, is_verdict=lambda _: True)
        if failure := forgotten(self.name, reply, unknown):
            return failure
        state = progress_of(self.name, reply)
        if isinstance(state, Failed):
            return state
        url = clip_url(reply)
        if url is None:
            raise Unreadable(f"{self.name} has no clip yet: {reply.excerpt}")
        self._log_usage(work, reply)
        return await collect(self._http, url, work)

    async def check(self) -> None:
        """Prove key and address by the lists of models; `notices` then tells which of ours are missing."""
        listed: dict[str, str | None] = {}
        for path in ("/image-generation-models", "/video-generation-models"):
            listed |= await self._listed(path)
        self.notices = warnings_of(listed, self._served)
        for notice in self.notices:
            log.warning("model_notice", extra={"provider": self.name, "notice": notice})

    async def close(self) -> None:
        await self._http.close()

    def _request(self, work: Work, files: tuple[MediaFile, ...]) -> tuple[str, dict[str, object]]:
        user = self._user(work.wallet)
        if work.offering.kind is Kind.VIDEO:
            return "/videos/generations", clip(work, files, user=user)
        if files:
            return "/images/edits", edit(work, files, user=user)
        return "/images/generations", generation(work, user=user)

    async def _taken(self, work: Work, reply: Reply) -> Accepted | Failed:
        """Keep the picture of the answer, or its address; what is not in the answer will not come."""
        try:
            found = await asyncio.to_thread(picture, reply)  # tens of megabytes
        except Unreadable as error:
            detail = f"{error}: {reply.excerpt}"
            return failed(FailureKind.UPSTREAM_ERROR, detail=detail, request_id=reply.request_id)
        if isinstance(found, Failed):
            return found
        self._log_usage(work, reply)
        if isinstance(found, str):
            return await self._kept.accept_address(work, found)
        output = await finish(found, work)
        return output if isinstance(output, Failed) else await self._kept.accept(work, output)

    def _log_usage(self, work: Work, reply: Reply) -> None:
        ticks = at(reply.document, "usage", "cost_in_usd_ticks")
        log.info("vendor_usage", extra={"provider": self.name, "job": work.job_id, "cost_in_usd_ticks": ticks})

    async def _listed(self, path: str) -> dict[str, str | None]:
        reply = await asked(self._http, path)
        models = reply.document.get("models")
        if not reply.ok or not isinstance(models, list):
            unusable(self.name, reply, kind=refusal(reply))
        return {name: None for model in models for name in _names(model)}


def _names(model: object) -> Iterator[str]:
    """Yield the names of a listed model."""
    aliases = at(model, "aliases")
    names = [at(model, "id"), *(aliases if isinstance(aliases, list) else ())]
    return (name for name in names if isinstance(name, str))


def _place(task: str) -> str:
    return f"/videos/{segment(task)}"


async def _fit(file: MediaFile) -> MediaFile:
    return await shrink(file, max_bytes=MAX_IMAGE_BYTES)
