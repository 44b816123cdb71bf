"""OpenRouter: clips of several vendors behind one interface, on one bill."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from stablestudio.catalog import Offering, OfferingInput
from stablestudio.clock import Clock, SystemClock
from stablestudio.errors import Issue
from stablestudio.providers.aggregate import fitting
from stablestudio.providers.checks import asked
from stablestudio.providers.clips import collect_clip
from stablestudio.providers.faults import turned_down, unusable
from stablestudio.providers.http import VendorHttp, segment
from stablestudio.providers.inputs import MediaSource, read_files
from stablestudio.providers.lacks import Lacks, objections
from stablestudio.providers.openrouter_requests import LACKS, MODELS, file_issue, progress, refusal, request
from stablestudio.providers.provider import Accepted, Failed, Output, Work
from stablestudio.providers.tasks import Progress, Strangers, look, task_named

BASE_URL = "https://openrouter.ai/api/v1"
_ANSWER_SECONDS = 120.0
_MAX_BYTES = 20 * 1024 * 1024  # of all pictures together


class OpenRouter:
    """Makes clips with what `openrouter_requests` lists."""

    name = "openrouter"
    models: ClassVar[Mapping[str, str]] = MODELS

    def __init__(
        self, http: VendorHttp, *, source: MediaSource, user: Callable[[str], str], clock: Clock | None = None
    ) -> None:
        """Take the vendor; `user` names a wallet without telling it."""
        self._http = http
        self._source = source
        self._user = user
        self._strangers = Strangers(clock or SystemClock())

    lacks: ClassVar[Lacks] = LACKS

    def objections(self, offering: Offering, given: OfferingInput, *, model: str = "") -> tuple[Issue, ...]:  # noqa: ARG002 - every model has the same lacks
        files = [file_issue(media, has_address=self._source.has_address(media.url)) for media in given.media()]
        return (*objections(self.lacks.get(offering.key, ()), given), *filter(None, files))

    async def submit(self, work: Work) -> Accepted | Failed:
        files = await read_files(self._source, work, fit=fitting(work, total_bytes=_MAX_BYTES))
        if isinstance(files, Failed):
            return files
        model = work.model or MODELS[work.offering.key]
        body = request(work, files, model=model, user=self._user(work.wallet))
        reply = await self._http.submit("POST", "/videos", json=body, timeout=_ANSWER_SECONDS, refused=refusal)
        if not reply.ok:
            return turned_down(refusal(reply), reply)
        return Accepted(task=task_named(self.name, reply, "id"), upstream_model=model)

    async def find(self, work: Work) -> Accepted | None:  # noqa: ARG002 - the interface lists no jobs
        """Return None: the interface lists no jobs, so nobody can know."""
        return None

    async def poll(self, work: Work, task: str) -> Progress:  # noqa: ARG002 - the task says it all
        return await look(self._http, f"/videos/{segment(task)}", task=task, read=progress, strangers=self._strangers)

    async def fetch(self, work: Work, task: str) -> Output | Failed:
        return await collect_clip(self._http, f"/videos/{segment(task)}/content?index=0", work)

    async def check(self) -> None:
        """Prove key and reach by asking about the key itself. Raises `VendorUnusable`."""
        reply = await asked(self._http, "/key")
        if not reply.ok:
            unusable(self.name, reply)

    async def close(self) -> None:
        await self._http.close()
