"""Bringing the files of a finished job to disk: whole or not at all, under a name that tells the job."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from stablestudio.client.errors import DownloadFailed, LinkExpired
from stablestudio.client.jobs import Job

_SUFFIXES = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/webp": ".webp",
    "image/gif": ".gif",
    "image/svg+xml": ".svg",
    "video/mp4": ".mp4",
    "video/webm": ".webm",
}
_EXPIRED = {403, 404, 410}
_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One file of a job: its link and the end of its name."""

    url: str
    label: str = ""


def assets_of(job: Job) -> tuple[Asset, ...]:
    """Return the files of a complete job, the main one first."""
    result = job.result
    if result is None:
        return ()
    # A picture is its own preview; of a clip the thumbnail is worth having.
    preview = result.thumbnail_url if result.video_url else None
    links = ((result.image_url, ""), (result.video_url, ""), (preview, "-thumbnail"))
    return tuple(Asset(url=url, label=label) for url, label in links if url)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a job's files go: a folder takes all under the job's name, a file name takes the main one alone."""

    target: Path
    job_id: str

    @property
    def is_folder(self) -> bool:
        return self.target.is_dir() or not self.target.suffix

    def takes(self, asset: Asset) -> bool:
        return self.is_folder or not asset.label

    def path(self, asset: Asset, *, content_type: str) -> Path:
        if not self.is_folder:
            return self.target
        kind = content_type.partition(";")[0].strip().lower()
        suffix = _SUFFIXES.get(kind) or Path(urlsplit(asset.url).path).suffix[:6] or ".bin"
        return self.target / f"{self.job_id}{asset.label}{suffix}"


def save(http: httpx2.Client, asset: Asset, *, place: Place, sleep: Callable[[float], None]) -> Path:
    """Fetch one file and return its path; raise `LinkExpired` or `DownloadFailed`."""
    if urlsplit(asset.url).scheme not in {"http", "https"}:
        raise DownloadFailed(f"Job {place.job_id} names a link that is neither http nor https.")
    for attempt in range(_TRIES):
        try:
            return _fetch(http, asset, place=place)
        except httpx2.HTTPError as error:
            if attempt == _TRIES - 1:
                raise DownloadFailed(f"A file of job {place.job_id} broke off: {type(error).__name__}.") from error
        sleep(0.5 * 2**attempt)
    raise AssertionError("the last round returns or raises")


def _fetch(http: httpx2.Client, asset: Asset, *, place: Place) -> Path:
    with http.stream("GET", asset.url, follow_redirects=True) as response:
        if response.status_code in _EXPIRED:
            raise LinkExpired
        if response.status_code != 200:
            raise DownloadFailed(f"A file of job {place.job_id} was answered with {response.status_code}.")
        path = place.path(asset, content_type=response.headers.get("content-type", ""))
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with draft.open("wb") as file:
                for chunk in response.iter_bytes():
                    file.write(chunk)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        return path
