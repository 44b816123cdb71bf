"""Tasks of vendors: what the answer to "how goes it?" means beyond a vendor's own words, the same for all of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from stablestudio.clock import Clock
from stablestudio.providers.answers import Ambiguous, Reply, Unreadable
from stablestudio.providers.faults import failed
from stablestudio.providers.http import VendorHttp
from stablestudio.providers.provider import Failed, FailureKind, Made, Running

Progress = Running | Made | Failed
Read = Callable[[Mapping[str, Any], str | None], Progress]

log = logging.getLogger(__name__)
_PATIENCE_MS = 120_000


class Strangers:
    """Tasks that their vendor does not know: a new one may need a while before every server of the vendor knows it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: dict[str, int] = {}  # milliseconds

    def meet(self, task: str, reply: Reply) -> Progress:
        """Return what it means that a task is unknown: a failure once it has been for two minutes."""
        since = self._since.setdefault(task, self._clock.now_ms())
        if self._clock.now_ms() < since + _PATIENCE_MS:
            return Running()
        self.forget(task)
        return failed(
            FailureKind.UPSTREAM_UNKNOWN,
            "The vendor does not know this task any more.",
            detail=reply.excerpt,
            request_id=reply.request_id,
        )

    def forget(self, task: str) -> None:
        """Take note that a task is known."""
        self._since.pop(task, None)


async def look(
    http: VendorHttp,
    path_or_url: str,
    *,
    task: str,
    read: Read,
    strangers: Strangers,
    is_unknown: Callable[[Mapping[str, Any]], bool] = lambda _: False,
) -> Progress:
    """Ask how a task goes; `read` understands the vendor's document and gets its request id. Raises as `told`.

    `is_unknown` recognises a document which says that there is no such task.
    """
    reply = await told(http, path_or_url)
    if not reply.ok or is_unknown(reply.document):
        return strangers.meet(task, reply)
    strangers.forget(task)
    return read(reply.document, reply.request_id)


async def told(http: VendorHttp, path_or_url: str) -> Reply:
    """Return what a vendor says of a task: its document, or that there is no such task (404, 410).

    Raises `Unanswered`, and `Unreadable` for an answer about the operator rather than the task, such as a refused key:
    both may be better later.
    """
    reply = await http.ask("GET", path_or_url)
    if not reply.ok and reply.status not in {404, 410}:
        raise Unreadable(f"{http.name} answered with status {reply.status}: {reply.excerpt}")
    return reply


def no_result(reply: Reply) -> Failed:
    """Return what it means that a finished task has no result any more."""
    return failed(
        FailureKind.UPSTREAM_UNKNOWN,
        "The vendor no longer has the result.",
        detail=reply.excerpt,
        request_id=reply.request_id,
    )


def made_if(result: object, request_id: str | None) -> Progress:
    """Return what a finished task means: nothing good where it names no result."""
    if result:
        return Made()
    return failed(FailureKind.UPSTREAM_ERROR, detail="finished without a result", request_id=request_id)


def unknown_state(vendor: str, state: object) -> Running:
    """Return what an undocumented state means: nothing definitive."""
    log.warning("unknown_task_state", extra={"provider": vendor, "state": str(state)[:100]})
    return Running()


def task_named(vendor: str, reply: Reply, *path: str) -> str:
    """Return the task id that an acceptance names; raise `Ambiguous` where it names none: nobody knows what was taken."""
    found = at(reply.document, *path)
    if not isinstance(found, str) or not found:
        raise Ambiguous(f"{vendor} accepted without a task id: {reply.excerpt}", reply=reply)
    return found


def at(document: object, *path: str | int) -> Any:
    """Return what stands at a path of a JSON document, or None."""
    for key in path:
        if isinstance(document, Mapping):
            document = document.get(key)
        elif isinstance(document, list) and isinstance(key, int) and key < len(document):
            document = document[key]
        else:
            return None
    return document


def text(value: object) -> str:
    """Return a vendor's word as text, empty where there is none."""
    return "" if value is None else str(value)
