"""Reading the service's error answers (contract section 6), and those of sellers that say less."""

from __future__ import annotations

from typing import Any

from stablestudio.client.errors import StudioApiError
from stablestudio.client.steps import Reply
from stablestudio.errors import Issue


def api_error(reply: Reply, kind: type[StudioApiError] = StudioApiError) -> StudioApiError:
    """Return the error that an answer tells. Unless the body says otherwise, a 5xx leaves open whether money moved."""
    body = reply.document_or_none() or {}
    told = body.get("charged")
    message = _text(body.get("error")) or _text(body.get("message")) or f"The service answered {reply.status}."
    return kind(
        message,
        code=_text(body.get("code")) or _text(body.get("reason")) or f"http_{reply.status}",
        status=reply.status,
        hint=_text(body.get("hint")),
        issues=[_issue(item) for item in _list(body.get("issues")) if isinstance(item, dict)],
        charged=told if isinstance(told, bool) else (False if reply.status < 500 else None),
        retryable=body.get("retryable") is True,
    )


def _issue(item: dict[str, Any]) -> Issue:
    allowed = item.get("allowed")
    return Issue(
        path=tuple(part for part in _list(item.get("path")) if isinstance(part, str | int)),
        code=_text(item.get("code")) or "invalid",
        message=_text(item.get("message")) or "is not accepted",
        allowed=tuple(allowed) if isinstance(allowed, list) else None,
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
