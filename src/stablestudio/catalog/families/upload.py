"""Uploads: a paid place for one file, to point to from later inputs."""
# ruff: noqa: N815 - fields have the wire's own names

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from stablestudio.catalog.inputs import OfferingInput
from stablestudio.catalog.offering import Model, Operation
from stablestudio.catalog.values import Kind


def _plain_name(name: str) -> str:
    if name in {".", ".."} or not name.isprintable() or not {"/", "\\"}.isdisjoint(name):
        raise PydanticCustomError("invalid_filename", "a file name has no slashes and no control characters")
    return name


class Upload(OfferingInput):
    """Get a token to upload one file with."""

    example: ClassVar[dict[str, Any]] = {"filename": "reference.mp4", "contentType": "video/mp4"}

    filename: Annotated[str, AfterValidator(_plain_name)] = Field(
        min_length=1, max_length=255, pattern=r"\S", description="Name of the file, without folders."
    )
    contentType: Literal[
        "image/png",
        "image/jpeg",
        "image/webp",
        "video/mp4",
        "video/webm",
        "video/quicktime",
        "audio/mpeg",
        "audio/wav",
        "audio/mp4",
        "audio/ogg",
    ] = Field(description="What the file is; its bytes must say the same.")


MODELS = (
    Model(
        name="upload",
        title="Upload",
        kind=Kind.UPLOAD,
        operations=(Operation(name="upload", input=Upload, prices={"each": "0.01"}),),
        typical_seconds=(0, 0),
        poll_after=0,
    ),
)
