"""BytePlus ModelArk, and Volcengine Ark in China: Seedance as tasks that are asked for, asked about and fetched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, ClassVar

from stablestudio.catalog import Offering, OfferingInput
from stablestudio.catalog.links import data_size
from stablestudio.clock import Clock, SystemClock
from stablestudio.errors import Issue
from stablestudio.providers.aggregate import fitting
from stablestudio.providers.checks import asked
from stablestudio.providers.clips import collect_clip
from stablestudio.providers.faults import turned_down, unusable
from stablestudio.providers.http import VendorHttp, segment
from stablestudio.providers.inputs import MediaSource, read_files
from stablestudio.providers.modelark_requests import (
    MAX_PICTURE_BYTES,
    MODELS,
    SEEDANCE_1_5,
    file_issue,
    find_task,
    listed,
    marker,
    model_for,
    progress,
    refusal,
    request,
    result_url,
)
from stablestudio.providers.provider import Accepted, Failed, Output, Work
from stablestudio.providers.tasks import Progress, Strangers, ended, look, no_result, task_id, task_named, told

BASE_URL = "https://ark.ap-southeast.bytepluses.com/api/v3"
_TASKS = "/contents/generations/tasks"
_ANSWER_SECONDS = 120.0
_PAGE = 100
_MOST_PAGES = 20


class ModelArk:
    """Makes Seedance clips; the vendor's key belongs to one region, whose address is the base URL."""

    name = "modelark"
    models: ClassVar[Mapping[str, str]] = MODELS

    def __init__(
        self,
        http: VendorHttp,
        *,
        source: MediaSource,
        user: Callable[[str], str],
        clock: Clock | None = None,
        settle: Sequence[float] = (0.0, 2.0, 6.0),
    ) -> None:
        """Take the vendor; `user` names a wallet without telling it, as 32 or more characters.

        `settle` are the pauses in seconds before each look for a lost task.
        """
        self._http = http
        self._source = source
        self._user = user
        self._strangers = Strangers(clock or SystemClock())
        self._settle = settle

    def objections(self, offering: Offering, given: OfferingInput, *, model: str = "") -> tuple[Issue, ...]:  # noqa: ARG002 - the files alone matter
        files = [
            file_issue(media, has_address=self._source.has_address(media.url), size=data_size(media.url))
            for media in given.media()
        ]
        return tuple(filter(None, files))

    async def submit(self, work: Work) -> Accepted | Failed:
        files = await read_files(self._source, work, fit=fitting(work, total_bytes=MAX_PICTURE_BYTES))
        if isinstance(files, Failed):
            return files
        model = self._model(work)
        body = request(work, files, model=model, older=model == SEEDANCE_1_5, user=self._user(work.wallet))
        if isinstance(body, Failed):
            return body
        reply = await self._http.submit("POST", _TASKS, json=body, timeout=_ANSWER_SECONDS, refused=refusal)
        if not reply.ok:
            return turned_down(refusal(reply), reply)
        return Accepted(task=task_named(self.name, reply, "id"), upstream_model=model)

    async def find(self, work: Work) -> Accepted | None:
        """Look for the job's marker in the list; that it is not there proves nothing, so the answer is then None."""
        sought = marker(self._user(work.wallet), work.job_id)
        for pause in self._settle:
            await asyncio.sleep(pause)
            async for page in self._pages(since_ms=work.ordered_at - 60_000):
                task = find_task(page, safety_identifier=sought)
                if task is not None and (found := task_id(task.get("id"))) is not None:
                    return Accepted(task=found, upstream_model=str(task.get("model") or self._model(work)))
        return None

    async def poll(self, work: Work, task: str) -> Progress:  # noqa: ARG002 - the task says it all
        return await look(self._http, f"{_TASKS}/{segment(task)}", task=task, read=progress, strangers=self._strangers)

    async def fetch(self, work: Work, task: str) -> Output | Failed:
        reply = await ended(self._http, f"{_TASKS}/{segment(task)}", task=task, strangers=self._strangers)
        if isinstance(reply, Failed):
            return reply
        url = result_url(reply.document)
        if url is None:
            return no_result(reply)
        return await collect_clip(self._http, url, work)

    async def check(self) -> None:
        """Prove key and reach with a list of one task. Raises `VendorUnusable`."""
        reply = await asked(self._http, f"{_TASKS}?page_num=1&page_size=1")
        if not reply.ok:
            unusable(self.name, reply, kind=refusal(reply))

    async def cancel(self, work: Work, task: str) -> bool:  # noqa: ARG002 - the task says it all
        """Take back a task that still waits; a running one cannot be, and a finished one would be forgotten."""
        place = f"{_TASKS}/{segment(task)}"
        reply = await self._http.ask("GET", place, deadline_seconds=20)
        if reply.document.get("status") != "queued":
            return False
        return (await self._http.ask("DELETE", place, deadline_seconds=20)).ok

    async def close(self) -> None:
        await self._http.close()

    def _model(self, work: Work) -> str:
        """Return the model that makes this: only the older one knows a seed and a fixed camera."""
        return model_for(work, model=work.model or MODELS[work.offering.key], older_model=SEEDANCE_1_5)

    async def _pages(self, *, since_ms: int) -> AsyncIterator[list[Mapping[str, Any]]]:
        """Read the list, newest first, until its tasks are older than the order."""
        for number in range(1, _MOST_PAGES + 1):
            page = listed((await told(self._http, f"{_TASKS}?page_num={number}&page_size={_PAGE}")).document)
            yield page
            if len(page) < _PAGE or all(_is_older(task, since_ms) for task in page):
                return


def _is_older(task: Mapping[str, Any], since_ms: int) -> bool:
    created = task.get("created_at")
    return isinstance(created, int | float) and created * 1000 < since_ms
