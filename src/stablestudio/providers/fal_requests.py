"""fal's queue: what it takes, and what its answers mean. Pure.

Wire format: docs.fal.ai/model-apis/model-endpoints/queue, its errors docs.fal.ai/errors, and fal-client 1.0.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stablestudio.providers.answers import Reply, Unreadable
from stablestudio.providers.faults import failed, kind_of
from stablestudio.providers.provider import Failed, FailureKind, Made, Running
from stablestudio.providers.routes import Route
from stablestudio.providers.tasks import Progress, at, text, unknown_state

# Seconds: how long work may wait for its start, and how long fal keeps the files.
START_WITHIN = 3600
_FILES_LIVE = 24 * 3600

HEADERS = {
    "X-Fal-Request-Timeout": str(START_WITHIN),
    "X-Fal-Object-Lifecycle-Preference": json.dumps({"expiration_duration_seconds": _FILES_LIVE}),
}
_TIMEOUTS = frozenset({"request_timeout", "startup_timeout", "generation_timeout", "runner_connection_timeout"})
_INTERNAL = frozenset(
    {
        "downstream_service_error",
        "downstream_service_unavailable",
        "internal_error",
        "internal_server_error",
        "no_media_generated",
    }
)


def task(document: Mapping[str, Any], *, base_url: str, application: str, is_own: Callable[[str], bool]) -> str | None:
    """Return the handle of accepted work, the URLs that fal named, as JSON; None where there is no request id.

    A URL that is left out, or not fal's own, is the documented one: under the application's first two names.
    """
    request_id = document.get("request_id")
    if not isinstance(request_id, str) or not request_id:
        return None
    owner_and_name = "/".join(application.split("/")[:2])
    place = f"{base_url}/{owner_and_name}/requests/{request_id}"
    usual = {"response_url": place, "status_url": f"{place}/status", "cancel_url": f"{place}/cancel"}
    return json.dumps({name: _own(document.get(name), is_own) or usual[name] for name in usual})


def place(handle: str, name: str) -> str:
    """Return one of the URLs of a handle; raise `Unreadable` for what is none."""
    try:
        found = json.loads(handle)[name]
    except (ValueError, KeyError, TypeError):
        found = None
    if not isinstance(found, str):
        raise Unreadable(f"not a task of fal: {handle[:100]!r}")
    return found


def progress(document: Mapping[str, Any], request_id: str | None) -> Progress:
    """Return what the status of a request says; a completed one may carry an error."""
    match document.get("status"):
        case "IN_QUEUE" | "IN_PROGRESS":
            return Running()
        case "COMPLETED":
            return _completed(document, request_id)
        case state:
            return unknown_state("fal", state)


def refusal(reply: Reply) -> FailureKind:
    """Return why a request was turned down, or why its result is an error."""
    detail = reply.document.get("detail")
    if isinstance(detail, str) and ("balance" in detail.lower() or "billing" in detail.lower()):
        return FailureKind.UPSTREAM_QUOTA  # a locked account answers with 403
    return _typed(_types(reply)) or kind_of(reply.status)


def is_verdict(reply: Reply) -> bool:
    """Tell whether an answer with an error status is the model's own word rather than trouble on the way to it."""
    typed = bool(reply.headers.get("x-fal-error-type")) or isinstance(reply.document.get("detail"), list)
    return 400 <= reply.status < 500 or (typed and bool(reply.headers.get("x-fal-request-id")))


def error(reply: Reply) -> Failed:
    """Return the failure that the answer of a model is; raise `Unreadable` where it is about the operator, or too early."""
    if reply.status in {401, 402, 403} or "still in progress" in text(reply.document.get("detail")):
        raise Unreadable(f"fal answered with status {reply.status}: {reply.excerpt}")
    if reply.status in {404, 410}:
        return failed(FailureKind.UPSTREAM_UNKNOWN, detail=reply.excerpt, request_id=reply.request_id)
    kind = _typed(_types(reply)) or (FailureKind.INVALID_INPUT if reply.status == 422 else FailureKind.UPSTREAM_ERROR)
    return failed(kind, detail=reply.excerpt, request_id=reply.request_id)


def result_url(document: Mapping[str, Any], route: Route) -> str | None:
    """Return where the result is."""
    found = at(document, *route.result)
    return found if isinstance(found, str) and found else None


def is_blackened(document: Mapping[str, Any]) -> bool:
    """Tell whether a filter replaced the picture by a black one, which fal only says in passing."""
    flags = document.get("has_nsfw_concepts")
    return isinstance(flags, Sequence) and any(flag is True for flag in flags)


def _own(url: object, is_own: Callable[[str], bool]) -> str | None:
    return url if isinstance(url, str) and is_own(url) else None


def _completed(document: Mapping[str, Any], request_id: str | None) -> Progress:
    told, kind = document.get("error"), text(document.get("error_type"))
    if not told and not kind:
        return Made()
    found = _typed([kind]) or _typed(_kinds_in(told)) or FailureKind.UPSTREAM_ERROR
    return failed(found, detail=f"{kind} {text(told)}".strip(), request_id=request_id)


def _types(reply: Reply) -> list[str]:
    """Return the machine-readable names of what is wrong."""
    named = [text(reply.headers.get("x-fal-error-type")), text(reply.document.get("error_type"))]
    return [*_kinds_in(reply.document.get("detail")), *(name for name in named if name)]


def _kinds_in(detail: object) -> list[str]:
    if not isinstance(detail, list):
        return []
    return [text(each.get("type")) for each in detail if isinstance(each, Mapping)]


def _typed(types: Sequence[str]) -> FailureKind | None:
    known = [name for name in types if name]
    if "content_policy_violation" in known:
        return FailureKind.MODERATION
    if any(name in _TIMEOUTS for name in known):
        return FailureKind.UPSTREAM_TIMEOUT
    if any(name in _INTERNAL or name.startswith(("runner_", "client_")) for name in known):
        return FailureKind.UPSTREAM_ERROR
    return None
