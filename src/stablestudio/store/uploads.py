"""Queries of uploads: a paid place for one file, its parts while they arrive, and the file once it is there.

Bytes are noted before they are written, and their row goes after them: in `upload_parts`, as a *loose* one of no session.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import sqlalchemy as sa

from stablestudio.store.locking import lock_upload
from stablestudio.store.tables import upload_parts, uploads


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A place for one file. It is `reserved`, then `stored`, then `confirmed` by its owner, and `expired` one day.

    `key` is where the file is kept, under a name that nobody could guess or write before; times in milliseconds.
    """

    id: str
    order_id: str
    wallet: str
    pathname: str
    content_type: str
    state: str
    key: str | None
    size: int | None
    sha256: str | None
    created_at: int
    expires_at: int
    stored_at: int | None
    confirmed_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a file that arrives in several; `key` is where its bytes are kept until all are there."""

    session: str
    number: int
    key: str
    etag: str
    size: int


NOBODYS = 0  # the time of a loose row whose bytes nobody is writing
_LOOSE = "-"  # begins what stands for the session of a loose row; no client's session does
_ENDED = uploads.c.state.in_(("abandoned", "expired"))
_COLUMNS = tuple(uploads.c[field.name] for field in fields(Upload))


def reserve(connection: sa.Connection, upload: Upload) -> None:
    """Open the place that an order paid for; its key makes a second one impossible."""
    connection.execute(sa.insert(uploads).values({field.name: getattr(upload, field.name) for field in fields(Upload)}))


def find(connection: sa.Connection, upload_id: str) -> Upload | None:
    """Return an upload by its id."""
    return _one(connection, uploads.c.id == upload_id)


def find_by_order(connection: sa.Connection, order_id: str) -> Upload | None:
    """Return the upload that an order paid for."""
    return _one(connection, uploads.c.order_id == order_id)


def find_by_pathname(connection: sa.Connection, pathname: str) -> Upload | None:
    """Return an upload by the name that its token grants."""
    return _one(connection, uploads.c.pathname == pathname)


def find_by_key(connection: sa.Connection, key: str) -> Upload | None:
    """Return an upload by the storage key of its file."""
    return _one(connection, uploads.c.key == key)


def store(connection: sa.Connection, *, upload_id: str, key: str, size: int, sha256: str, now: int) -> bool:
    """Take noted bytes as the upload's file; `False` where another one was first: a file is never overwritten."""
    changed = connection.execute(
        sa.update(uploads)
        .where(uploads.c.id == upload_id, uploads.c.state == "reserved")
        .values(state="stored", key=key, size=size, sha256=sha256, stored_at=now)
    )
    if changed.rowcount == 1:
        forget(connection, [key])
    return changed.rowcount == 1


def give_back(connection: sa.Connection, *, upload_id: str, key: str) -> bool:
    """Let another file come, because this one is not what was announced; `False` where it was confirmed meanwhile."""
    changed = connection.execute(
        sa.update(uploads)
        .where(uploads.c.id == upload_id, uploads.c.state == "stored", uploads.c.key == key)
        .values(state="reserved", key=None, size=None, sha256=None, stored_at=None)
    )
    if changed.rowcount == 1:
        note(connection, upload_id=upload_id, key=key, now=NOBODYS)
    return changed.rowcount == 1


def confirm(connection: sa.Connection, *, upload_id: str, key: str, now: int) -> bool:
    """Let inputs point to the file; `False` where it is not the one that was looked at."""
    changed = connection.execute(
        sa.update(uploads)
        .where(uploads.c.id == upload_id, uploads.c.state == "stored", uploads.c.key == key)
        .values(state="confirmed", confirmed_at=now)
    )
    return changed.rowcount == 1


class Closed(Exception):
    """The upload takes no parts: its file is there, or its time is over."""


class TooMuch(Exception):
    """The parts of an upload are larger than its file may be, or too many."""


def note(connection: sa.Connection, *, upload_id: str, key: str, now: int, size: int = 0) -> None:
    """Note bytes, so that they are never without a row: they are about to be written, or, at `NOBODYS`, needed no more."""
    values = {"upload_id": upload_id, "created_at": now, "session": _LOOSE + key, "number": 0}
    connection.execute(sa.insert(upload_parts).values(values | {"key": key, "etag": "", "size": size}))


def note_part(
    connection: sa.Connection, *, upload_id: str, part: Part, max_bytes: int, max_parts: int, now: int
) -> None:
    """Note a part that is about to be written, with the size that it is going to have at the most.

    Raises `Closed`, and `TooMuch` where all parts of the upload have more than `max_bytes` together, those included
    that are on their way; the one that it replaces is not counted.
    """
    _require_open(connection, upload_id)
    others = sa.and_(upload_parts.c.upload_id == upload_id, ~_place(part))
    size, count = sa.func.coalesce(sa.func.sum(upload_parts.c.size), 0), sa.func.count()
    held, parts = connection.execute(sa.select(size, count).where(others)).one()
    if held + part.size > max_bytes or parts >= max_parts:
        raise TooMuch
    note(connection, upload_id=upload_id, key=part.key, size=part.size, now=now)


def add_part(connection: sa.Connection, *, upload_id: str, part: Part) -> None:
    """Make bytes that were noted and have arrived a part; an earlier one of its number is needed no more. Raises `Closed`."""
    _require_open(connection, upload_id)
    here = upload_parts.c.upload_id == upload_id
    loose = {"session": _LOOSE + upload_parts.c.key, "number": 0, "created_at": NOBODYS}
    connection.execute(sa.update(upload_parts).where(here, _place(part)).values(loose))
    values = {"session": part.session, "number": part.number, "etag": part.etag, "size": part.size}
    connection.execute(sa.update(upload_parts).where(here, upload_parts.c.key == part.key).values(values))


def parts_of(connection: sa.Connection, *, upload_id: str, session: str) -> list[Part]:
    """Return the parts of one session of an upload, in the order of their numbers."""
    columns = [upload_parts.c[field.name] for field in fields(Part)]
    here = sa.and_(upload_parts.c.upload_id == upload_id, upload_parts.c.session == session)
    statement = sa.select(*columns).where(here).order_by(upload_parts.c.number)
    return [Part(**row._mapping) for row in connection.execute(statement)]  # noqa: SLF001


def left_over(connection: sa.Connection, *, after: str, limit: int) -> list[str]:
    """Return where bytes of uploads are kept whose time is over, so that nobody is writing any for them, in order."""
    ended = sa.exists().where(uploads.c.id == upload_parts.c.upload_id, _ENDED)
    statement = sa.select(upload_parts.c.key).where(upload_parts.c.key > after, ended)
    return list(connection.scalars(statement.order_by(upload_parts.c.key).limit(limit)))


def unneeded(
    connection: sa.Connection, *, begun_before: int, after: str, limit: int, upload_id: str | None = None
) -> list[str]:
    """Return where bytes are kept that no upload, or not this one, needs any more.

    Those that somebody began to write at that time (ms) or later may still be on their way, and are left out. Keys come
    in their order. An upload whose file is there, or whose time is over, needs no parts.
    """
    loose = upload_parts.c.session.startswith(_LOOSE)
    closed = sa.exists().where(uploads.c.id == upload_parts.c.upload_id, uploads.c.state != "reserved")
    statement = sa.select(upload_parts.c.key).where(
        upload_parts.c.key > after,
        sa.or_(sa.and_(loose, upload_parts.c.created_at < begun_before), sa.and_(~loose, closed)),
    )
    if upload_id is not None:
        statement = statement.where(upload_parts.c.upload_id == upload_id)
    return list(connection.scalars(statement.order_by(upload_parts.c.key).limit(limit)))


def leave(connection: sa.Connection, key: str) -> None:
    """Note that nobody writes these bytes any more, whatever became of them."""
    mine = sa.and_(upload_parts.c.key == key, upload_parts.c.session == _LOOSE + key)
    connection.execute(sa.update(upload_parts).where(mine).values(created_at=NOBODYS))


def forget(connection: sa.Connection, keys: Sequence[str]) -> None:
    """Drop the rows of bytes that are gone, or that became an upload's file."""
    connection.execute(sa.delete(upload_parts).where(upload_parts.c.key.in_(keys)))


def abandon(connection: sa.Connection, *, before: int, limit: int) -> int:
    """Close places whose token ended before that time (ms) and that were never confirmed; return how many."""
    return _end(connection, _abandoned(before), order=uploads.c.expires_at, limit=limit, state="abandoned")


def expire(connection: sa.Connection, *, before: int, limit: int) -> int:
    """Keep files no longer that were confirmed before that time (ms); return how many."""
    return _end(connection, _expired(before), order=uploads.c.confirmed_at, limit=limit, state="expired")


def tally(connection: sa.Connection, *, abandoned: int, expired: int | None) -> tuple[int, int]:
    """Return how many files of uploads a purge would erase now, and how many bytes.

    That is of places whose token ended before `abandoned` (ms), of files confirmed before `expired`, where that is not
    never, and what was left of uploads that ended before.
    """
    old = _abandoned(abandoned) if expired is None else sa.or_(_abandoned(abandoned), _expired(expired))
    files = sa.select(uploads.c.size).where(old, uploads.c.key.is_not(None))
    left = sa.select(upload_parts.c.size).where(upload_parts.c.upload_id.in_(sa.select(uploads.c.id).where(_ENDED)))
    found = files.union_all(left).subquery()
    counted = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(found.c.size), 0))
    count, size = connection.execute(counted).one()
    return count, int(size)


# Written out so that the database sees that its partial indexes have these rows.
def _abandoned(before: int) -> sa.ColumnElement[bool]:
    states: list[sa.ColumnElement[str]] = [sa.literal_column("'reserved'"), sa.literal_column("'stored'")]
    return sa.and_(uploads.c.state.in_(states), uploads.c.expires_at < before)


def _expired(before: int) -> sa.ColumnElement[bool]:
    return sa.and_(uploads.c.state == sa.literal_column("'confirmed'"), uploads.c.confirmed_at < before)


def _end(
    connection: sa.Connection,
    which: sa.ColumnElement[bool],
    *,
    order: sa.Column[int],
    limit: int,
    state: str,
) -> int:
    old = sa.select(uploads.c.id, uploads.c.key).where(which).order_by(order).limit(limit)
    # One that somebody works with at this moment, such as its owner who confirms it, is left to the next time.
    ended = connection.execute(old.with_for_update(skip_locked=True, key_share=True)).all()
    for upload_id, key in ended:
        if key is not None:
            note(connection, upload_id=upload_id, key=key, now=NOBODYS)
        connection.execute(sa.update(uploads).where(uploads.c.id == upload_id).values(state=state, key=None))
    return len(ended)


def _require_open(connection: sa.Connection, upload_id: str) -> None:
    """Raise `Closed` where an upload takes no parts; until the commit it goes on taking them, and no other one counts them."""
    lock_upload(connection, upload_id)
    if connection.execute(sa.select(uploads.c.state).where(uploads.c.id == upload_id)).scalar() != "reserved":
        raise Closed


def _place(part: Part) -> sa.ColumnElement[bool]:
    return sa.and_(upload_parts.c.session == part.session, upload_parts.c.number == part.number)


def _one(connection: sa.Connection, condition: Any) -> Upload | None:
    row = connection.execute(sa.select(*_COLUMNS).where(condition)).first()
    return Upload(**row._mapping) if row else None  # noqa: SLF001
