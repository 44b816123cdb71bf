"""Clips in OpenAI's shape: `POST /v1/videos` answers at once, `GET /v1/videos/{id}` and its `/content` follow."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_json
from starlette.exceptions import HTTPException

from stablestudio import catalog
from stablestudio.catalog import Kind, VideoInput
from stablestudio.clock import Clock, iso
from stablestudio.errors import InvalidInput, Issue
from stablestudio.media.links import AssetDeleted, AssetExpired
from stablestudio.sales.order import Sold
from stablestudio.server.faces.errors import ClipFailed, ClipNotReady, VideoKeyRefused
from stablestudio.server.faces.openai import VIDEOS
from stablestudio.server.faces.sale import FacedSale
from stablestudio.server.http import (
    CORS,
    JSON,
    PRIVATE,
    Headers,
    Receive,
    Scope,
    Send,
    refuse_method,
    respond,
    respond_preflight,
)
from stablestudio.server.job_bodies import JobBodies, Phase, phase_of, state_of
from stablestudio.server.job_pages import JobNotFound, JobPages
from stablestudio.server.poll_tokens import PollTokenExpired, PollTokenInvalid, PollTokens
from stablestudio.server.sell import notes
from stablestudio.server.sign_in import Gate, Signed
from stablestudio.store import views
from stablestudio.store.database import Database
from stablestudio.store.views import OrderView

PREFIX = f"{VIDEOS.path}/"
METHODS = "GET, HEAD"
_LONGEST_PATH = 100
_REMEMBERED = 1_000
Facts = dict[str, str | None]
_STATES = {"pending": "queued", "loading": "in_progress", "complete": "completed", "failed": "failed"}
_LINKS = {"video": "videoUrl", "thumbnail": "thumbnailUrl"}


class ClipSale(FacedSale):
    """Sells one clip; the answer has the poll token, which OpenAI's clients can send as their key."""

    def __init__(self, *args: Any, database: Database, **parts: Any) -> None:
        super().__init__(*args, **parts)
        self._database = database

    async def answer(self, scope: Scope, receive: Receive, send: Send, sold: Sold) -> None:  # noqa: ARG002 - nothing is waited for
        headers, token = self.head(sold)
        body = await self.sold(sold.job_id) | notes(sold) | ({"pollToken": token} if token else {})
        await respond(send, 200, to_json(body), headers)

    async def sold(self, order_id: str) -> dict[str, Any]:
        order = await views.find(self._database, order_id)
        assert order is not None, "the order was written with its payment"
        # As it was at first: whoever only sends the payment again is not told what became of it.
        news = {"progress": 0, "completed_at": None, "error": None}
        return clip(order, await ordered(order, self._database)) | news | self.awaited(order_id)

    def awaited(self, job_id: str) -> dict[str, Any]:
        return super().awaited(job_id) | {"id": job_id, "object": "video", "status": "queued"}


class ClipRoutes:
    """What a clip's owner reads: by a signature, or with the poll token as `Authorization: Bearer`."""

    def __init__(
        self, database: Database, *, gate: Gate, pages: JobPages, bodies: JobBodies, tokens: PollTokens, clock: Clock
    ) -> None:
        self._database = database
        self._gate = gate
        self._pages = pages
        self._bodies = bodies
        self._tokens = tokens
        self._clock = clock
        self._ordered: dict[str, Facts] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - a body is not read
        """Serve `/v1/videos/{id}` and `/v1/videos/{id}/content`."""
        job_id, _, below = scope["path"][len(PREFIX) :].partition("/")
        if len(scope["path"]) > _LONGEST_PATH or below not in ("", "content"):
            raise HTTPException(
                404
            )  # also what is too long: a challenge repeats the path, and clients take 16 KB of headers
        if scope["method"] == "OPTIONS":
            return await respond_preflight(send, f"{METHODS}, OPTIONS")
        if scope["method"] not in ("GET", "HEAD"):
            raise refuse_method(scope, METHODS)
        reader = await self._reader(scope, job_id)
        order = await self._pages.own(job_id, reader.wallet)
        offering = catalog.find(order.model, order.operation)
        if offering is not None and offering.kind is not Kind.VIDEO:
            raise JobNotFound("This job makes no video; read it at /api/jobs.")
        if below:
            return await self._content(scope, send, order)
        await self._read(scope, send, order, reader)

    async def _reader(self, scope: Scope, job_id: str) -> Signed:
        """Return who reads. Where a key is no token, 401: a client that pays would take 402 for a price, and throw."""
        try:
            return await self._gate.reader(scope, job_id=job_id)
        except (PollTokenInvalid, PollTokenExpired) as error:
            raise VideoKeyRefused(error.message, extra=error.extra) from None

    async def _read(self, scope: Scope, send: Send, order: OrderView, reader: Signed) -> None:
        body = clip(order, await self._facts(order))
        if reader.has_signed:
            token = self._tokens.issue(order.id, wallet=order.wallet, now_ms=self._clock.now_ms())
            body |= {"pollToken": token.text, "pollTokenExpiresAt": iso(token.until_ms)}
        headers: Headers = [JSON, *CORS, PRIVATE]
        job = await self._database.look(lambda: self._bodies.body(order))
        if phase_of(order) is Phase.MAKING:
            headers.append((b"openai-poll-after-ms", b"%d" % (job["pollAfter"] * 1000)))
        body |= {name: job[name] for name in ("success", "jobId", "pollUrl", "payment", "result") if name in job}
        whole = to_json(body)
        headers.append((b"content-length", b"%d" % len(whole)))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else whole})

    async def _facts(self, order: OrderView) -> Facts:
        """Return what was ordered; a long input, with media in it, is not read anew at every look."""
        if order.id not in self._ordered:
            if len(self._ordered) >= _REMEMBERED:
                self._ordered.clear()
            self._ordered[order.id] = await ordered(order, self._database)
        return self._ordered[order.id]

    async def _content(self, scope: Scope, send: Send, order: OrderView) -> None:
        """Send the reader on to the clip, or to its thumbnail."""
        variant = _variant(scope["query_string"])
        state = state_of(order)
        if state == "failed":
            raise ClipFailed
        if state != "complete":
            raise ClipNotReady
        result = (await self._database.look(lambda: self._bodies.body(order)))["result"]
        if "deleted" in result:
            raise AssetDeleted
        if (link := result.get(_LINKS[variant])) is None:
            raise AssetExpired
        headers: Headers = [*CORS, PRIVATE, (b"location", link.encode())]
        await respond(send, 302, b"", headers)


def clip(order: OrderView, facts: Facts) -> dict[str, Any]:
    """Return a job as a video of OpenAI's API; seconds and size are those that were ordered."""
    state = state_of(order)
    body: dict[str, Any] = {
        "id": order.id,
        "object": "video",
        "model": order.model,
        "status": _STATES[state],
        "progress": 100 if state == "complete" else order.progress or 0,
        "created_at": order.ordered_at // 1000,
        "completed_at": order.finished_at // 1000 if state == "complete" and order.finished_at else None,
        "expires_at": None,
        "remixed_from_video_id": None,
        "error": None,
    }
    body |= facts
    if state == "failed":
        body["error"] = {"code": order.error_code or "payment_rejected", "message": order.error or "Not charged."}
    return body


async def ordered(order: OrderView, database: Database) -> Facts:
    """Return seconds, size and prompt that were ordered; nothing where the catalog no longer knows what it is."""
    offering = catalog.find(order.model, order.operation)
    if offering is None:
        return {}
    try:
        written = order.input or await database.look(lambda: views.whole_input(database, order.id))
        given = offering.input.model_validate_json(written or "")
    except ValueError:
        return {}  # what it was, today's catalog does not take
    if not isinstance(given, VideoInput):
        return {}
    output = given.output()
    size = f"{output.width}x{output.height}"
    return {"seconds": str(output.seconds), "size": size, "prompt": getattr(given, "prompt", None)}


def _variant(query: bytes) -> str:
    wanted = query.decode("latin-1").partition("variant=")[2].partition("&")[0] or "video"
    if wanted not in _LINKS:
        text = "'variant' is video or thumbnail"
        raise InvalidInput(text, issues=[Issue(("variant",), "not_allowed", text, tuple(_LINKS))])
    return wanted
