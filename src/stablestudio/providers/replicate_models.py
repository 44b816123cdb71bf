"""What Replicate makes, offering by offering: models and fields. Every model answers with one URL or a list of them.

From the input schemas on replicate.com (`/{owner}/{name}/api/schema`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from stablestudio.catalog import OfferingInput
from stablestudio.providers.routes import (
    Fill,
    Offer,
    Route,
    bounded,
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
    shape,
    user,
)
from stablestudio.providers.seedance_inputs import audible, ratio, tier, words

_RESULT: tuple[str | int, ...] = ("output",)
_MOST_FLUX_IMAGES = 8
_SHAPES = {(1024, 1024): "1:1", (1536, 1024): "3:2", (1024, 1536): "2:3"}


def _half_size(given: OfferingInput) -> tuple[int, int] | None:
    """Return the size of a tier that these models lack: asked for larger, made smaller here."""
    wanted = given.output()
    return (wanted.width, wanted.height) if getattr(given, "imageSize", None) == "512" else None


def _few(name: str, most: int) -> Callable[[OfferingInput], bool]:
    return lambda given: len(getattr(given, name, None) or ()) <= most


def _both(model: str, route: Route) -> Mapping[str, Offer]:
    """One model that generates and edits by the same fields; files are simply not there when it generates."""
    offer = Offer(model=model, routes=(route,))
    return {"generate": offer, "edit": offer}


def _nano_banana(model: str) -> Mapping[str, Offer]:
    words: dict[str, Fill] = {
        "prompt": field("prompt"),
        "image_input": links("reference"),
        "aspect_ratio": field("aspectRatio"),
        "resolution": choice("imageSize", {"512": "1K"}),
        "output_format": const("png"),
    }
    return _both(model, Route(fields=words, result=_RESULT, within=_half_size))


def _flux(model: str) -> Mapping[str, Offer]:
    words: dict[str, Fill] = {
        "prompt": field("prompt"),
        "input_images": links("reference"),
        "aspect_ratio": field("aspect_ratio", "match_input_image"),
        "resolution": field("resolution"),
        "safety_tolerance": bounded("safety_tolerance", 1, 5),
        "output_format": field("output_format", "webp"),
        "output_quality": field("output_quality", 80),
        "seed": seed,
    }
    return _both(model, Route(fields=words, result=_RESULT, takes=_few("images", _MOST_FLUX_IMAGES)))


_GPT_WORDS: dict[str, Fill] = {
    "prompt": field("prompt"),
    "input_images": links("reference"),
    "aspect_ratio": shape(_SHAPES),
    "quality": field("quality"),
    "background": field("background"),
    "moderation": field("moderation"),
    "output_format": field("output_format"),
    "number_of_images": const(1),
    "user_id": user,
}
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
                takes=lambda given: _few("images", 1)(given) and getattr(given, "aspect_ratio", None) is None,
            ),
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


def _without_references(given: OfferingInput) -> bool:
    return not getattr(given, "referenceImages", None)


def _wide_references(given: OfferingInput) -> bool:
    """References work in landscape alone."""
    return has("referenceImages")(given) and getattr(given, "aspectRatio", None) == "16:9"


_VEO_PLAIN = Route(fields=_VEO, result=_RESULT, takes=_without_references)
_MODELS: Mapping[str, Mapping[str, Offer]] = {
    "nano-banana": _nano_banana("google/nano-banana-2"),
    "nano-banana-pro": _nano_banana("google/nano-banana-pro"),
    "gpt-image-2": _both("openai/gpt-image-2", Route(fields=_GPT_WORDS, result=_RESULT)),
    "gpt-image-1.5": _both(
        "openai/gpt-image-1.5",
        Route(fields={**_GPT_WORDS, "input_fidelity": field("input_fidelity")}, result=_RESULT),
    ),
    "flux-2-pro": _flux("black-forest-labs/flux-2-pro"),
    "flux-2-max": _flux("black-forest-labs/flux-2-max"),
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
            routes=(_VEO_PLAIN, Route(fields=_VEO_REFERENCES, result=_RESULT, takes=_wide_references)),
        )
    },
    "veo-3.1-fast": {"generate": Offer(model="google/veo-3.1-fast", routes=(_VEO_PLAIN,))},
}

OFFERS: Mapping[str, Offer] = {
    f"{model}/{operation}": offer for model, offers in _MODELS.items() for operation, offer in offers.items()
}
