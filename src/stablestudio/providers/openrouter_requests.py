"""OpenRouter's video generation: the request of a work, and what a job says. Pure.

Wire format: openrouter.ai/docs/api/api-reference/video-generation, and `VideoGenerationRequest` of openrouter 1.3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stablestudio.catalog.families.veo import Veo
from stablestudio.catalog.families.wan import WanI2V, WanT2V
from stablestudio.providers.answers import Reply
from stablestudio.providers.faults import failed, kind_of
from stablestudio.providers.inputs import MediaFile, data_url
from stablestudio.providers.provider import FailureKind, Made, NotAccepted, Running, Work
from stablestudio.providers.seedance_inputs import audible, ratio, tier, words
from stablestudio.providers.tasks import Progress, text, unknown_state

MODELS = {
    "veo-3.1/generate": "google/veo-3.1",
    "seedance/t2v": "bytedance/seedance-2.0",
    "seedance/i2v": "bytedance/seedance-2.0",
    "seedance-fast/t2v": "bytedance/seedance-2.0-fast",
    "seedance-fast/i2v": "bytedance/seedance-2.0-fast",
    "wan-2.6/t2v": "alibaba/wan-2.6",
    "wan-2.6/i2v": "alibaba/wan-2.6",
}
_MODERATION = ("moderat", "content polic", "safety", "sensitive", "prohibited", "flagged", "inappropriate", "filtered")
_WAN_SIZES = {
    "1280*720": ("720p", "16:9"),
    "720*1280": ("720p", "9:16"),
    "1920*1080": ("1080p", "16:9"),
    "1080*1920": ("1080p", "9:16"),
}


def request(work: Work, files: Sequence[MediaFile], *, model: str, user: str) -> dict[str, Any]:
    """Return the body of `POST /videos`; raise `NotAccepted` for what the interface cannot say."""
    given: Any = work.input
    say: Callable[[Any], dict[str, Any]]
    match given:
        case Veo():
            say = _veo
        case WanT2V() | WanI2V():
            say = _wan
        case _:
            say = _seedance
    body: dict[str, Any] = {"model": model, "duration": given.units(), "user": user, **say(given)}
    if frames := [_frame(file) for file in files if file.role in {"first_frame", "last_frame"}]:
        body["frame_images"] = frames
    if references := [_reference(file) for file in files if file.role == "reference"]:
        body["input_references"] = references
    return {name: value for name, value in body.items() if value is not None}


def progress(job: Mapping[str, Any], request_id: str | None) -> Progress:
    """Return what a job says of itself."""
    told = text(job.get("error"))
    match job.get("status"):
        case "pending" | "in_progress" | "queued":
            return Running()
        case "completed":
            return Made()
        case "failed":
            return failed(_kind(told), detail=told, request_id=request_id)
        case "expired":
            return failed(FailureKind.UPSTREAM_TIMEOUT, detail=told or "expired", request_id=request_id)
        case "cancelled":
            return failed(FailureKind.UPSTREAM_ERROR, "The vendor cancelled this.", detail=told, request_id=request_id)
        case state:
            return unknown_state("openrouter", state)


def refusal(reply: Reply) -> FailureKind:
    """Return why a request was turned down; a moderated prompt is answered with 403, as a refused key is."""
    kind = kind_of(reply.status)
    if reply.status == 403 and "limit exceeded" in reply.excerpt.lower():
        return FailureKind.UPSTREAM_QUOTA  # of the key, which its owner set
    if reply.status in {400, 403, 422} and _kind(reply.excerpt) is FailureKind.MODERATION:
        return FailureKind.MODERATION
    return kind


def _veo(given: Veo) -> dict[str, Any]:
    unwanted = f" Avoid: {given.negativePrompt}" if given.negativePrompt else ""
    return {
        "prompt": f"{given.prompt}{unwanted}",
        "resolution": given.resolution,
        "aspect_ratio": given.aspectRatio,
        "generate_audio": True,
    }


def _wan(given: WanT2V | WanI2V) -> dict[str, Any]:
    if given.audioUrl is not None:
        raise NotAccepted("OpenRouter takes no sound for Wan to follow", kind=FailureKind.INVALID_INPUT)
    unwanted = f" Avoid: {given.negativePrompt}" if given.negativePrompt else ""
    options = {"prompt_extend": given.enablePromptExpansion, "shot_type": "multi" if given.multiShots else "single"}
    shape = _WAN_SIZES[given.size] if isinstance(given, WanT2V) else (given.resolution, None)
    return {
        "prompt": f"{given.prompt}{unwanted}",
        "resolution": shape[0],
        "aspect_ratio": shape[1],
        "generate_audio": True,
        "seed": given.seed_value(),
        "provider": {"options": {"alibaba": options}},
    }


def _seedance(given: Any) -> dict[str, Any]:
    shape = ratio(given)
    return {
        "prompt": words(given, "@{kind}{number}") or "Bring the image to life.",
        "resolution": "4K" if tier(given) == "4k" else tier(given),
        "aspect_ratio": None if shape == "adaptive" else shape,
        "generate_audio": audible(given),
        "seed": given.seed_value(),
    }


def _frame(file: MediaFile) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": data_url(file)}, "frame_type": file.role}


def _reference(file: MediaFile) -> dict[str, Any]:
    if file.kind == "image":
        return {"type": "image_url", "image_url": {"url": data_url(file)}}
    if file.url is None:
        # BytePlus, behind it, reads these by address only.
        detail = f"OpenRouter needs a public https address for the {file.kind} of {'.'.join(map(str, file.path))}"
        raise NotAccepted(detail, kind=FailureKind.INVALID_INPUT)
    return {"type": f"{file.kind}_url", f"{file.kind}_url": {"url": file.url}}


def _kind(told: str) -> FailureKind:
    low = told.lower()
    return FailureKind.MODERATION if any(word in low for word in _MODERATION) else FailureKind.UPSTREAM_ERROR
