"""What is sold: offerings with their inputs, prices and lifecycle, one file per model family. No I/O, no clock."""

from __future__ import annotations

from stablestudio.catalog.families import flux_2, gpt_image, grok, nano_banana, seedance, sora, upload, veo, wan
from stablestudio.catalog.inputs import ImageInput, OfferingInput, Rule, VideoInput
from stablestudio.catalog.links import CONTENT_TYPES
from stablestudio.catalog.offering import Model, Offering, Operation
from stablestudio.catalog.prices import Overrides, PriceTable
from stablestudio.catalog.values import ImageOutput, Kind, Lifecycle, LifecycleState, MediaInput, VideoOutput

__all__ = [
    "CONTENT_TYPES",
    "MODELS",
    "OFFERINGS",
    "ImageInput",
    "ImageOutput",
    "Kind",
    "Lifecycle",
    "LifecycleState",
    "MediaInput",
    "Model",
    "Offering",
    "OfferingInput",
    "Operation",
    "Overrides",
    "PriceTable",
    "Rule",
    "VideoInput",
    "VideoOutput",
    "by_path",
    "find",
]

_FAMILIES = (nano_banana, gpt_image, flux_2, grok, seedance, wan, sora, veo, upload)

MODELS: tuple[Model, ...] = tuple(model for family in _FAMILIES for model in family.MODELS)
OFFERINGS: tuple[Offering, ...] = tuple(offering for model in MODELS for offering in model.offerings())

_BY_PATH = {offering.path: offering for offering in OFFERINGS}
_BY_NAME = {(offering.model, offering.operation): offering for offering in OFFERINGS}


def by_path(path: str) -> Offering | None:
    """Return the offering that a request path names, e.g. `/api/generate/nano-banana/edit`."""
    return _BY_PATH.get(path)


def find(model: str, operation: str) -> Offering | None:
    """Return the offering of a model and an operation."""
    return _BY_NAME.get((model, operation))
