"""Files made to hurt whoever decodes them: each is built when it is asked for, none is kept as a blob."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable

import av
from PIL import Image

from tests import media_samples as samples

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
SCRIPT = b"<script>alert(1)</script>"


def png_of(*chunks: tuple[bytes, bytes], size: tuple[int, int] = (8, 8)) -> bytes:
    """Return a PNG with further chunks before its pixels."""
    header = struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes((size[0] + 1) * size[1]), 9)
    return PNG_MAGIC + b"".join(
        _png_chunk(*chunk) for chunk in ((b"IHDR", header), *chunks, (b"IDAT", pixels), (b"IEND", b""))
    )


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _zeros(megabytes: int) -> bytes:
    packer = zlib.compressobj(9)
    block = bytes(1 << 20)
    return b"".join(packer.compress(block) for _ in range(megabytes)) + packer.flush()


def _text_bomb(kind: bytes) -> bytes:
    head = b"Comment\0\0" if kind == b"zTXt" else b"Comment\0\1\0\0\0"
    return png_of(*[(kind, head + _zeros(200))] * 3)


def _many_texts() -> bytes:
    return png_of(*[(b"zTXt", b"Comment\0\0" + _zeros(1)[:-200] + bytes(200))] * 2000)


def _apng_that_never_ends() -> bytes:
    return png_of((b"acTL", struct.pack(">II", 2**31 - 1, 0)))


def _jpeg_with(marker: int, body: bytes, *, times: int = 1) -> bytes:
    plain = samples.image("JPEG")
    return plain[:2] + (bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body) * times + plain[2:]


def _exif(tiff: bytes) -> bytes:
    return _jpeg_with(0xE1, b"Exif\0\0" + tiff)


def _exif_directory_of_itself() -> bytes:
    # One entry, the EXIF directory at 8: itself; so is the next.
    return _exif(b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 0x8769, 4, 1, 8) + struct.pack("<I", 8))


def _exif_of_huge_values() -> bytes:
    entries = b"".join(struct.pack("<HHII", 0x0100 + n, 2, 0xFFFFFFF0, 8) for n in range(5000))
    return _exif(b"II*\0\x08\0\0\0" + struct.pack("<H", 5000) + entries)


def _profile_in_255_parts() -> bytes:
    plain = samples.image("JPEG")
    parts = (b"ICC_PROFILE\0" + bytes((n, 255)) + bytes(65_000) for n in range(1, 256))
    return plain[:2] + b"".join(b"\xff\xe2" + struct.pack(">H", len(part) + 2) + part for part in parts) + plain[2:]


def jpeg_of_many_scans(scans: int = 3000, *, side: int = 6000) -> bytes:
    """Return a progressive JPEG of some megabytes, every scan of which goes over the whole picture anew."""
    out = io.BytesIO()
    Image.new("L", (side, side), 128).save(out, "JPEG", progressive=True, quality=50)
    data = out.getvalue()
    starts = [at for at in range(len(data) - 1) if data[at : at + 2] == b"\xff\xda"]
    second = data[starts[1] : starts[2]] if len(starts) > 2 else data[starts[1] : -2]
    return data[:-2] + second * scans + data[-2:]


def _jpeg_of_65535_squared() -> bytes:
    data = bytearray(samples.image("JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = b"\xff" * 4
    return bytes(data)


def _gif(frames: int, *, size: tuple[int, int] = (4, 4), end: bytes = b";") -> bytes:
    head = b"GIF89a" + struct.pack("<HH", *size) + b"\x80\0\0" + b"\0\0\0\xff\xff\xff"
    frame = b"!\xf9\x04\0\0\0\0\0" + b",\0\0\0\0\x01\0\x01\0\0" + b"\x02\x02\x44\x01\0"
    return head + frame * frames + end


def _gif_and_zip() -> bytes:
    out = io.BytesIO(samples.image("GIF"))
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr("index.html", SCRIPT)
    return out.getvalue()


def _animated_webp() -> bytes:
    out = io.BytesIO()
    first, *others = (Image.new("RGB", (64, 48), (n, 0, 0)) for n in range(60))
    first.save(out, "WEBP", save_all=True, append_images=others)
    return out.getvalue()


def _webp_canvas_of_16384_squared() -> bytes:
    data = bytearray(_animated_webp())
    at = data.index(b"VP8X")
    data[at + 12 : at + 18] = b"\xff\x3f\0\xff\x3f\0"
    return bytes(data)


def _box(data: bytearray, name: bytes) -> int:
    """Return where the content of a box begins."""
    return data.index(name) + 4


def _mp4_without_end() -> bytes:
    data = bytearray(samples.clip())
    for name, at in ((b"mvhd", 16), (b"mdhd", 16), (b"tkhd", 20)):
        data[(at := _box(data, name) + at) : at + 4] = b"\x7f\xff\xff\xff"
    return bytes(data)


def _mp4_of_huge_steps() -> bytes:
    data = bytearray(samples.clip())
    at = _box(data, b"stts")
    data[at + 12 : at + 16] = b"\x7f\xff\xff\xff"
    return bytes(data)


def _mp4_of_many_samples(count_: int) -> bytes:
    # Four numbers claim them, and the demuxer writes an index of all.
    data = bytearray(samples.clip())
    count = struct.pack(">I", count_)
    at = _box(data, b"stts")
    data[at + 8 : at + 12] = count
    at = _box(data, b"stsc")
    data[at + 12 : at + 16] = b"\0\0\0\x01"
    at = _box(data, b"stsz")
    data[at + 4 : at + 12] = struct.pack(">I", 1) + count
    return bytes(data)


def _mp4_in_65535_squared() -> bytes:
    data = bytearray(samples.clip())
    at = _box(data, b"avc1")
    data[at + 24 : at + 28] = b"\xff" * 4
    return bytes(data)


def _mov_that_refers_to_a_file() -> bytes:
    data = bytearray(samples.clip("mov"))
    at = _box(data, b"url ") if b"url " in data else _box(data, b"alis")
    data[at : at + 4] = bytes(4)  # not in this very file
    return bytes(data)


def _boxes(kind: bytes, count: int) -> bytes:
    return samples.clip()[:32] + (struct.pack(">I", 8) + kind) * count


def _nested_boxes(depth: int) -> bytes:
    head = samples.clip()[:32]
    return head + b"".join(struct.pack(">I", 8 * (depth - level)) + b"moov" for level in range(depth))


def webm_of_tiny_packets(count: int) -> bytes:
    """Return a clip in which so many packets of one byte follow the real ones, seven bytes each."""
    data = _webm_of_unknown_size()
    cluster = b"\x1f\x43\xb6\x75\x01" + b"\xff" * 7 + b"\xe7\x81\x00"  # of unknown size too, at 0
    return data + cluster + b"\xa3\x85\x81\0\0\x80\0" * count


def _webm_of_unknown_size() -> bytes:
    data = samples.clip("webm")
    start = data.index(b"\x18\x53\x80\x67") + 4
    return data[:start] + b"\x01" + b"\xff" * 7 + data[start + 8 :]


def _webm_with_attachments() -> bytes:
    name, kind, body = (_sized(each) for each in (b"evil.html", b"text/html", SCRIPT * 10_000))
    file = b"\x61\xa7" + _sized(b"\x46\x6e" + name + b"\x46\x60" + kind + b"\x46\x5c" + body)
    data = _webm_of_unknown_size()
    first = data.index(b"\x1f\x43\xb6\x75")
    return data[:first] + b"\x19\x41\xa4\x69" + _sized(file * 20) + data[first:]


def _sized(body: bytes) -> bytes:
    return b"\x01" + len(body).to_bytes(7) + body


def _wav_that_lies(size: int) -> bytes:
    data = bytearray(samples.wav())
    at = data.index(b"data") + 4
    data[at : at + 4] = struct.pack("<I", size)
    return bytes(data)


def _wav_of_many_chunks() -> bytes:
    plain = samples.wav()
    return plain[:12] + b"junk\0\0\0\0" * 500_000 + plain[12:]


def _ogg_in_a_loop() -> bytes:
    return samples.sound("ogg", "libopus") * 500


def _mp3_with_a_huge_tag() -> bytes:
    return b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + samples.sound("mp3", "mp3")


def _mp3_with_a_cover() -> bytes:
    cover = samples.bomb_png()
    frame = b"\0image/png\0\x03\0" + cover
    frame = b"APIC" + struct.pack(">I", len(frame)) + b"\0\0" + frame
    size = len(frame)
    head = bytes((size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127))
    return b"ID3\x03\0\0" + head + frame + samples.sound("mp3", "mp3")


def _clip_of_one_picture_an_hour() -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for hour in range(3):
            frame = av.VideoFrame.from_image(Image.new("RGB", (64, 48)))  # type: ignore[no-untyped-call] # partly annotated
            frame.pts = hour * 3600
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()


#: What is none of the types that are taken, whatever it pretends.
REFUSED: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "one byte": lambda: b"\x89",
    "svg": lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "html": lambda: b"<!doctype html>" + SCRIPT,
    "pdf": lambda: b"%PDF-1.7\n1 0 obj << /Type /Catalog >> endobj\n%%EOF",
    "zip": lambda: b"PK\x03\x04" + bytes(400),
    "postscript": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (w) file\n",
    "playlist": lambda: b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
    "concat script": lambda: b"ffconcat version 1.0\nfile /etc/passwd\n",
    "dash manifest": lambda: b'<?xml version="1.0"?><MPD><BaseURL>file:///etc/passwd</BaseURL></MPD>',
    "session description": lambda: b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\nm=video 5004 RTP/AVP 96\r\n",
    "matroska with references": lambda: samples.clip("matroska"),
    "jpeg head, script body": lambda: samples.image("JPEG")[:24] + SCRIPT * 40,
    "gif head, script body": lambda: b"GIF89a/*" + b"*/alert(1);" * 40,
    "png of 20,000 x 20,000": samples.bomb_png,
    "png of 9,000 x 9,000": lambda: samples.bomb_png(side=9000),
    "png with a chunk of 4 GB": lambda: samples.image()[:33] + b"\xff\xff\xff\xf0tEXt" + bytes(40),
    "png of 2^31 - 1 squared": lambda: PNG_MAGIC + _png_chunk(b"IHDR", b"\x7f\xff\xff\xff" * 2 + b"\x08\x06\0\0\0"),
    "jpeg of 65,535 x 65,535": _jpeg_of_65535_squared,
    "gif of 65,535 x 65,535": lambda: _gif(1, size=(65535, 65535)),
    "webp of 16,384 x 16,384": _webp_canvas_of_16384_squared,
    "boxes in boxes": lambda: _nested_boxes(100_000),
    "boxes after boxes": lambda: _boxes(b"free", 1_000_000),
    "wav of 4 GB": lambda: _wav_that_lies(0xFFFFFFFE),
    "wav with a chunk of 2 GB": lambda: samples.wav()[:16] + b"\xff\xff\xff\x7f" + samples.wav()[20:],
}

#: What may be taken or refused, as long as it costs little.
COSTLY: dict[str, Callable[[], bytes]] = {
    "jpeg and script": lambda: samples.image("JPEG") + SCRIPT,
    "jpeg with a script in its comment": lambda: _jpeg_with(0xFE, SCRIPT * 100),
    "gif and zip": _gif_and_zip,
    "png with a text of 600 MB": lambda: _text_bomb(b"zTXt"),
    "png with an international text of 600 MB": lambda: _text_bomb(b"iTXt"),
    "png with 2,000 broken texts": _many_texts,
    "png with a profile of 200 MB": lambda: png_of((b"iCCP", b"x\0\0" + _zeros(200))),
    "png of 2^31 - 1 pictures": _apng_that_never_ends,
    "png with an exif directory of itself": lambda: png_of((b"eXIf", _exif_directory_of_itself()[12:])),
    "jpeg with an exif directory of itself": _exif_directory_of_itself,
    "jpeg with exif values of 4 GB": _exif_of_huge_values,
    "jpeg with a profile of 16 MB": _profile_in_255_parts,
    "jpeg with 500 comments": lambda: _jpeg_with(0xFE, bytes(65_000), times=500),
    "gif of 100,000 pictures": lambda: _gif(100_000),
    "gif without an end": lambda: _gif(10_000, end=b""),
    "webp of 60 pictures": _animated_webp,
    "mp4 that says it never ends": _mp4_without_end,
    "mp4 of huge steps": _mp4_of_huge_steps,
    "mp4 of a million samples": lambda: _mp4_of_many_samples(1_000_000),
    "mp4 of 200 million samples": lambda: _mp4_of_many_samples(200_000_000),
    "mp4 of 65,535 x 65,535": _mp4_in_65535_squared,
    "mov that refers to a file": _mov_that_refers_to_a_file,
    "webm of a million packets": lambda: webm_of_tiny_packets(1_000_000),
    "webm with attachments": _webm_with_attachments,
    "wav without a length": lambda: _wav_that_lies(0xFFFFFFFF),
    "wav of many chunks": _wav_of_many_chunks,
    "ogg of 500 songs": _ogg_in_a_loop,
    "mp3 with a tag of 256 MB": _mp3_with_a_huge_tag,
    "mp3 with a bomb as its cover": _mp3_with_a_cover,
    "clip of a picture an hour": _clip_of_one_picture_an_hour,
}

#: One good file of every type that is taken.
GOOD: dict[str, Callable[[], bytes]] = {
    "png": samples.image,
    "jpeg": lambda: samples.image("JPEG", size=(200, 150)),
    "progressive jpeg": lambda: _saved("JPEG", progressive=True),
    "webp": lambda: samples.image("WEBP"),
    "animated webp": _animated_webp,
    "gif": lambda: samples.image("GIF"),
    "mp4": lambda: samples.clip(sound="aac"),
    "mov": lambda: samples.clip("mov"),
    "webm": lambda: samples.clip("webm", sound="libopus"),
    "mp3": lambda: samples.sound("mp3", "mp3"),
    "m4a": lambda: samples.sound("ipod", "aac"),
    "ogg": lambda: samples.sound("ogg", "libopus"),
    "wav": samples.wav,
}


def _saved(format_: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((200, 150), 60).save(out, format_, **options)
    return out.getvalue()
