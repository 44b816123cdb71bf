"""Queries over everything that the books say is kept as a file, whosever it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import sqlalchemy as sa

from stablestudio.store.tables import assets, copies, jobs, storage_marks, upload_parts, uploads

_PAGE = 1000


class KeptFile(NamedTuple):
    """A file: where it is kept, its SHA-256 in lower hex where the books have it, and whether they say that it is there."""

    key: str
    sha256: str | None
    certain: bool


_CERTAIN, _PERHAPS = sa.literal(1).label("certain"), sa.literal(0).label("certain")
_KEPT = sa.union_all(
    sa.select(assets.c.key, assets.c.sha256, _CERTAIN).where(assets.c.gone_at.is_(None)),
    sa.select(uploads.c.key, uploads.c.sha256, _CERTAIN).where(uploads.c.key.is_not(None)),
    # Parts that have arrived; what has no etag is still on its way.
    sa.select(upload_parts.c.key, sa.null(), _CERTAIN).where(upload_parts.c.etag != ""),
    # By which processes know that they share a storage; see server/storage.py.
    sa.select(storage_marks.c.key, sa.null(), _CERTAIN),
    # A copy is noted before it is written.
    sa.select(copies.c.key, copies.c.sha256, _PERHAPS),
    # What a vendor answered with, until the job's own file is there; see providers/kept.py.
    sa.select("tasks/" + jobs.c.id, sa.null(), _PERHAPS).where(
        jobs.c.state.in_(("pending", "loading")), jobs.c.task.is_not(None)
    ),
).subquery()


def count(connection: sa.Connection) -> int:
    """Return how many files there should be."""
    return connection.execute(sa.select(sa.func.count()).select_from(_KEPT)).scalar_one()


def kept(connection: sa.Connection) -> Iterator[KeptFile]:
    """Return all of them, a page in memory at a time."""
    statement = sa.select(_KEPT.c.key, _KEPT.c.sha256, _KEPT.c.certain).execution_options(yield_per=_PAGE)
    for row in connection.execute(statement):
        yield KeptFile(*row)


def still_kept(connection: sa.Connection, key: str) -> bool:
    """Tell whether the books still say that there is such a file."""
    return connection.execute(sa.select(_KEPT.c.key).where(_KEPT.c.key == key).limit(1)).first() is not None
