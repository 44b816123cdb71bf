"""Tasks of vendors: what the answer to "how goes it?" means beyond a vendor's own words, the same for all of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from stablestudio.clock import Clock
from stablestudio.providers.answers import Ambiguous, Reply, Unanswered, Unreadable
from stablestudio.providers.faults import failed
from stablestudio.providers.http import MAX_STATUS_BYTES, VendorHttp, is_segment
from stablestudio.providers.provider import Failed, FailureKind, Made, Running

Progress = Running | Made | Failed
Read = Callable[[Mapping[str, Any], str | None], Progress]

log = logging.getLogger(__name__)
_PATIENCE_MS = 120_000
_UNKNOWN = frozenset({404, 410})


def no(_: Reply) -> bool:
    """Recognise nothing in an answer beyond its status."""
    return False


class Strangers:
    """Tasks that their vendor does not know: a new one may need a while before every server of the vendor knows it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: dict[str, int] = {}  # milliseconds

    def judge(
        self,
        vendor: str,
        task: str,
        reply: Reply,
        *,
        is_unknown: Callable[[Reply], bool] = no,
        is_verdict: Callable[[Reply], bool] = no,
    ) -> Progress | None:
        """Return what it means that a task is unknown; None where the answer is about the task and can be read.

        `is_unknown` recognises further ways to say that there is no such task, and `is_verdict` an error status that is
        about the task. Raise `Unreadable` for any other, such as a refused key: it may be better later.
        """
        if reply.status in _UNKNOWN or is_unknown(reply):
            return self._meet(task, reply)
        if not reply.ok and not is_verdict(reply):
            raise Unreadable(f"{vendor} answered with status {reply.status}: {reply.excerpt}", reply=reply)
        self._since.pop(task, None)
        return None

    def _meet(self, task: str, reply: Reply) -> Progress:
        """Return a failure once a task has been unknown for two minutes, with nothing else heard of it."""
        since = self._since.setdefault(task, self._clock.now_ms())
        if self._clock.now_ms() < since + _PATIENCE_MS:
            return Running()
        self._since.pop(task, None)
        return failed(
            FailureKind.UPSTREAM_UNKNOWN,
            "The vendor does not know this task any more.",
            detail=reply.excerpt,
            request_id=reply.request_id,
        )


async def look(
    http: VendorHttp,
    path_or_url: str,
    *,
    task: str,
    read: Read,
    strangers: Strangers,
    is_unknown: Callable[[Reply], bool] = no,
    max_bytes: int = MAX_STATUS_BYTES,
) -> Progress:
    """Ask how a task goes; `read` understands the vendor's document and gets its request id.

    Raises as `Strangers.judge`, and `Unanswered`.
    """
    reply = await http.ask("GET", path_or_url, max_bytes=max_bytes)
    unknown = strangers.judge(http.name, task, reply, is_unknown=is_unknown)
    return unknown or read(reply.document, reply.request_id)


async def ended(
    http: VendorHttp,
    path_or_url: str,
    *,
    task: str,
    strangers: Strangers,
    is_unknown: Callable[[Reply], bool] = no,
    max_bytes: int = MAX_STATUS_BYTES,
) -> Reply | Failed:
    """Return what a vendor says of a task that has ended, or that it has forgotten it. Raises as `look`."""
    reply = await http.ask("GET", path_or_url, max_bytes=max_bytes)
    return forgotten(http.name, reply, strangers.judge(http.name, task, reply, is_unknown=is_unknown)) or reply


def forgotten(vendor: str, reply: Reply, unknown: Progress | None) -> Failed | None:
    """Return what it means for an ended task that its vendor does not know it; None where it does.

    Raise `Unanswered` as long as that may be one server's mistake: the work is done and should not be lost to it.
    """
    if isinstance(unknown, Running):
        raise Unanswered(f"{vendor} does not know a task that has ended: {reply.excerpt}")
    return no_result(reply) if unknown else None


async def told(http: VendorHttp, path_or_url: str, *, max_bytes: int = MAX_STATUS_BYTES) -> Reply:
    """Return what a vendor lists, or that there is no such list.

    Raises `Unanswered`, and `Unreadable` for any other error status: both may be better later.
    """
    reply = await http.ask("GET", path_or_url, max_bytes=max_bytes)
    if not reply.ok and reply.status not in _UNKNOWN:
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
    found = task_id(at(reply.document, *path))
    if found is None:
        raise Ambiguous(f"{vendor} accepted without a task id: {reply.excerpt}", reply=reply)
    return found


def task_id(value: object) -> str | None:
    """Return an id as a vendor wrote it; None for what cannot be one."""
    return value if isinstance(value, str) and value.isprintable() and is_segment(value) else None


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
