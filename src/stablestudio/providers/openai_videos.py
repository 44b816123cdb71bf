"""The video protocol that OpenAI made for Sora and has ended itself; gateways still speak it. Any base URL, none by default.

Facts: OpenAI's OpenAPI (`CreateVideoJsonBody`, `VideoResource`) and the types of openai-python 3.x.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from stablestudio.catalog.families.sora import Sora, SoraPro
from stablestudio.catalog.sizes import pixels
from stablestudio.clock import Clock
from stablestudio.media.probe import UnreadableMedia
from stablestudio.providers.faults import failed, turned_down
from stablestudio.providers.finish import collect
from stablestudio.providers.forms import form
from stablestudio.providers.http import Reply, VendorHttp, segment
from stablestudio.providers.inputs import MediaFile, MediaSource, crop_to, data_url, read_files
from stablestudio.providers.openai_errors import error_of, listed_models, meaning, refusal, warnings_of
from stablestudio.providers.provider import Accepted, Failed, FailureKind, Made, Output, Running, Work
from stablestudio.providers.tasks import Progress, Strangers, look, task_named, unknown_state

log = logging.getLogger(__name__)


class OpenAIVideos:
    """Clips by task. Frames are cropped here, because the vendor demands exactly the clip's size."""

    models: ClassVar[Mapping[str, str]] = {"sora-2/generate": "sora-2", "sora-2-pro/generate": "sora-2-pro"}

    def __init__(
        self,
        http: VendorHttp,
        *,
        source: MediaSource,
        clock: Clock,
        user: Callable[[str], str],  # noqa: ARG002 - see below
        served: Mapping[str, str] | None = None,
        bodies: Literal["json", "form"] = "json",
    ) -> None:
        """Take the parts; `served` is offering to model as configured, for `check`.

        `user`, which hashes a wallet for the vendors that ask for it, goes nowhere: this protocol has no field for it.
        `bodies="form"` is for servers that take orders as form data only, which is what OpenAI's own clients send.
        """
        self.name = http.name
        self.notices: tuple[str, ...] = ()
        self._http = http
        self._source = source
        self._strangers = Strangers(clock)
        self._served = self.models if served is None else served
        self._bodies = bodies

    async def submit(self, work: Work) -> Accepted | Failed:
        files = await read_files(self._source, work, fit=lambda file: _frame(work, file))
        if isinstance(files, Failed):
            return files
        reply = await self._post(work, files)
        if not reply.ok:
            return turned_down(refusal(reply), reply)
        return Accepted(task=task_named(self.name, reply, "id"), upstream_model=work.model)

    async def find(self, work: Work) -> Accepted | None:  # noqa: ARG002 - see below
        """Say that nobody knows: the vendor's list has no mark of ours, so a twin order's clip could be mistaken for it."""
        return None

    async def poll(self, work: Work, task: str) -> Running | Made | Failed:  # noqa: ARG002 - the task says all
        path = f"/videos/{segment(task)}"
        return await look(self._http, path, task=task, read=self._progress, strangers=self._strangers)

    async def fetch(self, work: Work, task: str) -> Output | Failed:
        return await collect(self._http, f"/videos/{segment(task)}/content", work)

    async def check(self) -> None:
        """Prove key and address by the list of models; `notices` then tells which of ours end or are missing."""
        self.notices = warnings_of(await listed_models(self._http), self._served)
        for notice in self.notices:
            log.warning("model_notice", extra={"provider": self.name, "notice": notice})

    async def close(self) -> None:
        await self._http.close()

    async def _post(self, work: Work, files: Sequence[MediaFile]) -> Reply:
        if self._bodies == "json":
            return await self._http.submit("POST", "/videos", json=request(work, files), refused=refusal)
        body, content_type = form(request(work, ()), files=files, files_as="input_reference")
        headers = {"Content-Type": content_type}
        return await self._http.submit("POST", "/videos", content=body, headers=headers, refused=refusal)

    def _progress(self, document: Mapping[str, Any], request_id: str | None) -> Progress:
        return progress_of(self.name, document, request_id)


def request(work: Work, files: Sequence[MediaFile]) -> dict[str, Any]:
    """Return the JSON body of `POST /videos`."""
    given = work.input
    assert isinstance(given, Sora | SoraPro)
    body: dict[str, Any] = {
        "model": work.model,
        "prompt": given.prompt,
        "seconds": given.seconds,
        "size": given.size,
    }
    if files:
        body["input_reference"] = {"image_url": data_url(files[0])}
    return body


def progress_of(vendor: str, document: Mapping[str, Any], request_id: str | None) -> Progress:
    """Return what a video resource says; gateways add states to OpenAI's four."""
    match document.get("status"):
        case "completed":
            return Made()
        case "queued" | "in_progress" | "pending" | "processing":
            return Running(progress=percent(document.get("progress")))
        case "failed" | "cancelled" | "canceled" | "expired":
            error = error_of(document)
            kind = meaning(error, otherwise=FailureKind.UPSTREAM_ERROR)
            return failed(kind, detail=f"{error.get('code')}: {error.get('message')}", request_id=request_id)
        case state:
            return unknown_state(vendor, state)


def percent(value: object) -> int | None:
    """Return a vendor's progress as whole percents, None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        return None
    return int(value)


async def _frame(work: Work, file: MediaFile) -> MediaFile:
    """Return the first frame in the clip's size, cropped if the buyer lets us. Raises `UnreadableMedia`."""
    given = work.input
    assert isinstance(given, Sora | SoraPro)
    size = pixels(given.size)
    if not given.autoCrop and (file.width, file.height) != size:
        raise UnreadableMedia(
            f"input_reference has {file.width}x{file.height} pixels, but the clip has {given.size}: "
            "send a frame of that size, or leave autoCrop on."
        )
    return await crop_to(file, size)
