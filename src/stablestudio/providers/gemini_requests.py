"""Gemini's `generateContent` for images: the request of a work, and what an answer holds. Pure.

Wire format: ai.google.dev/api/generate-content, and `ImageConfig`, `FinishReason` and `BlockedReason` of google-genai 3.4.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stablestudio.catalog.families.nano_banana import NanoBananaGenerate, NanoBananaProGenerate
from stablestudio.providers.base64s import base64_if_any, base64_text
from stablestudio.providers.faults import failed
from stablestudio.providers.inputs import MediaFile
from stablestudio.providers.provider import Failed, FailureKind, Output, Work

FLASH = "gemini-3.1-flash-image"
PRO = "gemini-3-pro-image"
MODELS = {
    "nano-banana/generate": FLASH,
    "nano-banana/edit": FLASH,
    "nano-banana-pro/generate": PRO,
    "nano-banana-pro/edit": PRO,
}
# The smallest tier that these make is 1K; half of it is what the buyer of 512 gets.
_WITHOUT_512 = ("gemini-nano-banana-2.1",)

_REFUSALS = frozenset(
    {
        "BLOCKLIST",
        "ESCALATION",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
        "IMAGE_SAFETY",
        "JAILBREAK",
        "MODEL_ARMOR",
        "PROHIBITED_CONTENT",
        "RECITATION",
        "SAFETY",
        "SPII",
    }
)
_ACCOUNT_LIMITED = "PUP_LIMITED_DISABLED"  # Google's prohibited use policy, against the operator


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a nano-banana input asks for, in Google's words; `halved` where the file must be made smaller here."""

    prompt: str
    ratio: str | None
    size: str
    thinking: str | None
    halved: bool


def wish(work: Work, *, model: str) -> Wish:
    """Read a nano-banana input; raise `TypeError` for any other."""
    given = work.input
    if not isinstance(given, NanoBananaGenerate | NanoBananaProGenerate):
        raise TypeError(f"not an input for Gemini: {type(given).__name__}")
    halved = given.imageSize == "512" and model.startswith(_WITHOUT_512)
    return Wish(
        prompt=given.prompt,
        ratio=given.aspectRatio,
        size="1K" if halved else given.imageSize,
        thinking=given.thinkingLevel if isinstance(given, NanoBananaGenerate) else None,
        halved=halved,
    )


def request(work: Work, files: Sequence[MediaFile], *, model: str) -> dict[str, Any]:
    """Return the body of `models/{model}:generateContent`; the images come before the words about them."""
    asked = wish(work, model=model)
    image = {"aspectRatio": asked.ratio, "imageSize": asked.size}
    config: dict[str, Any] = {
        "responseModalities": ["IMAGE"],
        "imageConfig": {name: value for name, value in image.items() if value is not None},
    }
    if asked.thinking is not None:
        config["thinkingConfig"] = {"thinkingLevel": asked.thinking.upper()}
    return {
        "contents": [{"role": "user", "parts": [*map(_inline, files), {"text": asked.prompt}]}],
        "generationConfig": config,
    }


def read(document: Mapping[str, Any], *, request_id: str | None = None) -> Output | Failed:
    """Return the image of an answer with status 200, or why it has none."""
    refusal = _block_reason(document)
    if refusal is not None:
        return failed(FailureKind.MODERATION, detail=f"prompt blocked: {refusal}", request_id=request_id)
    candidates = document.get("candidates")
    for candidate in candidates if isinstance(candidates, list) else ():
        if isinstance(candidate, dict) and (found := _image(candidate)) is not None:
            return found
    return _without_image(document, request_id=request_id)


def _inline(file: MediaFile) -> dict[str, Any]:
    return {"inlineData": {"mimeType": file.content_type, "data": base64_text(file.data)}}


def _block_reason(document: Mapping[str, Any]) -> str | None:
    feedback = document.get("promptFeedback")
    reason = feedback.get("blockReason") if isinstance(feedback, dict) else None
    return reason if isinstance(reason, str) and reason != "BLOCKED_REASON_UNSPECIFIED" else None


def _parts(candidate: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the parts that answer; a model that thinks sends drafts first, marked as thoughts."""
    content = candidate.get("content")
    parts = content.get("parts") if isinstance(content, dict) else None
    for part in parts if isinstance(parts, list) else ():
        if isinstance(part, dict) and not part.get("thought"):
            yield part


def _image(candidate: Mapping[str, Any]) -> Output | None:
    for part in _parts(candidate):
        match part.get("inlineData"):
            case {"data": str(text), "mimeType": str(kind)} if kind.startswith("image/"):
                data = base64_if_any(text)
                if data is not None:
                    return Output(data=data, content_type=kind)
    return None


def _without_image(document: Mapping[str, Any], *, request_id: str | None) -> Failed:
    candidates = document.get("candidates")
    first = candidates[0] if isinstance(candidates, list) and candidates else None
    candidate = first if isinstance(first, dict) else {}
    reason = str(candidate.get("finishReason") or "no candidate")
    words = " ".join(str(part["text"]) for part in _parts(candidate) if "text" in part)
    told = f"{reason} {candidate.get('finishMessage') or ''} {words}".strip()
    return failed(_kind(reason), detail=told[:500], request_id=request_id)


def _kind(reason: str) -> FailureKind:
    if reason in _REFUSALS:
        return FailureKind.MODERATION
    return FailureKind.UPSTREAM_AUTH if reason == _ACCOUNT_LIMITED else FailureKind.UPSTREAM_ERROR
