"""How long finished jobs took: the history that estimates are made of."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from stablestudio.store.tables import jobs


def durations(connection: sa.Connection, types: Iterable[str], *, last: int) -> dict[str, list[int]]:
    """Return the milliseconds from payment to result of each type's last complete jobs; one short look at an index each."""
    return {each: list(connection.execute(LAST, {"type": each, "last": last}).scalars()) for each in types}


LAST = (
    sa.select(jobs.c.finished_at - jobs.c.created_at)
    .where(jobs.c.state == sa.literal_column("'complete'"), jobs.c.type == sa.bindparam("type", type_=sa.Text))
    .order_by(jobs.c.finished_at.desc())
    .limit(sa.bindparam("last", type_=sa.Integer))
)
