"""Work for the tests of vendors: any offering, any body, files that come from memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from stablestudio import catalog
from stablestudio.errors import StudioError
from stablestudio.media.probe import probe
from stablestudio.providers.inputs import MediaFile, public_url
from stablestudio.providers.provider import Work
from tests.doubles import NOW_MS, WALLET, png

JOB = "job_00000000000000000000000001"


def work(key: str, *, model: str = "", job_id: str = JOB, **changes: Any) -> Work:
    """Return work of the offering `key`: its example, with changes; None leaves a field out."""
    offering = catalog.find(*key.split("/"))
    assert offering is not None
    body = {name: value for name, value in {**offering.input.example, **changes}.items() if value is not None}
    return of_body(key, body, model=model, job_id=job_id)


def of_body(key: str, body: Mapping[str, Any], *, model: str = "", job_id: str = JOB) -> Work:
    """Return work of the offering `key` with exactly this body."""
    offering = catalog.find(*key.split("/"))
    assert offering is not None
    return Work(
        job_id=job_id,
        wallet=WALLET,
        ordered_at=NOW_MS,
        offering=offering,
        input=offering.read(json.dumps(body).encode()),
        model=model,
    )


class Files:
    """A source that answers from a list, repeating the last; an error in it is raised."""

    def __init__(self, *given: bytes | StudioError) -> None:
        self._given = given or (png((64, 48)),)
        self.reads = 0

    def has_address(self, url: str) -> bool:
        return public_url(url) is not None

    async def read(self, work: Work) -> tuple[MediaFile, ...]:
        self.reads += 1
        media = work.input.media()
        return tuple(self._file(work, index) for index in range(len(media)))

    def _file(self, work: Work, index: int) -> MediaFile:
        data = self._given[min(index, len(self._given) - 1)]
        if isinstance(data, StudioError):
            raise data
        media, seen = work.input.media()[index], probe(data)
        return MediaFile(
            path=media.path,
            kind=media.kind,
            role=media.role,
            data=data,
            content_type=seen.content_type,
            url=public_url(media.url),
            width=seen.width,
            height=seen.height,
            seconds=seen.seconds,
        )


def end_user(wallet: str) -> str:
    """Stand in for the salted hash of a wallet."""
    return f"user-{len(wallet)}"
