"""Small real files to stand in for the examples' public media, and the cheapest body of each offering that uses all its parts."""

from __future__ import annotations

import base64
import io
import json
import wave
from functools import cache
from typing import Any

import av
from PIL import Image

from stablestudio.catalog import Offering
from stablestudio.catalog.values import MediaKind

_CLIP = (320, 320)
# What makes an example small and quick; its media become files of this module.
CHEAPEST: dict[str, dict[str, Any]] = {
    "nano-banana/generate": {"imageSize": "512"},
    "nano-banana/edit": {"imageSize": "512"},
    "nano-banana-pro/generate": {"imageSize": "1K"},
    "nano-banana-pro/edit": {"imageSize": "1K"},
    "gpt-image-2/generate": {"quality": "low"},
    "gpt-image-2/edit": {"quality": "low"},
    "gpt-image-1.5/generate": {"quality": "low", "output_format": "webp"},
    "gpt-image-1.5/edit": {"quality": "low"},
    "gpt-image-1/generate": {"quality": "low", "output_format": "jpeg"},
    "gpt-image-1/edit": {"quality": "low"},
    "flux-2-pro/generate": {"resolution": "0.5 MP"},
    "flux-2-pro/edit": {"resolution": "0.5 MP"},
    "flux-2-max/generate": {"resolution": "0.5 MP"},
    "flux-2-max/edit": {"resolution": "0.5 MP"},
    "grok/generate": {},
    "grok/edit": {},
    "grok-video/generate": {"duration": "3", "resolution": "480p"},
    "seedance/t2v": {"duration": "4", "outputResolution": "480p"},
    "seedance/i2v": {"duration": "4", "outputResolution": "480p"},
    "seedance-fast/t2v": {"duration": "4"},
    "seedance-fast/i2v": {"duration": "4", "outputResolution": "480p"},
    "wan-2.6/t2v": {},
    "wan-2.6/i2v": {},
    "sora-2/generate": {"seconds": "4"},
    "sora-2-pro/generate": {"seconds": "4", "size": "720x1280"},
    "veo-3.1/generate": {"durationSeconds": "4", "resolution": "720p"},
    "veo-3.1-fast/generate": {"durationSeconds": "4", "resolution": "720p"},
}


def cheapest(offering: Offering) -> dict[str, Any]:
    """Return the offering's example, made cheap, with media that need no network."""
    body = offering.input.example | CHEAPEST[offering.key]
    local: dict[str, Any] = {}
    for media in offering.read(json.dumps(body).encode()).media():
        name = str(media.path[0])
        uri = data_uri(media.kind)
        local[name] = uri if len(media.path) == 1 else [*local.get(name, []), uri]
    return body | local


@cache
def data_uri(kind: MediaKind) -> str:
    content_type, data = {"image": ("image/png", png), "video": ("video/mp4", mp4), "audio": ("audio/wav", wav)}[kind]
    return f"data:{content_type};base64,{base64.b64encode(data()).decode()}"


def png(size: tuple[int, int] = (480, 400)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, (200, 80, 40)).save(out, "PNG")
    return out.getvalue()


def mp4() -> bytes:
    """Three grey seconds."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = *_CLIP, "yuv420p"
        for _ in range(24):
            frame = av.VideoFrame.from_image(Image.new("RGB", _CLIP, (90, 90, 90)))  # type: ignore[no-untyped-call]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return out.getvalue()


def wav() -> bytes:
    """Three silent seconds."""
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(48_000))
    return out.getvalue()
