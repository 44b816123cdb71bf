"""Input files of every kind for the tests of vendors that take pictures, clips and sounds."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from stablestudio.catalog.values import MediaKind
from stablestudio.media.probe import probe
from stablestudio.providers.inputs import MediaFile, public_url
from stablestudio.providers.provider import Work
from tests.media_samples import clip, image, wav

TINY: Mapping[MediaKind, tuple[bytes, str]] = {
    "image": (b"picture", "image/png"),
    "video": (b"clip", "video/mp4"),
    "audio": (b"sound", "audio/wav"),
}


def tiny(work: Work, *, url: str | None = "https://example.com/input") -> tuple[MediaFile, ...]:
    """Return a file for each that the work names, of a few bytes that nobody looks into."""
    return tuple(
        MediaFile(
            path=media.path,
            kind=media.kind,
            role=media.role,
            data=TINY[media.kind][0],
            content_type=TINY[media.kind][1],
            url=url,
            width=64,
            height=48,
        )
        for media in work.input.media()
    )


@cache
def sample(kind: MediaKind) -> bytes:
    """Return a real file of a kind."""
    match kind:
        case "image":
            return image(size=(64, 48))
        case "video":
            return clip(size=(64, 48))
        case "audio":
            return wav()


def files_in(body: object) -> int:
    """Return how many `data:` URIs a request carries."""
    match body:
        case dict():
            return sum(files_in(each) for each in body.values())
        case list():
            return sum(files_in(each) for each in body)
        case str():
            return ";base64," in body and body.startswith("data:")
        case _:
            return 0


class Samples:
    """A source of real files; `instead` replaces the first one of a kind."""

    def __init__(self, instead: Mapping[MediaKind, bytes] | None = None, *, without_urls: bool = False) -> None:
        self._instead = instead or {}
        self._without_urls = without_urls

    def has_address(self, url: str) -> bool:
        return not self._without_urls and public_url(url) is not None

    async def read(self, work: Work) -> tuple[MediaFile, ...]:
        files = []
        for media in work.input.media():
            data = self._instead.get(media.kind) or sample(media.kind)
            seen = probe(data)
            files.append(
                MediaFile(
                    path=media.path,
                    kind=media.kind,
                    role=media.role,
                    data=data,
                    content_type=seen.content_type,
                    url=None if self._without_urls else public_url(media.url),
                    width=seen.width,
                    height=seen.height,
                    seconds=seen.seconds,
                )
            )
        return tuple(files)
