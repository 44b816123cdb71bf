"""fal.ai: many models behind one queue."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from stablestudio.catalog import Offering, OfferingInput
from stablestudio.clock import Clock, SystemClock
from stablestudio.errors import Issue
from stablestudio.providers.aggregate import fitting, order_of, routed
from stablestudio.providers.answers import Ambiguous, Reply, Unreadable
from stablestudio.providers.checks import asked
from stablestudio.providers.clips import collect_clip
from stablestudio.providers.fal_models import IGNORED, LACKS, OFFERS
from stablestudio.providers.fal_requests import (
    HEADERS,
    error,
    is_blackened,
    is_verdict,
    place,
    progress,
    refusal,
    result_url,
    task,
)
from stablestudio.providers.faults import failed, turned_down, unusable
from stablestudio.providers.http import VendorHttp
from stablestudio.providers.inputs import MediaFile, MediaSource, data_url, read_files
from stablestudio.providers.lacks import Lacks, objections
from stablestudio.providers.provider import Accepted, Failed, FailureKind, Output, Work
from stablestudio.providers.routes import arguments, endpoint
from stablestudio.providers.tasks import Progress, Strangers, forgotten, look

BASE_URL = "https://queue.fal.run"
_ANSWER_SECONDS = 120.0
_MAX_BYTES = 24 * 1024 * 1024  # of all pictures together
_NOBODYS = "00000000-0000-0000-0000-000000000000"


class Fal:
    """Makes what `fal_models` lists."""

    name = "fal"
    models: ClassVar[Mapping[str, str]] = {key: offer.model for key, offer in OFFERS.items()}

    def __init__(
        self, http: VendorHttp, *, source: MediaSource, user: Callable[[str], str], clock: Clock | None = None
    ) -> None:
        """Take the vendor; `user` names a wallet without telling it."""
        self._http = http
        self._source = source
        self._user = user
        self._strangers = Strangers(clock or SystemClock())

    lacks: ClassVar[Lacks] = LACKS
    ignored: ClassVar[Mapping[str, Sequence[str]]] = IGNORED

    def objections(self, offering: Offering, given: OfferingInput, *, model: str = "") -> tuple[Issue, ...]:  # noqa: ARG002 - every model has the same lacks
        return objections(self.lacks.get(offering.key, ()), given)

    async def submit(self, work: Work) -> Accepted | Failed:
        route = routed(work, OFFERS, vendor=self.name)
        files = await read_files(self._source, work, fit=fitting(work, total_bytes=_MAX_BYTES))
        if isinstance(files, Failed):
            return files
        order = order_of(work, files, [_address(file) for file in files], user=self._user)
        application = endpoint(route, work.model or OFFERS[work.offering.key].model)
        reply = await self._http.submit(
            "POST",
            f"/{application}",
            json=arguments(route, order),
            headers=HEADERS,
            timeout=_ANSWER_SECONDS,
            refused=refusal,
        )
        if not reply.ok:
            return turned_down(refusal(reply), reply)
        handle = task(reply.document, base_url=self._http.base_url, application=application, is_own=self._http.is_own)
        if handle is None:
            raise Ambiguous(f"fal accepted without a request id: {reply.excerpt}", reply=reply)
        return Accepted(task=handle, upstream_model=application)

    async def find(self, work: Work) -> Accepted | None:  # noqa: ARG002 - fal's interface lists no requests
        """Return None: only fal's dashboard lists requests, so nobody can know."""
        return None

    async def poll(self, work: Work, task: str) -> Progress:  # noqa: ARG002 - the task says it all
        return await look(
            self._http, self._own(task, "status_url"), task=task, read=progress, strangers=self._strangers
        )

    async def fetch(self, work: Work, task: str) -> Output | Failed:
        route = OFFERS[work.offering.key].route(work.input)
        reply = await self._result(self._own(task, "response_url"))
        unknown = self._strangers.judge(self.name, task, reply, is_verdict=lambda _: True)
        if failure := forgotten(self.name, reply, unknown):
            return failure
        if not reply.ok:
            return error(reply)
        if is_blackened(reply.document):
            return failed(FailureKind.MODERATION, detail="has_nsfw_concepts", request_id=reply.request_id)
        url = result_url(reply.document, route)
        if url is None:
            return failed(FailureKind.UPSTREAM_ERROR, detail=reply.excerpt, request_id=reply.request_id)
        return await collect_clip(self._http, url, work, within=route.within(work.input))

    async def check(self) -> None:
        """Prove key and reach with a question about nobody's request. Raises `VendorUnusable`.

        fal says in its own form that there is none; a web page that says the same is not fal's.
        """
        reply = await asked(self._http, f"/fal-ai/flux/requests/{_NOBODYS}/status")
        if reply.status in {401, 402, 403} or not reply.document.keys() & {"detail", "status"}:
            unusable(self.name, reply, kind=refusal(reply))

    async def cancel(self, work: Work, task: str) -> bool:  # noqa: ARG002 - the handle says it all
        """Take back a request that has not begun, or stop it; fal refuses for a completed one."""
        return (await self._http.ask("PUT", self._own(task, "cancel_url"), deadline_seconds=20)).ok

    async def close(self) -> None:
        await self._http.close()

    def _own(self, handle: str, name: str) -> str:
        url = place(handle, name)
        if not self._http.is_own(url):
            raise Unreadable(f"fal named an address that is not its own: {url[:200]!r}")
        return url

    async def _result(self, url: str) -> Reply:
        """Ask for the result once; the status of a failed request, 5xx too, is the model's and would not change."""
        try:
            return await self._http.submit("GET", url, timeout=60.0)
        except Ambiguous as trouble:
            if trouble.reply is None or not is_verdict(trouble.reply):
                raise
            return trouble.reply


def _address(file: MediaFile) -> str:
    """Return how fal gets a file: pictures as bytes, clips and sounds by their public address, if they have one."""
    return file.url if file.kind != "image" and file.url is not None else data_url(file)
