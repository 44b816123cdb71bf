"""Replicate: many models behind one interface of predictions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, ClassVar

from stablestudio.catalog import Offering, OfferingInput
from stablestudio.clock import Clock, SystemClock
from stablestudio.errors import Issue
from stablestudio.providers.aggregate import fitting, order_of, routed
from stablestudio.providers.answers import Ambiguous
from stablestudio.providers.checks import asked
from stablestudio.providers.clips import collect_clip
from stablestudio.providers.faults import turned_down, unusable
from stablestudio.providers.forms import form
from stablestudio.providers.http import VendorHttp, segment
from stablestudio.providers.inputs import MediaFile, MediaSource, data_url, read_files
from stablestudio.providers.lacks import Lacks, objections
from stablestudio.providers.provider import Accepted, Failed, FailureKind, NotAccepted, Output, Work
from stablestudio.providers.replicate_models import LACKS, OFFERS
from stablestudio.providers.replicate_requests import (
    HEADERS,
    MAX_INLINE_BYTES,
    created_before,
    find_prediction,
    listed,
    place,
    progress,
    refusal,
    result_url,
    uploaded_url,
)
from stablestudio.providers.routes import arguments, endpoint, marking_seed
from stablestudio.providers.tasks import Progress, Strangers, ended, look, no_result, task_id, task_named, told

BASE_URL = "https://api.replicate.com/v1"
_ANSWER_SECONDS = 120.0
_MAX_BYTES = 64 * 1024 * 1024  # of all pictures together
_MOST_PAGES = 20
# A prediction repeats its input, with every small picture that is in it.
_MAX_STATUS_BYTES = 16 * 1024 * 1024
_MAX_LIST_BYTES = 128 * 1024 * 1024


class Replicate:
    """Makes what `replicate_models` lists."""

    name = "replicate"
    models: ClassVar[Mapping[str, str]] = {key: offer.model for key, offer in OFFERS.items()}

    def __init__(
        self,
        http: VendorHttp,
        *,
        source: MediaSource,
        user: Callable[[str], str],
        clock: Clock | None = None,
        settle: Sequence[float] = (0.0, 2.0, 6.0),
    ) -> None:
        """Take the vendor; `user` names a wallet without telling it, `settle` are the pauses before looks for a lost task."""
        self._http = http
        self._source = source
        self._user = user
        self._strangers = Strangers(clock or SystemClock())
        self._settle = settle

    lacks: ClassVar[Lacks] = LACKS

    def objections(self, offering: Offering, given: OfferingInput, *, model: str = "") -> tuple[Issue, ...]:  # noqa: ARG002 - every model has the same lacks
        return objections(self.lacks.get(offering.key, ()), given)

    async def submit(self, work: Work) -> Accepted | Failed:
        route = routed(work, OFFERS, vendor=self.name)
        files = await read_files(self._source, work, fit=fitting(work, total_bytes=_MAX_BYTES))
        if isinstance(files, Failed):
            return files
        urls: list[str] = []
        for file in files:
            url = await self._published(file)
            if isinstance(url, Failed):
                return url
            urls.append(url)
        order = order_of(work, files, urls, user=self._user)
        model = self._model(work)
        path, more = place(model)
        body = {**more, "input": arguments(route, order)}
        reply = await self._http.submit(
            "POST", path, json=body, headers=HEADERS, timeout=_ANSWER_SECONDS, refused=refusal
        )
        if not reply.ok:
            return turned_down(refusal(reply), reply)
        return Accepted(task=task_named(self.name, reply, "id"), upstream_model=model)

    async def find(self, work: Work) -> Accepted | None:
        """Look for the job's own seed in the list of predictions; None where it is not there or has none of its own."""
        route = OFFERS[work.offering.key].route(work.input)
        if "seed" not in route.fields or work.input.seed_value() is not None:
            return None
        model = self._model(work)
        marked = {"seed": marking_seed(work.job_id)}
        for pause in self._settle:
            await asyncio.sleep(pause)
            async for page in self._pages(since_ms=work.ordered_at - 60_000):
                found = find_prediction(page, model=model, asked=marked)
                if found is not None and (task := task_id(found.get("id"))) is not None:
                    return Accepted(task=task, upstream_model=model)
        return None

    async def poll(self, work: Work, task: str) -> Progress:  # noqa: ARG002 - the task says it all
        return await look(
            self._http,
            f"/predictions/{segment(task)}",
            task=task,
            read=progress,
            strangers=self._strangers,
            max_bytes=_MAX_STATUS_BYTES,
        )

    async def fetch(self, work: Work, task: str) -> Output | Failed:
        route = OFFERS[work.offering.key].route(work.input)
        place = f"/predictions/{segment(task)}"
        reply = await ended(self._http, place, task=task, strangers=self._strangers, max_bytes=_MAX_STATUS_BYTES)
        if isinstance(reply, Failed):
            return reply
        url = result_url(reply.document, route)
        if url is None:
            return no_result(reply)
        return await collect_clip(self._http, url, work, within=route.within(work.input))

    async def check(self) -> None:
        """Prove key and reach by asking whose key it is. Raises `VendorUnusable`."""
        reply = await asked(self._http, "/account")
        if not reply.ok:
            unusable(self.name, reply)

    async def cancel(self, work: Work, task: str) -> bool:  # noqa: ARG002 - the task says it all
        """Stop a prediction; what it has cost so far is charged."""
        return (await self._http.ask("POST", f"/predictions/{segment(task)}/cancel", deadline_seconds=20)).ok

    async def close(self) -> None:
        await self._http.close()

    def _model(self, work: Work) -> str:
        offer = OFFERS[work.offering.key]
        return endpoint(offer.route(work.input), work.model or offer.model)

    async def _published(self, file: MediaFile) -> str | Failed:
        """Return how Replicate gets a file: a small one inside the request, others from its own store."""
        if len(file.data) <= MAX_INLINE_BYTES:
            return data_url(file)
        content, kind = form({}, files=[file], files_as="content")
        headers = {"Content-Type": kind}
        try:
            reply = await self._http.submit("POST", "/files", content=content, headers=headers, timeout=_ANSWER_SECONDS)
        except Ambiguous as error:
            # A file twice in the store costs nothing, and no work was asked for yet.
            raise NotAccepted(f"an input could not be uploaded: {error.detail}") from error
        if not reply.ok:
            kind = refusal(reply)
            # No model has ended because its file store is gone.
            return turned_down(FailureKind.UPSTREAM_ERROR if kind is FailureKind.UPSTREAM_RETIRED else kind, reply)
        url = uploaded_url(reply)
        if url is None:
            raise NotAccepted(f"an upload was answered without its address: {reply.excerpt}")
        return url

    async def _pages(self, *, since_ms: int) -> AsyncIterator[list[Mapping[str, Any]]]:
        """Read the list, newest first, until its predictions are older than the order."""
        following: object = "/predictions"
        for _ in range(_MOST_PAGES):
            if not isinstance(following, str) or not following:
                return
            document = (await told(self._http, following, max_bytes=_MAX_LIST_BYTES)).document
            page = listed(document)
            yield page
            if not page or created_before(page[-1], since_ms):
                return
            following = document.get("next")
