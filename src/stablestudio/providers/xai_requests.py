"""xAI's image and video endpoints in plain data: from work to a request, from an answer to a state. No I/O.

Facts: the protobufs of xai-sdk, xAI's REST reference, and vercel/ai's adapter for what answers really look like.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from stablestudio.catalog.families.grok import GrokEdit, GrokGenerate, GrokVideo
from stablestudio.providers.answers import Reply, Unreadable
from stablestudio.providers.base64s import base64_bytes
from stablestudio.providers.faults import failed, kind_of
from stablestudio.providers.inputs import MediaFile, data_url
from stablestudio.providers.openai_videos import percent
from stablestudio.providers.provider import Failed, FailureKind, Made, Running, Work
from stablestudio.providers.tasks import at, unknown_state

# A data URI inside a JSON body; xAI names no limit for it.
MAX_IMAGE_BYTES = 15_000_000

# xAI tells by words what its statuses leave open: a wrong key is 400, an empty account 403 or 429, a refusal 400 or 403.
_WORDS: tuple[tuple[str, FailureKind], ...] = (
    (r"moderation|moderated|content.policy|usage guidelines|safety_check", FailureKind.MODERATION),
    (r"api key", FailureKind.UPSTREAM_AUTH),
    (r"zero data retention", FailureKind.UPSTREAM_AUTH),  # such teams must bring a store of their own
    (r"available credits|any credits|spending limit", FailureKind.UPSTREAM_QUOTA),
    (r"\bmodel\b.*(does not exist|not found)", FailureKind.UPSTREAM_RETIRED),
)
_WAITING = frozenset({"pending", "queued", "in_progress", "processing"})
_READY = frozenset({"done", "completed"})


def generation(work: Work, *, user: str) -> dict[str, Any]:
    """Return the body of `POST /images/generations`."""
    given = work.input
    assert isinstance(given, GrokGenerate)
    return _image(work, given.prompt, given.aspect_ratio, user=user)


def edit(work: Work, files: Sequence[MediaFile], *, user: str) -> dict[str, Any]:
    """Return the body of `POST /images/edits`; xAI has one field for one image and another for several."""
    given = work.input
    assert isinstance(given, GrokEdit)
    images = [{"type": "image_url", "url": data_url(file)} for file in files]
    named = {"image": images[0]} if len(images) == 1 else {"images": images}
    return _image(work, given.prompt, given.aspect_ratio, user=user) | named


def clip(work: Work, files: Sequence[MediaFile], *, user: str) -> dict[str, Any]:
    """Return the body of `POST /videos/generations`; without a ratio, the image's (or 16:9) is xAI's own default."""
    given = work.input
    assert isinstance(given, GrokVideo)
    body: dict[str, Any] = {
        "model": work.model,
        "prompt": given.prompt,
        "duration": int(given.duration),
        "resolution": given.resolution,
        "user": user,
    }
    if given.aspect_ratio is not None:
        body["aspect_ratio"] = given.aspect_ratio
    if files:
        body["image"] = {"url": data_url(files[0])}
    return body


def picture(reply: Reply) -> bytes | str | Failed:
    """Return the picture of an answer, or its URL; a blocked one comes as HTTP 200 with a flag or with nothing at all.

    Raises `Unreadable`.
    """
    match reply.json():
        case {"data": [{"respect_moderation": False}, *_]} | {"data": []}:
            return failed(FailureKind.MODERATION, detail=reply.excerpt, request_id=reply.request_id)
        case {"data": [{"b64_json": str(text)}, *_]} if text:
            return base64_bytes(text)
        case {"data": [{"url": str(url)}, *_]} if url:
            return url
    raise Unreadable("the answer holds no picture")


def refusal(reply: Reply) -> FailureKind:
    """Return why a request was refused, by the words of the error and else by its status."""
    return meaning(words(reply.document), otherwise=kind_of(reply.status))


def meaning(told: str, *, otherwise: FailureKind) -> FailureKind:
    """Return what an error's words mean."""
    low = told.lower()
    return next((kind for pattern, kind in _WORDS if re.search(pattern, low, re.DOTALL)), otherwise)


def words(document: Mapping[str, Any]) -> str:
    """Return the words of an error in each of xAI's shapes: an object, a code beside a text, a text alone."""
    error = document.get("error")
    parts = [document.get("code"), error]
    if isinstance(error, Mapping):
        parts = [error.get("code"), error.get("type"), error.get("message")]
    return ": ".join(str(part) for part in parts if part)


def progress_of(vendor: str, reply: Reply) -> Running | Made | Failed:
    """Return what the answer to a question about a clip says, whatever its status.

    HTTP 202 means that it is not ready, often with an empty body; some answers leave out `status` when all is done.
    """
    if not reply.ok:
        return _refused_task(vendor, reply)
    state = reply.document.get("status") or _implied(reply)
    if state in _WAITING:
        return Running(progress=percent(reply.document.get("progress")))
    if state in _READY:
        return _made(reply)
    kind = _ended(str(state), reply)
    return _gone(kind, reply) if kind else unknown_state(vendor, state)


def clip_url(reply: Reply) -> str | None:
    """Return the address of a finished clip."""
    url = at(reply.document, "video", "url")
    return url if isinstance(url, str) and url else None


def _image(work: Work, prompt: str, ratio: str | None, *, user: str) -> dict[str, Any]:
    body: dict[str, Any] = {"model": work.model, "prompt": prompt, "n": 1, "resolution": "1k"}
    if ratio is not None:
        body["aspect_ratio"] = ratio
    # Bytes in the answer cannot expire, as xAI's addresses do.
    return body | {"response_format": "b64_json", "user": user}


def _made(reply: Reply) -> Made | Failed:
    if at(reply.document, "video", "respect_moderation") is False:
        return _gone(FailureKind.MODERATION, reply)
    return Made() if clip_url(reply) else _gone(FailureKind.UPSTREAM_ERROR, reply)


def _implied(reply: Reply) -> str:
    if clip_url(reply):
        return "done"
    if reply.status == 202:
        return "pending"
    return "failed" if words(reply.document) else ""


def _ended(state: str, reply: Reply) -> FailureKind | None:
    if "moderat" in state:
        return FailureKind.MODERATION
    if state == "expired":
        return FailureKind.UPSTREAM_TIMEOUT
    if state in {"failed", "error", "cancelled"}:
        return meaning(words(reply.document), otherwise=FailureKind.UPSTREAM_ERROR)
    return None


def _refused_task(vendor: str, reply: Reply) -> Running | Failed:
    """Judge an error in the place of a state: about the clip it is final, about the operator it may be mended."""
    kind = refusal(reply)
    if kind is FailureKind.MODERATION:
        return _gone(kind, reply)
    if kind is FailureKind.INVALID_INPUT:
        return _gone(FailureKind.UPSTREAM_ERROR, reply)
    return unknown_state(vendor, f"HTTP {reply.status}: {words(reply.document)}")


def _gone(kind: FailureKind, reply: Reply) -> Failed:
    return failed(kind, detail=reply.excerpt, request_id=reply.request_id)
