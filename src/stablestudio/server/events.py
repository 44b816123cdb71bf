"""A job's events as a stream (Server-Sent Events, WHATWG HTML section 9.2): state, progress and money until all is over.

Events tell what is, not all that was: after a gap the newest alone. An event's id is the order's revision.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json

from stablestudio.errors import StudioError
from stablestudio.jobs.changes import Changes, Waiter
from stablestudio.server.http import CORS, NO_STORE, Headers, Receive, Scope, Send, header
from stablestudio.server.job_bodies import Phase, payment_of, phase_of, state_of
from stablestudio.server.job_pages import JobPages
from stablestudio.server.waits import Line, line
from stablestudio.store.views import OrderView

HEARTBEAT_SECONDS = 15.0
# Clients come back by themselves, with the id of the last event: a stream need not outlive what authorised it.
LONGEST_SECONDS = 3600.0
_RECONNECT = b"retry: 2000\n\n"
_HEARTBEAT = b": heartbeat\n\n"
_HEADERS: Headers = [
    (b"content-type", b"text/event-stream"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
    *CORS,
    NO_STORE,
]


class TooManyWaits(StudioError):
    """Too many connections wait for this job, or for all jobs of this service."""

    status = 429
    retryable = True
    hint = "Close streams that nobody reads, or poll: a poll is always answered."

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "5"})


class EventStreams:
    """`GET /api/jobs/{id}/events`, for whoever may read the job."""

    def __init__(self, changes: Changes, *, pages: JobPages) -> None:
        self._changes = changes
        self._pages = pages

    async def serve(self, scope: Scope, receive: Receive, send: Send, *, order: OrderView) -> None:
        """Stream an order's events until it is over; whoever has heard the last one is told not to come back."""
        heard = _last_event_id(scope)
        if heard == order.revision and phase_of(order) is Phase.OVER:
            await send({"type": "http.response.start", "status": 204, "headers": [*CORS, NO_STORE]})
            return await send({"type": "http.response.body", "body": b""})
        if not self._changes.has_room(order.id):
            raise TooManyWaits
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        with self._changes.waiter(order.id) as waiter, line(receive, waiter) as call:
            await self._follow(send, waiter, call, shown=order if heard == order.revision else None)
        await send({"type": "http.response.body", "body": b""})

    async def _follow(self, send: Send, waiter: Waiter, call: Line, *, shown: OrderView | None) -> None:
        now = asyncio.get_running_loop().time
        end = now() + LONGEST_SECONDS
        quiet = now() + HEARTBEAT_SECONDS
        await _write(send, _RECONNECT)
        while (order := waiter.look()) is not None and order.deleted_at is None:
            news = self._news(order, shown)
            is_over = phase_of(order) is Phase.OVER
            if is_over:
                news.append(_json("end", {"jobId": order.id, "status": state_of(order)}))
            if news:
                await _write(send, b"".join(news[:-1]) + b"id: %d\n" % order.revision + news[-1])
                shown = order
                quiet = now() + HEARTBEAT_SECONDS
            if is_over or call.is_dead or self._changes.is_over or now() >= end:
                return
            # Not every change is news: the silence is counted from what was written last.
            await waiter.wait(order, seconds=quiet - now())
            if now() >= quiet and not call.is_dead:
                await _write(send, _HEARTBEAT)
                quiet = now() + HEARTBEAT_SECONDS

    def _news(self, order: OrderView, shown: OrderView | None) -> list[bytes]:
        """Return the events that lead from what was shown to what is; the last one alone will bear the id."""
        news = []
        if shown is None or state_of(order) != state_of(shown):
            page = self._pages.page(order.id, order.wallet, signed=False, order=order)
            news.append(_event("state", page[1]["body"]))
        elif order.progress != shown.progress:
            news.append(_json("progress", {"jobId": order.id, "progress": order.progress or 0}))
        if shown is None or payment_of(order) != payment_of(shown):
            news.append(_json("payment", {"jobId": order.id, **payment_of(order)}))
        return news


def _last_event_id(scope: Scope) -> int | None:
    """Return the revision that the client has heard of; an id that is none of ours is no id."""
    given = header(scope, b"last-event-id") or ""
    return int(given) if given.isascii() and given.isdecimal() and len(given) < 16 else None


def _json(name: str, data: Mapping[str, Any]) -> bytes:
    return _event(name, to_json(data))


def _event(name: str, data: bytes) -> bytes:
    """Return an event; JSON as we write it has no line breaks."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)


async def _write(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})
