"""Replicate's predictions: what they take, and what they say. Pure.

Wire format: replicate.com/docs/reference/http, and `prediction.py` of replicate 1.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from stablestudio.providers.answers import Reply
from stablestudio.providers.faults import failed, kind_of
from stablestudio.providers.provider import FailureKind, Running
from stablestudio.providers.routes import Route
from stablestudio.providers.tasks import Progress, at, made_if, text, unknown_state

HEADERS = {"Prefer": "respond-async", "Cancel-After": "2h"}
# Larger files go through the vendor's own store; it advises so above this size.
MAX_INLINE_BYTES = 256 * 1024

_PERCENT = re.compile(r"(\d{1,3})%\|")
# The codes are listed at replicate.com/docs/reference/error-codes.
_ERRORS: tuple[tuple[FailureKind, re.Pattern[str]], ...] = (
    (
        FailureKind.MODERATION,
        re.compile(
            r"\bE005\b|flagged|as sensitive|nsfw|safety (?:system|filter|checker)|moderation|content polic|prohibited",
            re.IGNORECASE,
        ),
    ),
    (FailureKind.INVALID_INPUT, re.compile(r"\bE006\b|invalid input|input validation", re.IGNORECASE)),
    (FailureKind.UPSTREAM_TIMEOUT, re.compile(r"timed? ?out|deadline", re.IGNORECASE)),
)


def place(model: str) -> tuple[str, dict[str, str]]:
    """Return the path that predictions of a model are made at, and what the body needs to say beside the input."""
    name, colon, version = model.partition(":")
    return ("/predictions", {"version": version}) if colon else (f"/models/{name}/predictions", {})


def progress(prediction: Mapping[str, Any], request_id: str | None) -> Progress:
    """Return what a prediction says of itself."""
    match prediction.get("status"):
        case "starting" | "processing" | "queued":
            return Running(progress=percent(text(prediction.get("logs"))))
        case "succeeded" | "successful":
            return made_if(prediction.get("output"), request_id)
        case "failed":
            told = text(prediction.get("error"))
            return failed(error_kind(told), detail=told, request_id=request_id)
        case "canceled" | "aborted" as state:
            return failed(FailureKind.UPSTREAM_TIMEOUT, detail=state, request_id=request_id)
        case state:
            return unknown_state("replicate", state)


def percent(logs: str) -> int | None:
    """Return the last percentage of a progress bar in the logs."""
    found = _PERCENT.findall(logs[-4000:])
    return min(int(found[-1]), 100) if found else None


def error_kind(told: str) -> FailureKind:
    """Return what the error of a failed prediction means; models write it in words of their own."""
    return next((kind for kind, pattern in _ERRORS if pattern.search(told)), FailureKind.UPSTREAM_ERROR)


def refusal(reply: Reply) -> FailureKind:
    """Return why a request was turned down."""
    kind = kind_of(reply.status)
    if kind is FailureKind.INVALID_INPUT and error_kind(reply.excerpt) is FailureKind.MODERATION:
        return FailureKind.MODERATION
    return kind


def result_url(prediction: Mapping[str, Any], route: Route) -> str | None:
    """Return where the result is, for an hour: models answer with one URL or with a list."""
    found = at(prediction, *route.result)
    if isinstance(found, list):
        found = found[0] if found else None
    return found if isinstance(found, str) and found else None


def find_prediction(
    predictions: Iterable[Mapping[str, Any]], *, model: str, asked: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    """Return the prediction that was made for a job: of its model, with what only this job asked for."""
    name = model.partition(":")[0]
    for prediction in predictions:
        given = prediction.get("input")
        same_model = prediction.get("model") in (name, None)
        if same_model and isinstance(given, Mapping) and all(given.get(key) == value for key, value in asked.items()):
            return prediction
    return None


def created_before(prediction: Mapping[str, Any], moment_ms: int) -> bool:
    """Tell whether a prediction was made before a moment."""
    try:
        created = datetime.fromisoformat(text(prediction.get("created_at")))
    except ValueError:
        return False
    return created.tzinfo is not None and created.timestamp() * 1000 < moment_ms


def listed(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the predictions of one page."""
    page = document.get("results")
    return [each for each in page if isinstance(each, Mapping)] if isinstance(page, list) else []


def uploaded_url(reply: Reply) -> str | None:
    """Return the address of an uploaded file."""
    found = at(reply.document, "urls", "get")
    return found if isinstance(found, str) and found else None
