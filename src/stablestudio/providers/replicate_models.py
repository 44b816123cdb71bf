"""What Replicate makes, offering by offering: models and fields. Every model answers with one URL or a list of them.

From the input schemas on replicate.com (`/{owner}/{name}/api/schema`).
"""

from __future__ import annotations

from collections.abc import Mapping

from stablestudio.catalog import OfferingInput
from stablestudio.providers.fal_models import FLUX_LACKS, NO_REFERENCES
from stablestudio.providers.lacks import Lack, Lacks, at_most, only, without
from stablestudio.providers.routes import (
    Fill,
    Offer,
    Route,
    choice,
    const,
    derived,
    field,
    has,
    link,
    links,
    number,
    prompt,
    seconds,
    seed,
    user,
)
from stablestudio.providers.seedance_inputs import audible, ratio, tier, words

_RESULT: tuple[str | int, ...] = ("output",)
_SHAPES = {"1024x1024": "1:1", "1536x1024": "3:2", "1024x1536": "2:3"}
_LONGEST_FLUX_SIDE = 2048


def _half_size(given: OfferingInput) -> tuple[int, int] | None:
    """Return the size of a tier that these models lack: asked for larger, made smaller here."""
    wanted = given.output()
    return (wanted.width, wanted.height) if getattr(given, "imageSize", None) == "512" else None


def _both(model: str, route: Route, *, lacks: tuple[Lack, ...] = ()) -> Mapping[str, Offer]:
    """One model that generates and edits by the same fields; files are simply not there when it generates."""
    offer = Offer(model=model, routes=(route,), lacks=lacks)
    return {"generate": offer, "edit": offer}


def _exceeds_flux(given: OfferingInput) -> bool:
    """Tell whether a side is longer than these models make: they would make fewer pixels than were paid for."""
    wanted = given.output()
    return max(wanted.width, wanted.height) > _LONGEST_FLUX_SIDE


_FLUX_MAX_LACKS = (
    at_most("images", 8),
    *FLUX_LACKS,
    Lack(
        field="resolution",
        asked=_exceeds_flux,
        says="here 4 MP is made in the shape 1:1 only",
        allowed=("0.5 MP", "1 MP", "2 MP"),
    ),
)


def _nano_banana(model: str, *, lacks: tuple[Lack, ...] = ()) -> Mapping[str, Offer]:
    words: dict[str, Fill] = {
        "prompt": field("prompt"),
        "image_input": links("reference"),
        "aspect_ratio": field("aspectRatio"),
        "resolution": choice("imageSize", {"512": "1K"}),
        "output_format": const("png"),
    }
    return _both(model, Route(fields=words, result=_RESULT, within=_half_size), lacks=lacks)


def _flux(model: str, lacks: tuple[Lack, ...]) -> Mapping[str, Offer]:
    words: dict[str, Fill] = {
        "prompt": field("prompt"),
        "input_images": links("reference"),
        "aspect_ratio": field("aspect_ratio", "match_input_image"),
        "resolution": field("resolution"),
        "safety_tolerance": field("safety_tolerance"),
        "output_format": field("output_format", "webp"),
        "output_quality": field("output_quality", 80),
        "seed": seed,
    }
    return _both(model, Route(fields=words, result=_RESULT), lacks=lacks)


_GPT_WORDS: dict[str, Fill] = {
    "prompt": field("prompt"),
    "input_images": links("reference"),
    "aspect_ratio": choice("size", _SHAPES),
    "quality": field("quality"),
    "background": field("background"),
    "moderation": field("moderation"),
    "output_format": field("output_format"),
    "number_of_images": const(1),
    "user_id": user,
}
_GPT_LACKS = (only("size", *_SHAPES),)
_GROK_WORDS = {
    "prompt": field("prompt"),
    "aspect_ratio": field("aspect_ratio"),
    "n": const(1),
}
_GROK = {
    "generate": Offer(model="xai/grok-imagine-image", routes=(Route(fields=_GROK_WORDS, result=_RESULT),)),
    "edit": Offer(
        model="xai/grok-imagine-image",
        # Its one picture gives the result its shape.
        routes=(
            Route(
                fields={"prompt": field("prompt"), "image": link("reference")},
                result=_RESULT,
            ),
        ),
        lacks=(
            at_most("images", 1),
            without("aspect_ratio", "here the result has the shape of the image"),
        ),
    ),
}
_GROK_VIDEO = {
    "prompt": field("prompt"),
    "image": link("first_frame"),
    "duration": number("duration"),
    "aspect_ratio": field("aspect_ratio"),
    "resolution": field("resolution"),
}
_SEEDANCE: dict[str, Fill] = {
    "prompt": derived(lambda given: words(given, "[{kind}{number}]") or "Bring the image to life."),
    "image": link("first_frame"),
    "last_frame_image": link("last_frame"),
    "reference_images": links("reference", kind="image"),
    "reference_videos": links("reference", kind="video"),
    "reference_audios": links("reference", kind="audio"),
    "duration": seconds(),
    "resolution": derived(tier),
    "aspect_ratio": derived(ratio),
    "generate_audio": derived(audible),
    "seed": seed,
}
_WAN: dict[str, Fill] = {
    "prompt": field("prompt"),
    "negative_prompt": field("negativePrompt"),
    "audio": link("soundtrack"),
    "duration": seconds(),
    "enable_prompt_expansion": field("enablePromptExpansion"),
    "multi_shots": field("multiShots"),
    "seed": seed,
}
_VEO: dict[str, Fill] = {
    "prompt": field("prompt"),
    "image": link("first_frame"),
    "last_frame": link("last_frame"),
    "duration": seconds(),
    "resolution": field("resolution"),
    "aspect_ratio": field("aspectRatio"),
    "negative_prompt": field("negativePrompt"),
    "generate_audio": const(True),  # noqa: FBT003 - a constant of the wire
    "seed": seed,
}
_VEO_REFERENCES: dict[str, Fill] = {
    **{name: fill for name, fill in _VEO.items() if name != "negative_prompt"},
    "prompt": prompt(avoiding=True),
    "reference_images": links("reference"),
}


def _seedance(model: str) -> Mapping[str, Offer]:
    offer = Offer(model=model, routes=(Route(fields=_SEEDANCE, result=_RESULT),))
    return {"t2v": offer, "i2v": offer}


def _refers_upright(given: OfferingInput) -> bool:
    return has("referenceImages")(given) and getattr(given, "aspectRatio", None) != "16:9"


_VEO_PLAIN = Route(fields=_VEO, result=_RESULT)
_MODELS: Mapping[str, Mapping[str, Offer]] = {
    "nano-banana": _nano_banana("google/nano-banana-2", lacks=(only("thinkingLevel", "minimal"),)),
    "nano-banana-pro": _nano_banana("google/nano-banana-pro"),
    "gpt-image-2": _both("openai/gpt-image-2", Route(fields=_GPT_WORDS, result=_RESULT), lacks=_GPT_LACKS),
    "gpt-image-1.5": _both(
        "openai/gpt-image-1.5",
        Route(fields={**_GPT_WORDS, "input_fidelity": field("input_fidelity")}, result=_RESULT),
        lacks=_GPT_LACKS,
    ),
    "flux-2-pro": _flux("black-forest-labs/flux-2-pro", FLUX_LACKS),
    "flux-2-max": _flux("black-forest-labs/flux-2-max", _FLUX_MAX_LACKS),
    "grok": _GROK,
    "grok-video": {
        "generate": Offer(model="xai/grok-imagine-video", routes=(Route(fields=_GROK_VIDEO, result=_RESULT),))
    },
    "seedance": _seedance("bytedance/seedance-2.0"),
    "seedance-fast": _seedance("bytedance/seedance-2.0-fast"),
    "wan-2.6": {
        "t2v": Offer(
            model="wan-video/wan-2.6-t2v", routes=(Route(fields={**_WAN, "size": field("size")}, result=_RESULT),)
        ),
        "i2v": Offer(
            model="wan-video/wan-2.6-i2v",
            routes=(
                Route(fields={**_WAN, "image": link("first_frame"), "resolution": field("resolution")}, result=_RESULT),
            ),
        ),
    },
    "veo-3.1": {
        "generate": Offer(
            model="google/veo-3.1",
            routes=(Route(fields=_VEO_REFERENCES, result=_RESULT, takes=has("referenceImages")), _VEO_PLAIN),
            lacks=(
                Lack(
                    field="aspectRatio",
                    asked=_refers_upright,
                    says="here clips with referenceImages can only be 16:9",
                    allowed=("16:9",),
                ),
            ),
        )
    },
    "veo-3.1-fast": {"generate": Offer(model="google/veo-3.1-fast", routes=(_VEO_PLAIN,), lacks=NO_REFERENCES)},
}

OFFERS: Mapping[str, Offer] = {
    f"{model}/{operation}": offer for model, offers in _MODELS.items() for operation, offer in offers.items()
}
LACKS: Lacks = {key: offer.lacks for key, offer in OFFERS.items() if offer.lacks}
