"""The files that go to a vendor: read once, named by their bytes, made to fit its limits."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from typing import Protocol

from stablestudio.catalog import MediaInput
from stablestudio.catalog.values import MediaKind, Role
from stablestudio.errors import StudioError
from stablestudio.media.addresses import FetchPolicy, FetchRefused, admit, read_url
from stablestudio.media.decoding import DECODER, DecoderUnavailable
from stablestudio.media.inputs import InputReader
from stablestudio.media.probe import UnreadableMedia
from stablestudio.media.transforms import STILLS, Rewritten
from stablestudio.providers.faults import failed
from stablestudio.providers.provider import Failed, FailureKind, NotAccepted, Work

_POLICY = FetchPolicy()

Publish = Callable[[Work, MediaInput], Awaitable[str | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaFile:
    """One input file, confirmed by a decoder: its type, its size in pixels as displayed, its length in seconds.

    `url` is its public https address where it has one, for vendors that take no bytes.
    """

    path: tuple[str | int, ...]
    kind: MediaKind
    role: Role
    data: bytes
    content_type: str
    url: str | None = None
    width: int = 0
    height: int = 0
    seconds: float | None = None


class MediaSource(Protocol):
    """Where adapters get the files of work from."""

    async def read(self, work: Work) -> tuple[MediaFile, ...]:
        """Return the files in the order of `work.input.media()`. Raises `StudioError` fit for the buyer."""
        ...

    def has_address(self, url: str) -> bool:
        """Tell whether a vendor could fetch a file of an input by itself, without asking anybody."""
        ...


class InputFiles:
    """The files as the service itself reads them: earlier results, own links, the guarded fetch.

    `publish` returns a public https link to a file that is kept here; there is none where nobody outside can follow one.
    """

    def __init__(self, reader: InputReader, *, publish: Publish | None = None) -> None:
        self._reader = reader
        self._publish = publish

    async def read(self, work: Work) -> tuple[MediaFile, ...]:
        return tuple([await self._file(work, media) for media in work.input.media()])

    def has_address(self, url: str) -> bool:
        return public_url(url) is not None or (self._publish is not None and url.startswith("job:"))

    async def _file(self, work: Work, media: MediaInput) -> MediaFile:
        data = await self._reader.read(media.url, wallet=work.wallet, order_id=work.job_id, as_of_ms=work.ordered_at)
        seen = await DECODER.probe(data)
        if seen.kind != media.kind:
            place = ".".join(map(str, media.path))
            raise UnreadableMedia(f"{place} must be of the kind {media.kind}, but the file's kind is {seen.kind}.")
        # A link to what was checked, before an address that may lead to something else by now.
        url = await self._publish(work, media) if self._publish is not None else None
        url = url or public_url(media.url)
        return MediaFile(
            path=media.path,
            kind=media.kind,
            role=media.role,
            data=data,
            content_type=seen.content_type,
            url=url,
            width=seen.width,
            height=seen.height,
            seconds=seen.seconds,
        )


async def read_files(
    source: MediaSource, work: Work, *, fit: Callable[[MediaFile], Awaitable[MediaFile]] | None = None
) -> tuple[MediaFile, ...] | Failed:
    """Return the files of work, each made to `fit`, or the failure that one which cannot be read is.

    Nothing was asked of a vendor yet, so the failure is certain. Raises `NotAccepted` where it is our own, and may pass.
    """
    try:
        files = await source.read(work)
        return files if fit is None else tuple([await fit(file) for file in files])
    except DecoderUnavailable as error:
        raise NotAccepted(error.message, kind=FailureKind.RATE_LIMITED) from error
    except StudioError as error:
        return failed(FailureKind.INVALID_INPUT, error.message)


def public_url(url: str) -> str | None:
    """Return an address that a vendor could fetch itself, or None."""
    try:
        admit(read_url(url), _POLICY)
    except FetchRefused:
        return None
    return url


def data_url(file: MediaFile) -> str:
    """Return the file as a `data:` URI."""
    return f"data:{file.content_type};base64,{base64.b64encode(file.data).decode()}"


async def shrink(
    file: MediaFile, *, max_bytes: int, types: Collection[str] = STILLS, longest: int | None = None
) -> MediaFile:
    """Return an image that fits a vendor's limits; one that fits already comes back untouched.

    Others are written anew as PNG (if they have transparency) or JPEG, smaller and smaller until they fit; `longest` is
    the limit of the longer side in pixels. Raises `UnreadableMedia`.
    """
    if longest is None and file.content_type in types and len(file.data) <= max_bytes:
        return file
    made = await DECODER.shrunk(file.data, max_bytes=max_bytes, types=types, longest=longest)
    return _anew(file, made)


async def crop_to(file: MediaFile, size: tuple[int, int]) -> MediaFile:
    """Return an image of exactly this size: scaled to cover it, the middle kept, opaque. Raises `UnreadableMedia`."""
    return _anew(file, await DECODER.cropped(file.data, size=size))


def _anew(file: MediaFile, made: Rewritten | None) -> MediaFile:
    if made is None:
        return file
    # Its public address, if any, leads to the file as it was.
    return replace(file, data=made.data, content_type=made.content_type, url=None, width=made.width, height=made.height)
