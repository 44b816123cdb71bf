"""Veo on Vertex AI: the request of a work, and what a long-running operation has come to. Pure.

Wire format: `predictLongRunning` and `fetchPredictOperation` of google-genai 3.4 in its Vertex mode.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stablestudio.catalog.families.veo import Veo
from stablestudio.providers.base64s import base64_if_any, base64_text
from stablestudio.providers.faults import failed
from stablestudio.providers.google_errors import kind_of_status, message_of
from stablestudio.providers.inputs import MediaFile
from stablestudio.providers.provider import Failed, FailureKind, Running, Work

MODELS = {
    "veo-3.1/generate": "veo-3.1-generate-001",
    "veo-3.1-fast/generate": "veo-3.1-fast-generate-001",
}
LABEL = "stablestudio_job"
_FRAMES = {"first_frame": "image", "last_frame": "lastFrame"}


@dataclass(frozen=True, slots=True)
class Clip:
    """The file of an operation that is done."""

    data: bytes


def request(work: Work, files: Sequence[MediaFile]) -> dict[str, Any]:
    """Return the body of `predictLongRunning`; raise `TypeError` for an input other than Veo's."""
    given = work.input
    if not isinstance(given, Veo):
        raise TypeError(f"not an input for Veo: {type(given).__name__}")
    instance: dict[str, Any] = {"prompt": given.prompt}
    instance |= {_FRAMES[file.role]: _image(file) for file in files if file.role in _FRAMES}
    references = [{"image": _image(file), "referenceType": "asset"} for file in files if file.role == "reference"]
    if references:
        instance["referenceImages"] = references
    parameters: dict[str, Any] = {
        "sampleCount": 1,
        "durationSeconds": given.units(),
        "aspectRatio": given.aspectRatio,
        "resolution": given.resolution,
        "generateAudio": True,
    }
    if given.negativePrompt:
        parameters["negativePrompt"] = given.negativePrompt
    return {"instances": [instance], "parameters": parameters, "labels": {LABEL: work.job_id.lower()}}


def read(document: Mapping[str, Any], *, request_id: str | None = None) -> Running | Clip | Failed:
    """Tell what an operation has come to; a clip that the vendor's filter took is a refusal, and costs nothing."""
    error = document.get("error")
    if isinstance(error, dict):
        detail = f"{error.get('code')} {message_of(error)}"
        return failed(kind_of_status(error), detail=detail, request_id=request_id)
    if document.get("done") is not True:
        return Running()
    response = document.get("response")
    answer = response if isinstance(response, dict) else {}
    for video in _videos(answer):
        data = base64_if_any(text) if isinstance(text := video.get("bytesBase64Encoded"), str) else None
        if data is not None:
            return Clip(data)
    return _without_clip(answer, request_id=request_id)


def resource_of(operation: str) -> str | None:
    """Return the path of the model that an operation runs on, which is where it is asked about."""
    resource, found, _ = operation.partition("/operations/")
    return resource if found and resource.startswith("projects/") and "/models/" in resource else None


def _image(file: MediaFile) -> dict[str, str]:
    return {"bytesBase64Encoded": base64_text(file.data), "mimeType": file.content_type}


def _videos(answer: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    videos = answer.get("videos")
    return (each for each in videos if isinstance(each, dict)) if isinstance(videos, list) else iter(())


def _without_clip(answer: Mapping[str, Any], *, request_id: str | None) -> Failed:
    reasons = answer.get("raiMediaFilteredReasons")
    if answer.get("raiMediaFilteredCount") or reasons:
        return failed(FailureKind.MODERATION, detail=f"filtered: {reasons}", request_id=request_id)
    elsewhere = [video["gcsUri"] for video in _videos(answer) if "gcsUri" in video]
    return failed(FailureKind.UPSTREAM_ERROR, detail=f"done without a clip {elsewhere}", request_id=request_id)
