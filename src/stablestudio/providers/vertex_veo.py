"""Veo on Vertex AI, as a service account: long-running operations that end with the clip inside an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import ClassVar, Unpack

from stablestudio.clock import Clock, SystemClock
from stablestudio.media.probe import UnreadableMedia, sniff
from stablestudio.providers.answers import Reply, TooLarge, Unreadable
from stablestudio.providers.checks import asked
from stablestudio.providers.faults import failed, turned_down, unusable
from stablestudio.providers.finish import finish
from stablestudio.providers.google_errors import error_in, kind_of, kind_of_limit
from stablestudio.providers.google_token import GoogleToken
from stablestudio.providers.http import TimeOuts, VendorHttp, segment
from stablestudio.providers.inputs import MediaSource
from stablestudio.providers.kept import KeptResults
from stablestudio.providers.provider import Accepted, Failed, FailureKind, Made, Output, Running, Work
from stablestudio.providers.tasks import Progress, Strangers, task_named
from stablestudio.providers.veo_frames import read_frames
from stablestudio.providers.vertex_veo_requests import MODELS, Clip, read, request, resource_of

# A clip of 8 seconds in 1080p has about 20 MB, a third more as base64, and it comes inside the answer to a poll.
_MAX_ANSWER_BYTES = 128 * 1024 * 1024
_ANSWER_SECONDS = 300.0


def base_url(location: str) -> str:
    """Return the address of Vertex AI in a location such as `us-central1` or `global`."""
    return f"https://{'' if location == 'global' else f'{location}-'}aiplatform.googleapis.com/v1beta1"


def connect(
    token: GoogleToken,
    *,
    location: str,
    url: str | None = None,
    name: str = "vertex-veo",
    **seconds: Unpack[TimeOuts],
) -> VendorHttp:
    """Return the line to Vertex AI, signed in as a service account; `seconds` are the time-outs of `VendorHttp`."""
    return VendorHttp(name=name, base_url=url or base_url(location), auth=token.headers, **seconds)


class VertexVeo:
    """The first answer that brings a clip is kept, so that its many megabytes are asked for once."""

    name = "vertex-veo"
    models: ClassVar[Mapping[str, str]] = MODELS

    def __init__(
        self,
        http: VendorHttp,
        *,
        source: MediaSource,
        kept: KeptResults,
        project: str,
        location: str,
        clock: Clock | None = None,
    ) -> None:
        """Take the line that `connect` makes, and the project that pays."""
        self._http = http
        self._source = source
        self._kept = kept
        self._strangers = Strangers(clock or SystemClock())
        self._home = f"projects/{segment(project)}/locations/{segment(location)}/publishers/google/models"

    async def submit(self, work: Work) -> Accepted | Failed:
        model = self._model(work)
        files = await read_frames(self._source, work)
        if isinstance(files, Failed):
            return files
        path = f"/{self._home}/{segment(model)}:predictLongRunning"
        reply = await self._http.submit("POST", path, json=request(work, files), refused=kind_of_limit)
        if not reply.ok:
            return turned_down(kind_of(reply), reply)
        return Accepted(task=task_named(self.name, reply, "name"), upstream_model=model)

    async def find(self, work: Work) -> Accepted | None:  # noqa: ARG002 - operations tell no label of ours
        return None

    async def poll(self, work: Work, task: str) -> Progress:
        if await self._kept.find(work) is not None:
            return Made()
        try:
            reply = await self._http.ask(
                "POST",
                f"/{self._resource(work, task)}:fetchPredictOperation",
                json={"operationName": task},
                deadline_seconds=_ANSWER_SECONDS,
                try_seconds=_ANSWER_SECONDS,
                max_bytes=_MAX_ANSWER_BYTES,
            )
        except TooLarge as error:
            return failed(FailureKind.UPSTREAM_ERROR, "The vendor's clip is too large.", detail=str(error))
        if unknown := self._strangers.judge(self.name, task, reply):
            return unknown
        found = await asyncio.to_thread(_read, reply)
        if not isinstance(found, Clip):
            return found
        await self._kept.put(work.job_id, found.data, "video/mp4")
        return Made()

    async def fetch(self, work: Work, task: str) -> Output | Failed:  # noqa: ARG002 - one result for each job
        output = await self._kept.fetch(work)
        return output if isinstance(output, Failed) else await finish(output.data, work)

    async def check(self) -> None:
        """Prove key, project and reach by asking for an operation that is none; raise `VendorUnusable`.

        Google says so in its own form of errors; a web page that says the same is not Google's.
        """
        resource = f"{self._home}/{next(iter(self.models.values()))}"
        question = {"operationName": f"{resource}/operations/0"}
        reply = await asked(self._http, f"/{resource}:fetchPredictOperation", method="POST", json=question)
        is_google = "name" in reply.document if reply.ok else "code" in error_in(reply)
        if reply.status in {401, 402, 403} or not is_google:
            unusable(self.name, reply, kind=kind_of(reply))

    async def close(self) -> None:
        await self._http.close()

    def _resource(self, work: Work, task: str) -> str:
        return resource_of(task) or f"{self._home}/{segment(self._model(work))}"

    def _model(self, work: Work) -> str:
        return work.model or self.models[work.offering.key]


def _read(reply: Reply) -> Running | Clip | Failed:
    """Read an answer of tens of megabytes; blocks. Raises `Unreadable`."""
    document = reply.json()
    if not isinstance(document, dict):
        raise Unreadable(f"not an operation: {reply.excerpt[:80]!r}")
    found = read(document, request_id=reply.request_id)
    if isinstance(found, Clip):
        try:
            sniff(found.data)
        except UnreadableMedia:
            return failed(FailureKind.UPSTREAM_ERROR, detail=f"not a clip: {found.data[:40]!r}")
    return found
