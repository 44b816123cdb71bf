"""Google's Interactions API in background mode: clips by Omni, and Gemini's images with an id before the result."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import ClassVar

from stablestudio.catalog.families.veo import Veo
from stablestudio.clock import Clock, SystemClock
from stablestudio.providers.answers import Lost, Reply, TooLarge, Unreadable
from stablestudio.providers.faults import failed, turned_down
from stablestudio.providers.finish import MAX_IMAGE_BYTES, finish
from stablestudio.providers.gemini_images import half_of, read_images
from stablestudio.providers.google_errors import error_in, kind_of, kind_of_limit, message_of
from stablestudio.providers.google_health import check_models
from stablestudio.providers.http import MAX_CLIP_BYTES, VendorHttp, segment
from stablestudio.providers.inputs import MediaSource
from stablestudio.providers.interactions_requests import MODELS, Media, read, request
from stablestudio.providers.provider import Accepted, Failed, FailureKind, Made, Output, Running, Work
from stablestudio.providers.tasks import Progress, Strangers, task_named, unknown_state
from stablestudio.providers.veo_frames import read_frames

# Results come inside the answer to a poll, up to 4 MB of a clip and 25 MB of an image, beside the input's own images.
_MAX_ANSWER_BYTES = 128 * 1024 * 1024
_ANSWER_SECONDS = 300.0
_UNKNOWN = "Invalid interaction name"  # comes with status 400, not 404


class Interactions:
    """Interactions are kept by the vendor until they are deleted; it has no list, so a lost id is lost."""

    name = "google-interactions"
    models: ClassVar[Mapping[str, str]] = MODELS

    def __init__(
        self,
        http: VendorHttp,
        *,
        source: MediaSource,
        clock: Clock | None = None,
    ) -> None:
        """Take a line like Gemini's."""
        self._http = http
        self._source = source
        self._strangers = Strangers(clock or SystemClock())

    async def submit(self, work: Work) -> Accepted | Failed:
        model = work.model or self.models[work.offering.key]
        files = await (read_frames if isinstance(work.input, Veo) else read_images)(self._source, work)
        if isinstance(files, Failed):
            return files
        body = request(work, files, model=model)
        reply = await self._http.submit("POST", "/interactions", json=body, refused=kind_of_limit)
        if not reply.ok:
            return turned_down(kind_of(reply), reply)
        return Accepted(task=task_named(self.name, reply, "id"), upstream_model=model)

    async def find(self, work: Work) -> Accepted | None:  # noqa: ARG002 - the vendor has no list
        return None

    async def poll(self, work: Work, task: str) -> Progress:  # noqa: ARG002 - the task says it all
        found = await self._look(task)
        if isinstance(found, Media):
            return await self._file_state(found)
        return found

    async def fetch(self, work: Work, task: str) -> Output | Failed:
        found = await self._look(task)
        if isinstance(found, Failed):
            return found
        if not isinstance(found, Media):
            raise Unreadable(f"{self.name}: an interaction that was completed is running again")
        data = await self._data(found, most=MAX_CLIP_BYTES if isinstance(work.input, Veo) else MAX_IMAGE_BYTES)
        if isinstance(data, Failed):
            return data
        return await finish(data, work, within=await half_of(work, data))

    async def cancel(self, work: Work, task: str) -> bool:  # noqa: ARG002 - the id is enough
        """Stop an interaction; return whether the vendor agreed."""
        return (await self._http.ask("POST", f"{self._path(task)}/cancel")).ok

    async def check(self) -> None:
        """Prove key and reach by a free question; raise `VendorUnusable`."""
        await check_models(self._http)

    async def close(self) -> None:
        await self._http.close()

    async def _look(self, task: str) -> Progress | Media:
        """Ask where an interaction stands."""
        try:
            reply = await self._http.ask(
                "GET",
                self._path(task),
                deadline_seconds=_ANSWER_SECONDS,
                try_seconds=_ANSWER_SECONDS,
                max_bytes=_MAX_ANSWER_BYTES,
            )
        except TooLarge as error:
            return failed(FailureKind.UPSTREAM_ERROR, "The vendor's result is too large.", detail=str(error))
        # No error is about the interaction: even 400 was seen for one that was still being made.
        if unknown := self._strangers.judge(self.name, task, reply, is_unknown=_is_unknown):
            return unknown
        return await asyncio.to_thread(_read, reply)

    async def _file_state(self, found: Media) -> Progress:
        """Tell whether a completed interaction's file is ready, which may be later than the interaction is."""
        if found.file is None:
            return Made()
        reply = await self._http.ask("GET", f"/files/{segment(found.file)}")
        state = reply.document.get("state") if reply.ok else "ACTIVE"  # what is not told, the download will
        if state == "FAILED":
            detail = f"file: {reply.excerpt}"
            return failed(FailureKind.UPSTREAM_ERROR, detail=detail, request_id=reply.request_id)
        return Running() if state == "PROCESSING" else Made()

    async def _data(self, found: Media, *, most: int) -> bytes | Failed:
        if found.data is not None:
            return found.data
        # The key goes to our own base only, so a file is asked for by its id, not by the address that came.
        own = f"/files/{segment(found.file)}:download?alt=media" if found.file else found.url
        try:
            return await self._http.download(own or "", max_bytes=most)
        except Lost as error:
            return failed(FailureKind.UPSTREAM_ERROR, "The vendor's file could not be fetched.", detail=str(error))

    def _path(self, task: str) -> str:
        return f"/interactions/{segment(task)}"


def _read(reply: Reply) -> Progress | Media:
    """Read an interaction, which may hold megabytes; blocks. Raises `Unreadable`."""
    document = reply.json()
    if not isinstance(document, dict):
        raise Unreadable(f"not an interaction: {reply.excerpt[:80]!r}")
    found = read(document, request_id=reply.request_id)
    return unknown_state(Interactions.name, document.get("status")) if found is None else found


def _is_unknown(reply: Reply) -> bool:
    return reply.status == 400 and _UNKNOWN in message_of(error_in(reply))
