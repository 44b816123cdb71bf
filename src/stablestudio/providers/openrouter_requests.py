"""OpenRouter's video generation: the request of a work, and what a job says. Pure.

Wire format: openrouter.ai/docs/api/api-reference/video-generation, and `VideoGenerationRequest` of openrouter 1.3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stablestudio.catalog import MediaInput
from stablestudio.catalog.families.veo import Veo
from stablestudio.catalog.families.wan import WanI2V, WanT2V
from stablestudio.errors import Issue
from stablestudio.providers.answers import Reply
from stablestudio.providers.faults import failed, kind_of
from stablestudio.providers.inputs import MediaFile, data_url
from stablestudio.providers.lacks import Lack, Lacks, accept, objections, unreachable, without
from stablestudio.providers.provider import FailureKind, Made, Running, Work
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
_LONGEST_WAN_PROMPT = 1500
_NEEDS_ADDRESS = "the vendor reads videos and sounds from a public https address only"


def request(work: Work, files: Sequence[MediaFile], *, model: str, user: str) -> dict[str, Any]:
    """Return the body of `POST /videos`; raise `NotAccepted` for what the interface cannot say."""
    given: Any = work.input
    accept(objections(LACKS.get(work.offering.key, ()), given), vendor="openrouter")
    accept(
        [issue for file in files if (issue := file_issue(file, has_address=file.url is not None))], vendor="openrouter"
    )
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


def file_issue(media: MediaInput | MediaFile, *, has_address: bool) -> Issue | None:
    """Object to what BytePlus, behind it, reads by address only, where there is none."""
    if media.role != "reference" or media.kind == "image" or has_address:
        return None
    return unreachable(media.path, _NEEDS_ADDRESS)


def _avoiding(given: Any) -> str:
    """Return the prompt with what to avoid in words, for which the interface has no field."""
    return f"{given.prompt} Avoid: {given.negativePrompt}" if given.negativePrompt else str(given.prompt)


_WAN_LACKS = (
    without("audioUrl", "nobody here makes a clip to a given sound"),
    Lack(
        field="negativePrompt",
        asked=lambda given: len(_avoiding(given)) > _LONGEST_WAN_PROMPT,
        says=f"here it goes into the prompt, and with it that has at most {_LONGEST_WAN_PROMPT - len(' Avoid: ')} characters",
    ),
)
LACKS: Lacks = {"wan-2.6/t2v": _WAN_LACKS, "wan-2.6/i2v": _WAN_LACKS}


def _veo(given: Veo) -> dict[str, Any]:
    return {
        "prompt": _avoiding(given),
        "resolution": given.resolution,
        "aspect_ratio": given.aspectRatio,
        "generate_audio": True,
    }


def _wan(given: WanT2V | WanI2V) -> dict[str, Any]:
    options = {"prompt_extend": given.enablePromptExpansion, "shot_type": "multi" if given.multiShots else "single"}
    return {
        "prompt": _avoiding(given),
        "resolution": given.cell(),
        "aspect_ratio": given.shape() if isinstance(given, WanT2V) else None,
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
    return {"type": f"{file.kind}_url", f"{file.kind}_url": {"url": file.url}}


def _kind(told: str) -> FailureKind:
    low = told.lower()
    return FailureKind.MODERATION if any(word in low for word in _MODERATION) else FailureKind.UPSTREAM_ERROR
