"""Black Forest Labs' FLUX.2: the request of a work, and where a task stands. Pure.

Wire format: the OpenAPI document of api.bfl.ai (`Flux2Inputs`, `AsyncResponse`, `ResultResponse`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stablestudio.catalog.families import flux_2
from stablestudio.catalog.sizes import MEGAPIXEL, of_area
from stablestudio.providers.answers import Reply
from stablestudio.providers.base64s import base64_text
from stablestudio.providers.faults import failed, kind_of
from stablestudio.providers.inputs import MediaFile
from stablestudio.providers.lacks import Lacks, at_most, without
from stablestudio.providers.provider import Failed, FailureKind, Running, Work

MODELS = {
    "flux-2-pro/generate": "flux-2-pro",
    "flux-2-pro/edit": "flux-2-pro",
    "flux-2-max/generate": "flux-2-max",
    "flux-2-max/edit": "flux-2-max",
}
MOST_PIXELS = 4 * MEGAPIXEL
MOST_IMAGES = 8
NOT_FOUND = "Task not found"
_STEEPEST = 8.0  # longest shape that is asked for, as a ratio of its sides
_MODERATED = frozenset({"Request Moderated", "Content Moderated"})
_GIVEN_UP = frozenset({"Error", "Failed"})

Generate = flux_2.FluxProGenerate | flux_2.FluxMaxGenerate
Edit = flux_2.FluxProEdit | flux_2.FluxMaxEdit


@dataclass(frozen=True, slots=True)
class Sample:
    """The address of a finished image, good for ten minutes."""

    url: str


def lacks(most_images: int) -> Lacks:
    """Return what the vendor lacks; its documents name no more images than `MOST_IMAGES`, and no `prompt_upsampling`."""
    return dict.fromkeys(
        MODELS,
        (
            at_most("images", most_images),
            without("prompt_upsampling", "nobody here rewrites the prompts of this model"),
        ),
    )


def size(work: Work, files: Sequence[MediaFile]) -> tuple[int, int]:
    """Return the pixels to ask for: the tier that was paid for, in the ratio asked for or else the first image's."""
    given = work.input
    if isinstance(given, Edit) and given.aspect_ratio is None and files and files[0].height:
        steep = min(_STEEPEST, max(1 / _STEEPEST, files[0].width / files[0].height))
        pixels = int(float(given.resolution.removesuffix(" MP")) * MEGAPIXEL)
        return of_area(f"{steep:.4f}:1", pixels, most=MOST_PIXELS)
    wanted = given.output()
    return wanted.width, wanted.height


def request(work: Work, files: Sequence[MediaFile]) -> dict[str, Any]:
    """Return the body for `POST /v1/{model}`; raise `TypeError` for an input other than FLUX.2's.

    Always PNG: the vendor knows no quality, so WebP and JPEG are written here.
    """
    given = work.input
    if not isinstance(given, Generate | Edit):
        raise TypeError(f"not an input for FLUX.2: {type(given).__name__}")
    width, height = size(work, files)
    body: dict[str, Any] = {"prompt": given.prompt, "width": width, "height": height, "output_format": "png"}
    if isinstance(given, Generate):
        body["safety_tolerance"] = given.safety_tolerance
    return body | {_field(number): base64_text(file.data) for number, file in enumerate(files, 1)}


def read(document: Mapping[str, Any], *, request_id: str | None = None) -> Running | Sample | Failed | str | None:
    """Tell where a task stands: `NOT_FOUND` for a task that the vendor does not know, None for an unknown status."""
    told = document.get("status")
    status = told if isinstance(told, str) else None
    detail = f"{status}: {document.get('details')}"
    if status == "Pending":
        return Running(progress=_percent(document.get("progress")))
    if status in _MODERATED:
        return failed(FailureKind.MODERATION, detail=detail, request_id=request_id)
    if status in _GIVEN_UP:
        return failed(FailureKind.UPSTREAM_ERROR, detail=detail, request_id=request_id)
    if status == "Ready":
        result = document.get("result")
        sample = result.get("sample") if isinstance(result, dict) else None
        if isinstance(sample, str) and sample:
            return Sample(sample)
        return failed(FailureKind.UPSTREAM_ERROR, detail="ready without a sample", request_id=request_id)
    return NOT_FOUND if status == NOT_FOUND else None


def refusal(reply: Reply) -> FailureKind:
    """Name the reason of a 4xx answer to a request."""
    kind = kind_of(reply.status)
    moderated = kind is FailureKind.INVALID_INPUT and "moderat" in reply.excerpt.lower()
    return FailureKind.MODERATION if moderated else kind


def _field(number: int) -> str:
    return "input_image" if number == 1 else f"input_image_{number}"


def _percent(progress: object) -> int | None:
    """Read a progress, which is told as a fraction."""
    if isinstance(progress, bool) or not isinstance(progress, int | float) or not 0 <= progress <= 1:
        return None
    return int(progress * 100)
