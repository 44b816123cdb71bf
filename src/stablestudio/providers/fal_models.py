"""What fal.ai makes, offering by offering: endpoints, fields and results.

From the endpoint types of fal's own client, `@fal-ai/client` (`libs/client/src/types/endpoints.ts`).
"""

from __future__ import annotations

from collections.abc import Mapping

from stablestudio.catalog.families.wan import WanT2V
from stablestudio.providers.lacks import Lack, Lacks, only, without
from stablestudio.providers.routes import (
    Fill,
    Offer,
    Route,
    choice,
    chosen_seed,
    const,
    derived,
    field,
    has,
    link,
    links,
    number,
    pixels,
    pixels_by_first,
    pixels_if,
    prompt,
    seconds,
    user,
    written,
)
from stablestudio.providers.seedance_inputs import asks_for_older_model, audible, ratio, refers, tier

# What these vendors' FLUX.2 and Veo lack, wherever they are sold.
FLUX_LACKS = (
    only("safety_tolerance", 1, 2, 3, 4, 5),
    without("prompt_upsampling", "nobody here rewrites the prompts of this model"),
)
NO_REFERENCES = (without("referenceImages", "veo-3.1 takes reference images here"),)

_IMAGE = ("images", 0, "url")
_VIDEO = ("video", "url")
_REFERENCES = {"image_urls": links("reference", kind="image")}
_AUTO = {"adaptive": "auto"}
_ANIMATE = "Bring the image to life."  # these endpoints demand words, the older form does not


def _nano_banana(model: str, **more: Fill) -> Mapping[str, Offer]:
    words: dict[str, Fill] = {
        "prompt": field("prompt"),
        "aspect_ratio": field("aspectRatio", "auto"),
        "resolution": choice("imageSize", {"512": "0.5K"}),
        "num_images": const(1),
        "limit_generations": const(True),  # noqa: FBT003 - a constant of the wire
        "output_format": const("png"),
        **more,
    }
    return _generate_and_edit(model, words, suffix="/edit")


def _generate_and_edit(
    model: str,
    words: Mapping[str, Fill],
    *,
    suffix: str,
    edit: Mapping[str, Fill] | None = None,
    lacks: tuple[Lack, ...] = (),
    generate_lacks: tuple[Lack, ...] = (),
) -> Mapping[str, Offer]:
    changed = {**words, **_REFERENCES, **(edit or {})}
    generates = Route(fields=words, result=_IMAGE)
    edits = Route(fields=changed, result=_IMAGE, suffix=suffix)
    return {
        "generate": Offer(model=model, routes=(generates,), lacks=(*lacks, *generate_lacks)),
        "edit": Offer(model=model, routes=(edits,), lacks=lacks),
    }


def _flux(model: str) -> Mapping[str, Offer]:
    words: dict[str, Fill] = {
        "prompt": field("prompt"),
        "image_size": pixels,
        "output_format": const("png"),  # webp and qualities are written here, from a file without losses
        "safety_tolerance": written("safety_tolerance"),
    }
    edit = {"image_size": pixels_by_first("aspect_ratio")}
    return _generate_and_edit(model, words, suffix="/edit", edit=edit, generate_lacks=FLUX_LACKS)


_GPT_WORDS: dict[str, Fill] = {
    "prompt": field("prompt"),
    "quality": field("quality"),
    "num_images": const(1),
    "output_format": field("output_format"),
}
_GPT_2 = {**_GPT_WORDS, "image_size": pixels_if("size", "auto")}
_GPT_1 = {**_GPT_WORDS, "image_size": field("size"), "background": field("background")}
_GPT_1_EDIT = {"input_fidelity": field("input_fidelity")}
_GPT_1_SIZES = ("1024x1024", "1536x1024", "1024x1536")  # of the generating endpoint; the editing one has `auto` too
_GROK = {
    "prompt": field("prompt"),
    "aspect_ratio": field("aspect_ratio", "auto"),
    "num_images": const(1),
    "output_format": const("jpeg"),
    "resolution": const("1k"),
}
_GROK_VIDEO = {"prompt": field("prompt"), "duration": number("duration"), "resolution": field("resolution")}
_SEEDANCE: dict[str, Fill] = {
    "prompt": prompt(otherwise=_ANIMATE),
    "duration": seconds("{}"),
    "resolution": derived(tier),
    "aspect_ratio": derived(lambda given: _AUTO.get(ratio(given), ratio(given))),
    "generate_audio": derived(audible),
    "end_user_id": user,
}
_SEEDANCE_OLDER = {
    **{name: fill for name, fill in _SEEDANCE.items() if name != "end_user_id"},
    "image_url": link("first_frame"),
    "end_image_url": link("last_frame"),
    "seed": chosen_seed,
    "camera_fixed": field("camera_fixed"),
}
_WAN: dict[str, Fill] = {
    "prompt": field("prompt"),
    "duration": seconds("{}"),
    "negative_prompt": field("negativePrompt"),
    "enable_prompt_expansion": field("enablePromptExpansion"),
    "multi_shots": field("multiShots"),
    "audio_url": link("soundtrack"),
    "seed": chosen_seed,
}
_VEO: dict[str, Fill] = {
    "prompt": field("prompt"),
    "duration": seconds("{}s"),
    "resolution": field("resolution"),
    "aspect_ratio": field("aspectRatio"),
    "negative_prompt": field("negativePrompt"),
    "generate_audio": const(True),  # noqa: FBT003 - a constant of the wire
}
_VEO_REFERENCES = {**_VEO, "prompt": prompt(avoiding=True), **_REFERENCES}
del _VEO_REFERENCES["negative_prompt"]


def _seedance(model: str) -> Mapping[str, Offer]:
    sounds = {
        "video_urls": links("reference", kind="video"),
        "audio_urls": links("reference", kind="audio"),
    }
    frames = {"image_url": link("first_frame"), "end_image_url": link("last_frame")}
    older = Route(
        model="fal-ai/bytedance/seedance/v1.5/pro/image-to-video",
        fields=_SEEDANCE_OLDER,
        result=_VIDEO,
        takes=asks_for_older_model,
    )
    return {
        "t2v": Offer(model=model, routes=(Route(suffix="/text-to-video", fields=_SEEDANCE, result=_VIDEO),)),
        "i2v": Offer(
            model=model,
            routes=(
                older,
                Route(
                    suffix="/reference-to-video",
                    fields={**_SEEDANCE, **_REFERENCES, **sounds},
                    result=_VIDEO,
                    takes=refers,
                ),
                Route(suffix="/image-to-video", fields={**_SEEDANCE, **frames}, result=_VIDEO),
            ),
        ),
    }


def _veo(model: str, *, lacks: tuple[Lack, ...] = ()) -> Mapping[str, Offer]:
    ends = {"first_frame_url": link("first_frame"), "last_frame_url": link("last_frame")}
    by_reference = Route(
        suffix="/reference-to-video", fields=_VEO_REFERENCES, result=_VIDEO, takes=has("referenceImages")
    )
    routes = (
        by_reference,
        Route(suffix="/first-last-frame-to-video", fields={**_VEO, **ends}, result=_VIDEO, takes=has("lastFrame")),
        Route(
            suffix="/image-to-video",
            fields={**_VEO, "image_url": link("first_frame")},
            result=_VIDEO,
            takes=has("image"),
        ),
        Route(fields=_VEO, result=_VIDEO),
    )
    return {"generate": Offer(model=model, routes=routes, lacks=lacks)}


_WAN_OFFERS = {
    "t2v": Offer(
        model="wan/v2.6",
        routes=(
            Route(
                suffix="/text-to-video",
                fields={**_WAN, "resolution": derived(WanT2V.cell), "aspect_ratio": derived(WanT2V.shape)},
                result=_VIDEO,
            ),
        ),
    ),
    "i2v": Offer(
        model="wan/v2.6",
        routes=(
            Route(
                suffix="/image-to-video",
                fields={**_WAN, "resolution": field("resolution"), "image_url": link("first_frame")},
                result=_VIDEO,
            ),
        ),
    ),
}
_GROK_VIDEO_OFFER = Offer(
    model="xai/grok-imagine-video",
    routes=(
        Route(
            suffix="/image-to-video",
            fields={**_GROK_VIDEO, "aspect_ratio": field("aspect_ratio", "auto"), "image_url": link("first_frame")},
            result=_VIDEO,
            takes=has("image"),
        ),
        Route(
            suffix="/text-to-video",
            fields={**_GROK_VIDEO, "aspect_ratio": field("aspect_ratio")},
            result=_VIDEO,
        ),
    ),
)

_MODELS: Mapping[str, Mapping[str, Offer]] = {
    "nano-banana": _nano_banana("fal-ai/nano-banana-2", thinking_level=field("thinkingLevel")),
    "nano-banana-pro": _nano_banana("fal-ai/nano-banana-pro"),
    "gpt-image-2": _generate_and_edit(
        "openai/gpt-image-2", _GPT_2, suffix="/edit", lacks=(only("background", "auto"),)
    ),
    "gpt-image-1.5": _generate_and_edit(
        "fal-ai/gpt-image-1.5",
        _GPT_1,
        suffix="/edit",
        edit=_GPT_1_EDIT,
        generate_lacks=(only("size", *_GPT_1_SIZES),),
    ),
    "flux-2-pro": _flux("fal-ai/flux-2-pro"),
    "flux-2-max": _flux("fal-ai/flux-2-max"),
    "grok": _generate_and_edit("xai/grok-imagine-image", _GROK, suffix="/edit"),
    "grok-video": {"generate": _GROK_VIDEO_OFFER},
    "seedance": _seedance("bytedance/seedance-2.0"),
    "seedance-fast": _seedance("bytedance/seedance-2.0/fast"),
    "wan-2.6": _WAN_OFFERS,
    "veo-3.1": _veo("fal-ai/veo3.1"),
    "veo-3.1-fast": _veo("fal-ai/veo3.1/fast", lacks=NO_REFERENCES),
}

OFFERS: Mapping[str, Offer] = {
    f"{model}/{operation}": offer for model, offers in _MODELS.items() for operation, offer in offers.items()
}
LACKS: Lacks = {key: offer.lacks for key, offer in OFFERS.items() if offer.lacks}
IGNORED: Mapping[str, tuple[str, ...]] = {"gpt-image-2": ("moderation",), "gpt-image-1.5": ("moderation",)}
"""Fields that change nothing here and cost the buyer nothing, by model; docs/providers.md tells them."""
