"""What a media file's first bytes promise. Nobody decodes here, so both sides of a sale may ask."""

from __future__ import annotations

HEAD = 64
"""Bytes that name every type."""

_MAGIC: tuple[tuple[str, tuple[tuple[int, bytes], ...]], ...] = (
    ("image/png", ((0, b"\x89PNG\r\n\x1a\n"),)),
    ("image/jpeg", ((0, b"\xff\xd8\xff"),)),
    ("image/gif", ((0, b"GIF87a"),)),
    ("image/gif", ((0, b"GIF89a"),)),
    ("image/webp", ((0, b"RIFF"), (8, b"WEBP"))),
    ("audio/wav", ((0, b"RIFF"), (8, b"WAVE"))),
    ("audio/mp4", ((4, b"ftypM4A "),)),
    ("video/quicktime", ((4, b"ftypqt  "),)),
    ("video/mp4", ((4, b"ftyp"),)),
    ("audio/ogg", ((0, b"OggS"),)),
    ("audio/mpeg", ((0, b"ID3"),)),
)
# The mov demuxer would read HEIF and AVIF stills as clips of one frame.
_STILL_BRANDS = frozenset({b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"})


def sniff(data: bytes) -> str | None:
    """Return the content type that the first bytes promise; None for any outside the closed list."""
    for content_type, marks in _MAGIC:
        if all(data.startswith(mark, at) for at, mark in marks):
            return None if data[4:8] == b"ftyp" and data[8:12] in _STILL_BRANDS else content_type
    if data.startswith(b"\x1a\x45\xdf\xa3") and b"webm" in data[:HEAD]:
        return "video/webm"
    if len(data) > 1 and data[0] == 0xFF and data[1] & 0xE6 == 0xE2:
        return "audio/mpeg"
    return None
