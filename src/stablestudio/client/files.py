"""Files that a buyer hands over: what they are, which of them go inside the order, and where inputs name them."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from stablestudio.client.errors import FileUnusable
from stablestudio.client.orders import Upload
from stablestudio.magic import HEAD, sniff

INLINE_BYTES = 3_000_000
"""Becomes 4 million characters of `data:` URI; the service takes a little more, and a body of 6 million bytes."""

Source = Path | bytes
Handed = Path | bytes | bytearray | memoryview | IO[bytes]
"""What a program may put into a media field."""

_HANDED = "Hand over a pathlib.Path, bytes, or a file opened with mode 'rb'; nothing was paid for it."
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
# A container of clips may hold a sound alone, which nobody sees by the first bytes.
_MAY_BE = {("video/mp4", "audio/mp4"), ("video/quicktime", "audio/mp4")}


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
    """Look at a file, whose first bytes tell its type; raise `FileUnusable`, also where they belie a type that is given."""
    with _open(source) as file:
        head, size = file.read(HEAD), file.seek(0, io.SEEK_END)
    if not size:
        raise FileUnusable(f"{_called(source)} is empty.")
    seen = sniff(head)
    if content_type and seen not in (None, content_type) and (seen, content_type) not in _MAY_BE:
        raise FileUnusable(f"{_called(source)} is {seen}, not {content_type}.")
    found = content_type or seen
    if found is None or (content_type is None and found not in _SUFFIXES):
        raise FileUnusable(f"{_called(source)} is no picture, clip or sound of a known type.")
    return MediaFile(source=source, name=_name(source, found), content_type=found, size=size)


def source_of(handed: Handed) -> Source:
    """Return the path, or the bytes, an open file's from where it stands; raise `FileUnusable` for what is no file."""
    match handed:
        case Path() | bytes():
            return handed
        case bytearray() | memoryview():
            return bytes(handed)
        case io.IOBase():
            return _read(handed)
    raise FileUnusable(f"{type(handed).__name__} is no file.", hint=_HANDED)


def inline(files: Iterable[MediaFile]) -> set[MediaFile]:
    """Return the files that go inside the order: each, in turn, with which all that do have 3 MB at most together.

    A file that is named several times goes inside as often.
    """
    chosen: set[MediaFile] = set()
    room = INLINE_BYTES
    for file, times in Counter(files).items():
        if file.size * times <= room:
            chosen.add(file)
            room -= file.size * times
    return chosen


def files_at_hand(value: Any) -> Any:
    """Return an input whose files are all paths or bytes, which can be read more than once; raise `FileUnusable`."""
    match value:
        case bytearray() | memoryview() | io.IOBase():
            return source_of(cast("Handed", value))
        case Mapping():
            return {name: files_at_hand(each) for name, each in value.items()}
        case list() | tuple():
            return [files_at_hand(each) for each in value]
    return value


def sources_in(value: Any) -> Iterator[Source]:
    """Yield every file that an input holds, however deep in its lists, as often as it does."""
    match value:
        case Path() | bytes():
            yield value
        case Mapping():
            for each in value.values():
                yield from sources_in(each)
        case list() | tuple():
            for each in value:
                yield from sources_in(each)


def with_links(value: Any, links: Mapping[Source, str]) -> Any:
    """Return an input with a link in place of each file and each upload."""
    match value:
        case Path() | bytes():
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


def _read(file: io.IOBase) -> bytes:
    """Read an open file and put it back to where it stood, so that a quote leaves it to the order."""
    try:
        stood = file.tell() if file.seekable() else None
        data = file.read()
        if stood is not None:
            file.seek(stood)
    except (OSError, ValueError) as error:
        raise FileUnusable(f"The open file cannot be read: {error}.", hint=_HANDED) from None
    if not isinstance(data, bytes):
        raise FileUnusable("The file is open as text.", hint=_HANDED)
    return data


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
