"""Google's Interactions API for clips (Omni) and images: the request of a work, and where an interaction stands. Pure.

Wire format: ai.google.dev/gemini-api/docs/omni and `_gaos/types/interactions` of google-genai 3.4.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stablestudio.catalog.families.veo import Veo
from stablestudio.providers import gemini_requests
from stablestudio.providers.base64s import base64_if_any, base64_text
from stablestudio.providers.faults import failed
from stablestudio.providers.google_errors import is_refusal, kind_of_status, message_of
from stablestudio.providers.inputs import MediaFile
from stablestudio.providers.provider import Failed, FailureKind, Running, Work

OMNI = "gemini-omni-1.1-flash"
MODELS = {**gemini_requests.MODELS, "veo-3.1/generate": OMNI, "veo-3.1-fast/generate": OMNI}
LABEL = "stablestudio_job"
"""The label that marks our work; ids of jobs are lower case, as its values must be."""

_TASKS = {"none": "text_to_video", "reference": "reference_to_video"}
_FRAMES = "[# Sources <FIRST_FRAME>@Image1 <LAST_FRAME>@Image2] "
_RUNNING = frozenset({"queued", "in_progress"})
_GIVEN_UP = {
    "failed": FailureKind.UPSTREAM_ERROR,
    "cancelled": FailureKind.UPSTREAM_ERROR,
    "incomplete": FailureKind.UPSTREAM_ERROR,
    "requires_action": FailureKind.UPSTREAM_ERROR,  # it was given no tools, so nobody can act
    "requires_continuation": FailureKind.UPSTREAM_ERROR,
    "budget_exceeded": FailureKind.UPSTREAM_QUOTA,
}
_FILE = re.compile(r"(?:^|/)files/([A-Za-z0-9_-]{1,64})(?=$|[:/?])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """What an interaction made: inline data, the id of a file of the Files API, or an address elsewhere."""

    content_type: str
    data: bytes | None = None
    file: str | None = None
    url: str | None = None


def request(work: Work, files: Sequence[MediaFile], *, model: str) -> dict[str, Any]:
    """Return the body of `POST /interactions`, which answers at once with an id."""
    told = _clip(work.input) if isinstance(work.input, Veo) else _image(work, model=model)
    images = [{"type": "image", "data": base64_text(file.data), "mime_type": file.content_type} for file in files]
    content = [*images, {"type": "text", "text": told.pop("prompt")}]
    return {
        "model": model,
        "background": True,
        "store": True,
        "labels": {LABEL: work.job_id.lower()},
        "input": [{"type": "user_input", "content": content}],
        **told,
    }


def read(document: Mapping[str, Any], *, request_id: str | None = None) -> Running | Media | Failed | None:
    """Tell where an interaction stands; None for a status that is not documented."""
    told = document.get("status")
    status = told if isinstance(told, str) else ""
    if status in _RUNNING:
        return Running()
    if status == "completed":
        return _media(document) or _empty(document, request_id=request_id)
    if status in _GIVEN_UP:
        # What is there although the vendor stopped early is still what was paid for.
        made = _media(document) if status == "incomplete" else None
        return made or _given_up(document, _GIVEN_UP[status], request_id=request_id)
    return None


def _image(work: Work, *, model: str) -> dict[str, Any]:
    asked = gemini_requests.wish(work, model=model)
    form = {"type": "image", "aspect_ratio": asked.ratio, "image_size": asked.size}
    told: dict[str, Any] = {
        "prompt": asked.prompt,
        "response_format": {name: value for name, value in form.items() if value is not None},
    }
    if asked.thinking is not None:
        told["generation_config"] = {"thinking_level": asked.thinking}
    return told


def _clip(given: Veo) -> dict[str, Any]:
    prompt = (_FRAMES if given.mode == "interpolation" else "") + given.prompt
    if given.negativePrompt:  # Omni has no field for it, and its guide says to write it into the prompt
        prompt += f"\nAvoid: {given.negativePrompt}"
    return {
        "prompt": prompt,
        "response_format": {
            "type": "video",
            "aspect_ratio": given.aspectRatio,
            "resolution": given.resolution,
            "duration": f"{given.units()}s",
            "delivery": "uri",  # clips above 4 MB do not come inline
        },
        "generation_config": {"video_config": {"task": _TASKS.get(given.mode, "image_to_video")}},
    }


def _steps(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the model's own steps; an interaction repeats its input as steps as well."""
    steps = document.get("steps")
    for step in steps if isinstance(steps, list) else ():
        if isinstance(step, dict) and step.get("type") == "model_output":
            yield step


def _contents(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for step in _steps(document):
        content = step.get("content")
        yield from (each for each in content if isinstance(each, dict)) if isinstance(content, list) else ()


def _media(document: Mapping[str, Any]) -> Media | None:
    for content in _contents(document):
        match content:
            case {"type": "image" | "video" as kind, "data": str(text)} if text:
                data = base64_if_any(text)
                if data is not None:
                    return Media(content_type=_content_type(content, kind), data=data)
            case {"type": "image" | "video" as kind, "uri": str(uri)} if uri:
                file = _FILE.search(uri)
                where = {"file": file[1]} if file else {"url": uri}
                return Media(content_type=_content_type(content, kind), **where)
            case _:
                continue
    return None


def _content_type(content: Mapping[str, Any], kind: str) -> str:
    told = content.get("mime_type")
    return told if isinstance(told, str) else {"image": "image/png"}.get(kind, "video/mp4")


def _errors(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    listed = document.get("errors")
    candidates = [document.get("error"), *(listed if isinstance(listed, list) else ())]
    candidates += [step.get("error") for step in _steps(document)]
    return (each for each in candidates if isinstance(each, dict))


def _empty(document: Mapping[str, Any], *, request_id: str | None) -> Failed:
    """Judge an interaction that ended well and made nothing: a refusal comes as words without an error."""
    words = " ".join(str(each.get("text") or "") for each in _contents(document) if each.get("type") == "text").strip()
    kind = FailureKind.MODERATION if words and not _counts_media(document) else FailureKind.UPSTREAM_ERROR
    return _given_up(document, kind, words=words, request_id=request_id)


def _given_up(
    document: Mapping[str, Any], kind: FailureKind, *, words: str = "", request_id: str | None = None
) -> Failed:
    errors = list(_errors(document))
    for error in errors:
        told = FailureKind.MODERATION if is_refusal(error) else kind_of_status(error)
        kind = told if told is not FailureKind.UPSTREAM_ERROR else kind
    said = "; ".join(f"{error.get('code')} {message_of(error)}" for error in errors) or words
    return failed(kind, detail=f"{document.get('status')}: {said}"[:500], request_id=request_id)


def _counts_media(document: Mapping[str, Any]) -> bool:
    """Tell whether the bill names media: then something was made, in a place where it is not looked for."""
    usage = document.get("usage")
    rows = usage.get("output_tokens_by_modality") if isinstance(usage, dict) else None
    return any(
        isinstance(row, dict) and str(row.get("modality")).lower() in {"image", "video"} and row.get("tokens")
        for row in (rows if isinstance(rows, list) else ())
    )
