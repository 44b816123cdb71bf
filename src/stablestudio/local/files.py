"""Pictures and clips as files: cut to the size that was asked for, encoded by Pillow and PyAV."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

import av
from PIL import Image

Format = Literal["png", "jpeg", "webp"]
Size = tuple[int, int]

_CRF = "18"  # the eye does not tell it from the frames themselves
_BT709 = 1
_INDEX_BYTES, _INDEX_BYTES_A_FRAME = 4096, 64
_LIMITED = 1


def cut(picture: Image.Image, size: Size) -> Image.Image:
    """Return the middle of a picture, which covers `size`."""
    left, top = (picture.width - size[0]) // 2, (picture.height - size[1]) // 2
    return picture.crop((left, top, left + size[0], top + size[1])) if picture.size != size else picture


def opaque(picture: Image.Image) -> Image.Image:
    """Return a picture in RGB, its transparency laid on white."""
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layer = picture.convert("RGBA")
    paper = Image.new("RGB", layer.size, "white")
    paper.paste(layer, mask=layer)
    return paper


def encode_image(picture: Image.Image, kind: Format, *, quality: int) -> bytes:
    """Write a picture; `quality` 0-100 is for jpeg and webp."""
    out = io.BytesIO()
    if kind == "png":
        picture.save(out, "PNG")
    else:
        opaque(picture).save(out, kind.upper(), quality=max(1, quality))
    return out.getvalue()


def encode_clip(frames: Sequence[Image.Image], *, rate: int) -> bytes:
    """Write an mp4 of H.264 from frames of one size with even sides, `rate` of them a second."""
    out = io.BytesIO()
    # An index in front lets players begin before they have all; its room is kept free, more than it takes.
    room = _INDEX_BYTES + _INDEX_BYTES_A_FRAME * len(frames)
    with av.open(out, "w", format="mp4", options={"moov_size": str(room)}) as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": _CRF})
        stream.width, stream.height = frames[0].size
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.color_range = _LIMITED
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_image(opaque(picture))  # type: ignore[no-untyped-call] # partly annotated
            frame = frame.reformat(format="yuv420p", dst_colorspace=_BT709, dst_color_range=_LIMITED)
            frame.pts, frame.time_base = index, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()
