"""Files that a buyer hands over: what they are, which of them go inside the order, and where inputs name them."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stablestudio.client.errors import FileUnusable
from stablestudio.client.orders import Upload
from stablestudio.magic import HEAD, sniff

INLINE_BYTES = 3_000_000
"""Becomes 4 million characters of `data:` URI; the service takes a little more, and a body of 6 million bytes."""

Source = Path | bytes
_SUFFIXES = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/webp": ".webp",
    "video/mp4": ".mp4",
    "video/webm": ".webm",
    "video/quicktime": ".mov",
    "audio/mpeg": ".mp3",
    "audio/wav": ".wav",
    "audio/mp4": ".m4a",
    "audio/ogg": ".ogg",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaFile:
    """A file as it was when it was looked at; its bytes are read when they are needed."""

    source: Source = field(repr=False)
    name: str
    content_type: str
    size: int

    @property
    def suffix(self) -> str:
        """Return the usual end of a name for this type."""
        return _SUFFIXES.get(self.content_type, "")

    def piece(self, start: int, size: int) -> bytes:
        """Read some bytes, fewer where the file has become shorter; raise `FileUnusable`."""
        with _open(self.source) as file:
            file.seek(start)
            return file.read(size)

    def digest(self) -> str:
        """Return the SHA-256 of all bytes, in hex; raise `FileUnusable`."""
        with _open(self.source) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def data_uri(self) -> str:
        """Return the file as a `data:` URI."""
        return f"data:{self.content_type};base64,{base64.b64encode(self.piece(0, self.size)).decode()}"


def open_file(source: Source, *, content_type: str | None = None) -> MediaFile:
    """Look at a file, whose first bytes tell its type unless it is given; raise `FileUnusable`."""
    with _open(source) as file:
        head, size = file.read(HEAD), file.seek(0, io.SEEK_END)
    if not size:
        raise FileUnusable(f"{_called(source)} is empty.")
    found = content_type or sniff(head)
    if found is None:
        raise FileUnusable(f"{_called(source)} is no picture, clip or sound of a known type.")
    return MediaFile(source=source, name=_name(source, found), content_type=found, size=size)


def inline(files: Iterable[MediaFile]) -> list[MediaFile]:
    """Return the files that go inside the order: each, in turn, with which all that do have 3 MB at most together."""
    chosen: list[MediaFile] = []
    for file in files:
        if sum(each.size for each in chosen) + file.size <= INLINE_BYTES:
            chosen.append(file)
    return chosen


def paths_in(value: Any) -> Iterator[Path]:
    """Yield every path that an input holds, however deep in its lists."""
    match value:
        case Path():
            yield value
        case Mapping():
            for each in value.values():
                yield from paths_in(each)
        case list() | tuple():
            for each in value:
                yield from paths_in(each)


def with_links(value: Any, links: Mapping[Path, str]) -> Any:
    """Return an input with a link in place of each path and each upload."""
    match value:
        case Path():
            return links[value]
        case Upload():
            return value.blob_url
        case Mapping():
            return {name: with_links(each, links) for name, each in value.items()}
        case list() | tuple():
            return [with_links(each, links) for each in value]
    return value


@contextlib.contextmanager
def _open(source: Source) -> Iterator[io.BytesIO | io.BufferedReader]:
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
            yield file
    except OSError as error:
        raise FileUnusable(f"{_called(source)} cannot be read: {error.strerror}.") from None


def _called(source: Source) -> str:
    return "This file" if isinstance(source, bytes) else str(source)


def _name(source: Source, content_type: str) -> str:
    if isinstance(source, bytes):
        return f"file{_SUFFIXES.get(content_type, '')}"
    try:
        source.name.encode()
    except UnicodeEncodeError:
        raise FileUnusable(f"The name of {source!r} is not UTF-8.") from None
    return source.name
