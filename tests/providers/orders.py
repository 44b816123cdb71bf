"""Work and its files for requests that are only looked at: a prompt where the body has none, pictures of any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stablestudio.catalog import OFFERINGS
from stablestudio.providers.inputs import MediaFile
from stablestudio.providers.provider import Work
from tests.doubles import png
from tests.providers.works import of_body

BY_KEY = {offering.key: offering for offering in OFFERINGS}


def order(key: str, body: Mapping[str, Any] | None = None, *, model: str = "") -> Work:
    """Return work for an offering; its example where no body is given."""
    told = BY_KEY[key].input.example if body is None else {"prompt": "a cat"} | dict(body)
    return of_body(key, told, model=model)


def files(work: Work, *, size: tuple[int, int] = (64, 48), datas: Sequence[bytes] = ()) -> tuple[MediaFile, ...]:
    """Return an image for each that the work names; `datas` in place of the first ones."""
    missing = len(work.input.media()) - len(datas)
    made = [*datas, *([png(size)] * missing if missing else [])]
    return tuple(
        MediaFile(
            path=media.path,
            kind=media.kind,
            role=media.role,
            data=data,
            content_type="image/png",
            width=size[0],
            height=size[1],
        )
        for media, data in zip(work.input.media(), made, strict=True)
    )
