"""Small previews: one JPEG of a picture, or of a clip's first frame."""

from __future__ import annotations

import io

from PIL import Image

from stablestudio.media.probe import Source, UnreadableMedia, first_frame, named, open_image


def thumbnail(source: Source, *, content_type: str, longest: int = 512) -> bytes:
    """Return a JPEG whose longest side is at most `longest` pixels; raise UnreadableMedia for a sound or broken file.

    The bytes decide how they are decoded; `content_type` only says what the caller believes.
    """
    picture = still(source, at_least=(longest, longest))
    if picture is None:
        raise UnreadableMedia(f"A file of type {content_type!r} has no picture.")
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=82, optimize=True, progressive=True)
    return out.getvalue()


def still(source: Source, *, at_least: tuple[int, int]) -> Image.Image | None:
    """Decode the first picture of a file, upright, opaque on white and in RGB; None for a sound.

    A JPEG may come smaller than it is, but not below `at_least` pixels. Raises UnreadableMedia for a broken file.
    """
    if named(source).startswith("image/"):
        # The orientation may turn the picture, so both sides stay at the larger of the two.
        side = max(at_least)
        return opaque(open_image(source, at_least=(side, side)))
    frame = first_frame(source)
    return None if frame is None else opaque(frame)


def opaque(picture: Image.Image) -> Image.Image:
    """Return a picture in RGB, its transparency laid on white."""
    if picture.mode.startswith("I"):
        # Pillow clips 16 bits to 8 instead of scaling them.
        return picture.convert("I").point(lambda value: value * (1 / 257)).convert("L").convert("RGB")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layer = picture if picture.mode == "RGBA" else picture.convert("RGBA")
    paper = Image.new("RGB", layer.size, "white")
    paper.paste(layer, mask=layer)
    return paper
