"""DashScope's video synthesis for Wan 2.6: the request of a work, and what a task says. Pure.

Wire format: alibabacloud.com/help/en/model-studio/text-to-video-api-reference and image-to-video-api-reference, and
`v2/resources/videos.py` of dashscope 2.0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stablestudio.catalog import MediaInput
from stablestudio.catalog.families.wan import WanI2V, WanT2V
from stablestudio.errors import Issue
from stablestudio.providers.answers import Reply
from stablestudio.providers.faults import failed, kind_of
from stablestudio.providers.inputs import MediaFile, data_url
from stablestudio.providers.lacks import unreachable
from stablestudio.providers.provider import Failed, FailureKind, Running, Work
from stablestudio.providers.tasks import Progress, at, made_if, text, unknown_state

MODELS = {"wan-2.6/t2v": "wan2.6-t2v", "wan-2.6/i2v": "wan2.6-i2v"}
ASYNC = {"X-DashScope-Async": "enable"}
MAX_IMAGE_BYTES = 7 * 1024 * 1024  # 10 MB is the vendor's limit, counted in base64 by some of its servers
LONGEST_SIDE = 2000

_MODERATION = ("DataInspectionFailed", "IPInfringementSuspect", "InputDataMayContainInappropriate")
_QUOTA = (
    "Arrearage",
    "AllocationQuota.FreeTierOnly",
    "AccessDenied.Unpurchased",
    "BillOverdue",
    "CommodityNotPurchased",
    "QuotaExhausted",
    "insufficient_quota",
)
_RETIRED = ("ModelNotFound", "Model.NotFound", "ModelNotExist", "UnsupportedModel", "model_not_found")
_INPUT = ("InvalidParameter", "InvalidURL", "InvalidFile", "InvalidImage", "BadRequest", "FileDownload")
_LATE = ("Timeout", "RequestTimeOut")


def request(work: Work, files: Sequence[MediaFile], *, model: str) -> dict[str, Any] | Failed:
    """Return the body of `POST /services/aigc/video-generation/video-synthesis`; `Failed` where a sound has no address."""
    given = work.input
    if not isinstance(given, WanT2V | WanI2V):
        raise TypeError(f"not an input for DashScope: {type(given).__name__}")
    sound = next((file for file in files if file.kind == "audio"), None)
    if sound is not None and (issue := file_issue(sound, has_address=sound.url is not None)) is not None:
        return failed(FailureKind.INVALID_INPUT, f"{issue.message}.")
    picture = next((file for file in files if file.kind == "image"), None)
    fields = {
        "prompt": given.prompt,
        "negative_prompt": given.negativePrompt or None,
        "img_url": None if picture is None else data_url(picture),
        "audio_url": None if sound is None else sound.url,
    }
    shape = {"size": given.size} if isinstance(given, WanT2V) else {"resolution": given.resolution.upper()}
    parameters = {
        **shape,
        "duration": given.units(),
        "prompt_extend": given.enablePromptExpansion,
        "shot_type": "multi" if given.multiShots else "single",
        "seed": given.seed_value(),
        "watermark": False,
    }
    return {"model": model, "input": _filled(fields), "parameters": _filled(parameters)}


def file_issue(media: MediaInput | MediaFile, *, has_address: bool) -> Issue | None:
    """Object to a sound without an address: the vendor takes no bytes of one."""
    if media.kind != "audio" or has_address:
        return None
    return unreachable(media.path, "the vendor reads sounds from a public https address only")


def progress(document: Mapping[str, Any], request_id: str | None) -> Progress:
    """Return what a task says of itself; one that is UNKNOWN does not exist, or no longer."""
    request_id = request_id or _request_id(document)
    match at(document, "output", "task_status"):
        case "PENDING" | "RUNNING" | "SUSPENDED":
            return Running()
        case "SUCCEEDED":
            return made_if(result_url(document), request_id)
        case "FAILED":
            code, message = _error(document)
            return failed(_kind(code), detail=f"{code} {message}".strip(), request_id=request_id)
        case "CANCELED":
            return failed(FailureKind.UPSTREAM_ERROR, "The vendor cancelled this.", request_id=request_id)
        case state:
            return unknown_state("dashscope", state)


def is_forgotten(document: Mapping[str, Any]) -> bool:
    """Tell whether the vendor answers, with HTTP 200, that it knows no such task."""
    return bool(at(document, "output", "task_status") == "UNKNOWN")


def result_url(document: Mapping[str, Any]) -> str | None:
    """Return where the clip of a finished task is, for 24 hours."""
    found = at(document, "output", "video_url")
    return found if isinstance(found, str) and found else None


def refusal(reply: Reply) -> FailureKind:
    """Return why a request was turned down."""
    code = text(reply.document.get("code"))
    named = _kind(code)
    return kind_of(reply.status) if named is FailureKind.UPSTREAM_ERROR else named


def _kind(code: str) -> FailureKind:
    for kind, parts in (
        (FailureKind.MODERATION, _MODERATION),
        (FailureKind.UPSTREAM_QUOTA, _QUOTA),
        (FailureKind.UPSTREAM_RETIRED, _RETIRED),
        (FailureKind.UPSTREAM_TIMEOUT, _LATE),
        (FailureKind.INVALID_INPUT, _INPUT),
    ):
        if any(part in code for part in parts):
            return kind
    return FailureKind.UPSTREAM_ERROR


def _error(document: Mapping[str, Any]) -> tuple[str, str]:
    place = document.get("output") if at(document, "output", "code") else document
    return text(at(place, "code")), text(at(place, "message"))


def _request_id(document: Mapping[str, Any]) -> str | None:
    found = document.get("request_id")
    return found if isinstance(found, str) else None


def _filled(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
