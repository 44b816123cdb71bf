"""OpenAI's image endpoints in plain data: from work to a request, from an answer to a picture. No I/O.

Facts: OpenAI's OpenAPI (`CreateImageRequest`, `EditImageBodyJsonParam`) and the types of openai-python 3.x.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stablestudio.catalog.values import ImageOutput
from stablestudio.providers.answers import Unreadable
from stablestudio.providers.base64s import base64_bytes
from stablestudio.providers.forms import form
from stablestudio.providers.inputs import MediaFile, data_url
from stablestudio.providers.provider import Work

# `image_url` may have 20 MiB of characters, and base64 is a third longer than the file; a whole request about 50 MB.
_MAX_IMAGE_BYTES = 15_000_000
_MAX_REQUEST_BYTES = 36_000_000
_JSON_ONLY = frozenset({"moderation"})  # `CreateImageEditRequest`, the form's schema, does not have it


def generation(work: Work) -> dict[str, Any]:
    """Return the body of `POST /images/generations`, without the end user."""
    given: Any = work.input
    wanted = given.output()
    fields = {
        "model": work.model,
        "prompt": given.prompt,
        "n": 1,
        "quality": given.quality,
        "size": given.size,
        "background": given.background,
        "output_format": given.output_format,
        "moderation": given.moderation,
    }
    if isinstance(wanted, ImageOutput) and wanted.quality is not None and wanted.format != "png":
        fields["output_compression"] = wanted.quality
    return fields


def share_of(count: int) -> int:
    """Return how many bytes each of so many images may have."""
    return min(_MAX_IMAGE_BYTES, _MAX_REQUEST_BYTES // max(1, count))


def edit(work: Work, files: Sequence[MediaFile]) -> dict[str, Any]:
    """Return the JSON body of `POST /images/edits`."""
    return _edit_fields(work) | {"images": [{"image_url": data_url(file)} for file in files]}


def edit_form(work: Work, files: Sequence[MediaFile], *, more: Mapping[str, str]) -> tuple[bytes, str]:
    """Return the same as a form with some `more` fields, and its content type, for servers that take no JSON there."""
    fields = {name: value for name, value in {**_edit_fields(work), **more}.items() if name not in _JSON_ONLY}
    return form(fields, files=files, files_as="image[]")


def picture(document: Mapping[str, Any]) -> bytes | str:
    """Return the picture of an answer: its bytes, or (compatible servers only) its URL. Raises `Unreadable`."""
    match document.get("data"):
        case [{"b64_json": str(text)}, *_] if text:
            return base64_bytes(text)
        case [{"url": str(url)}, *_] if url:
            return base64_bytes(url) if url[:5].lower() == "data:" else url
    raise Unreadable("the answer holds no picture")


def _edit_fields(work: Work) -> dict[str, Any]:
    fields = generation(work)
    fidelity = getattr(work.input, "input_fidelity", None)
    if fidelity is not None and _takes_fidelity(work.model, fidelity):
        fields["input_fidelity"] = fidelity
    return fields


def _takes_fidelity(model: str, fidelity: str) -> bool:
    """Tell whether a model takes `input_fidelity`: 1 and 1.5 do, mini only low; gpt-image-2 and later refuse it."""
    if model.startswith("gpt-image-1-mini"):
        return fidelity == "low"
    return model.startswith(("gpt-image-1.5", "gpt-image-1-")) or model == "gpt-image-1"
