"""ModelArk's content generation tasks for Seedance: the request of a work, and what a task says. Pure.

Wire format: docs.byteplus.com/en/docs/ModelArk/1520757 (create), 1521309 (retrieve), 1521675 (list), and the types of
volcenginesdkarkruntime's `content_generation`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from stablestudio.catalog import MediaInput
from stablestudio.catalog.values import MediaKind
from stablestudio.errors import Issue
from stablestudio.providers.answers import Reply
from stablestudio.providers.faults import failed, kind_of
from stablestudio.providers.inputs import MediaFile, data_url
from stablestudio.providers.lacks import unreachable
from stablestudio.providers.provider import Failed, FailureKind, Running, Work
from stablestudio.providers.seedance_inputs import asks_for_older_model, audible, ratio, tier, words
from stablestudio.providers.tasks import Progress, at, made_if, text, unknown_state

SEEDANCE = "dreamina-seedance-2-0-260128"
SEEDANCE_FAST = "dreamina-seedance-2-0-fast-260128"
SEEDANCE_1_5 = "seedance-1-5-pro-251215"
MODELS = {
    "seedance/t2v": SEEDANCE,
    "seedance/i2v": SEEDANCE,
    "seedance-fast/t2v": SEEDANCE_FAST,
    "seedance-fast/i2v": SEEDANCE_FAST,
}
# Seconds until the vendor gives up a task that is still waiting; an hour is the least it takes.
EXPIRES_AFTER = 3600
# The whole request may have 64 MB, with up to nine images and three sounds in it, a third longer in base64.
MAX_PICTURE_BYTES = 36 * 1024 * 1024
MAX_SOUND_BYTES = 3 * 1024 * 1024

_QUOTA = ("AccountOverdue", "QuotaExceeded", "SetLimitExceeded", "InsufficientBalance")
_SENSITIVE = ("SensitiveContent", "RiskDetection", "Moderation", "PolicyViolation", "ContentSecurity")


def marker(user: str, job_id: str) -> str:
    """Return the `safety_identifier` of a job, at most 64 characters.

    Its first half is the buyer, so that the vendor sees who misbehaves; its second the job, so that a task whose
    acceptance was lost can be found in the list.
    """
    return f"{user[:32]}.{hashlib.sha256(job_id.encode()).hexdigest()[:24]}"


def model_for(work: Work, *, model: str, older_model: str | None) -> str:
    """Return the model that makes the work: Seedance 1.5 where the older form asks for what later ones no longer take."""
    return older_model if older_model is not None and asks_for_older_model(work.input) else model


def request(work: Work, files: Sequence[MediaFile], *, model: str, older: bool, user: str) -> dict[str, Any] | Failed:
    """Return the body of `POST /contents/generations/tasks`; `older` models take a seed and a fixed camera.

    `Failed` where a file cannot be sent.
    """
    given: Any = work.input
    content: list[dict[str, Any]] = []
    if prompt := words(given, "@{kind}{number}", told_the_camera=older):
        content.append({"type": "text", "text": prompt})
    for file in files:
        issue = file_issue(file, has_address=file.url is not None, size=len(file.data))
        if issue is not None:
            return failed(FailureKind.INVALID_INPUT, f"{issue.message}.")
        url = file.url if _by_address(file.kind, len(file.data)) else data_url(file)
        content.append({"type": f"{file.kind}_url", f"{file.kind}_url": {"url": url}, "role": _role(file)})
    body: dict[str, Any] = {
        "model": model,
        "content": content,
        "resolution": tier(given),
        "ratio": ratio(given),
        "duration": given.units(),
        "generate_audio": audible(given),
        "watermark": False,
        "execution_expires_after": EXPIRES_AFTER,
        "safety_identifier": marker(user, work.job_id),
    }
    if older:
        optional = {"seed": given.seed_value(), "camera_fixed": given.camera_fixed}
        body |= {name: value for name, value in optional.items() if value is not None}
    return body


def file_issue(media: MediaInput | MediaFile, *, has_address: bool, size: int) -> Issue | None:
    """Object to a file that the vendor gets by address only, where there is none; `size` in bytes, 0 if not known yet."""
    if has_address or not _by_address(media.kind, size):
        return None
    return unreachable(media.path, "the vendor reads videos, and sounds over 3 MB, from a public https address only")


def progress(task: Mapping[str, Any], request_id: str | None) -> Progress:
    """Return what a task says of itself."""
    match task.get("status"):
        case "queued" | "running":
            return Running()
        case "succeeded":
            return made_if(result_url(task), request_id)
        case "failed":
            return _failure(task, request_id)
        case "expired":
            return failed(FailureKind.UPSTREAM_TIMEOUT, detail=_told(task), request_id=request_id)
        case "cancelled":
            detail = f"cancelled {_told(task)}".strip()
            return failed(
                FailureKind.UPSTREAM_ERROR, "The vendor cancelled this.", detail=detail, request_id=request_id
            )
        case state:
            return unknown_state("modelark", state)


def result_url(task: Mapping[str, Any]) -> str | None:
    """Return where the clip of a finished task is, for 24 hours."""
    found = at(task, "content", "video_url")
    found = found.get("url") if isinstance(found, Mapping) else found
    return found if isinstance(found, str) and found else None


def refusal(reply: Reply) -> FailureKind:
    """Return why a request was turned down."""
    code = text(at(reply.document, "error", "code"))
    if _names(code, _SENSITIVE):
        return FailureKind.MODERATION
    if _names(code, _QUOTA):
        return FailureKind.UPSTREAM_QUOTA
    if code.startswith("ModelNotOpen"):
        return FailureKind.UPSTREAM_AUTH  # the operator's account has not activated the model
    return kind_of(reply.status)


def find_task(tasks: Iterable[Mapping[str, Any]], *, safety_identifier: str) -> Mapping[str, Any] | None:
    """Return the task that carries a job's marker."""
    return next((task for task in tasks if task.get("safety_identifier") == safety_identifier), None)


def listed(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the tasks of one page, which servers call `items` or `data`."""
    page = document.get("items") or document.get("data")
    return [task for task in page if isinstance(task, Mapping)] if isinstance(page, list) else []


def _role(file: MediaFile) -> str:
    return f"reference_{file.kind}" if file.role == "reference" else file.role


def _by_address(kind: MediaKind, size: int) -> bool:
    """Tell how the vendor gets a file: videos and large sounds by address only, the others as bytes."""
    return kind == "video" or (kind == "audio" and size > MAX_SOUND_BYTES)


def _failure(task: Mapping[str, Any], request_id: str | None) -> Failed:
    code = text(at(task, "error", "code"))
    kind = FailureKind.UPSTREAM_ERROR
    if _names(code, _SENSITIVE):
        kind = FailureKind.MODERATION
    elif code.startswith("InvalidParameter"):
        kind = FailureKind.INVALID_INPUT
    return failed(kind, detail=_told(task), request_id=request_id)


def _told(task: Mapping[str, Any]) -> str:
    return f"{text(at(task, 'error', 'code'))} {text(at(task, 'error', 'message'))}".strip()


def _names(code: str, parts: Iterable[str]) -> bool:
    return any(part in code for part in parts)
