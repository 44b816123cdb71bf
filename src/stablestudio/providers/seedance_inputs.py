"""What the Seedance inputs of the catalog ask for, in the terms that all vendors of the model share. Pure."""

from __future__ import annotations

from typing import Any

from stablestudio.catalog import OfferingInput
from stablestudio.catalog.families.seedance import MENTION
from stablestudio.catalog.values import VideoOutput


def respelled(prompt: str, style: str) -> str:
    """Write the references of a prompt, such as `@image1`, in a vendor's style, e.g. `[{kind}{number}]`."""
    return MENTION.sub(lambda match: style.format(kind=match[1].capitalize(), number=int(match[2])), prompt)


def words(given: Any, style: str, *, told_the_camera: bool = False) -> str:
    """Return the prompt in a vendor's style; a camera that the vendor cannot be told to fix is fixed by words."""
    prompt = respelled(given.prompt or "", style)
    if is_older(given) and given.camera_fixed and not told_the_camera:
        return f"{prompt} Fixed camera.".strip()
    return prompt


def tier(given: Any) -> str:
    """Return 480p, 720p, 1080p or 4k."""
    return str(given.cell())


def ratio(given: Any) -> str:
    """Return the aspect ratio, or `adaptive`."""
    return "adaptive" if given.aspectRatio == "adaptive" else str(given.shape())


def audible(given: Any) -> bool:
    return bool(given.audible())


def is_older(given: OfferingInput) -> bool:
    """Tell whether the input has the older form of image-to-video."""
    return getattr(given, "form", "current") == "older"


def asks_for_older_model(given: OfferingInput) -> bool:
    """Tell whether the input needs what only Seedance 1.5 can: a seed, or a camera that is told not to move."""
    return is_older(given) and (given.seed_value() is not None or bool(getattr(given, "camera_fixed", None)))


def refers(given: OfferingInput) -> bool:
    """Tell whether the media of the input are references rather than frames."""
    return any(media.role == "reference" for media in given.media())


def exact_size(given: OfferingInput) -> tuple[int, int] | None:
    """Return the pixels that the buyer asked for, which the model's own sizes only come near to."""
    wanted = given.output()
    asked = getattr(given, "resolution", None)
    if isinstance(wanted, VideoOutput) and asked == f"{wanted.width}x{wanted.height}":
        return wanted.width, wanted.height
    return None
