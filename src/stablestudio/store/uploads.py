"""Queries of uploads: a paid place for one file, its parts while they arrive, and the file once it is there."""

from __future__ import annotations

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
    """Take a file as the upload's; `False` where another one was first: a file is never overwritten."""
    changed = connection.execute(
        sa.update(uploads)
        .where(uploads.c.id == upload_id, uploads.c.state == "reserved")
        .values(state="stored", key=key, size=size, sha256=sha256, stored_at=now)
    )
    return changed.rowcount == 1


def give_back(connection: sa.Connection, *, upload_id: str, key: str) -> bool:
    """Let another file come, because this one is not what was announced; `False` where it was confirmed meanwhile."""
    changed = connection.execute(
        sa.update(uploads)
        .where(uploads.c.id == upload_id, uploads.c.state == "stored", uploads.c.key == key)
        .values(state="reserved", key=None, size=None, sha256=None, stored_at=None)
    )
    return changed.rowcount == 1


def confirm(connection: sa.Connection, *, upload_id: str, key: str, now: int) -> bool:
    """Let inputs point to the file; `False` where it is not the one that was looked at."""
    changed = connection.execute(
        sa.update(uploads)
        .where(uploads.c.id == upload_id, uploads.c.state == "stored", uploads.c.key == key)
        .values(state="confirmed", confirmed_at=now)
    )
    return changed.rowcount == 1


class TooMuch(Exception):
    """The parts of an upload are larger than its file may be."""


def add_part(connection: sa.Connection, *, upload_id: str, part: Part, max_bytes: int, now: int) -> str | None:
    """Note a part that has arrived; a number that comes again replaces the earlier one, whose key is returned.

    Raises `TooMuch` where all parts of the upload are larger than `max_bytes` together.
    """
    lock_upload(connection, upload_id)
    here = sa.and_(
        upload_parts.c.upload_id == upload_id,
        upload_parts.c.session == part.session,
        upload_parts.c.number == part.number,
    )
    earlier: str | None = connection.execute(sa.select(upload_parts.c.key).where(here)).scalar()
    connection.execute(sa.delete(upload_parts).where(here))
    values = {"upload_id": upload_id, "created_at": now} | {
        field.name: getattr(part, field.name) for field in fields(Part)
    }
    connection.execute(sa.insert(upload_parts).values(values))
    held = sa.select(sa.func.sum(upload_parts.c.size)).where(upload_parts.c.upload_id == upload_id)
    if connection.execute(held).scalar_one() > max_bytes:
        raise TooMuch
    return earlier


def parts_of(connection: sa.Connection, *, upload_id: str, session: str | None = None) -> list[Part]:
    """Return the parts of an upload, or of one of its sessions, in the order of their numbers."""
    columns = [upload_parts.c[field.name] for field in fields(Part)]
    statement = sa.select(*columns).where(upload_parts.c.upload_id == upload_id).order_by(upload_parts.c.number)
    if session is not None:
        statement = statement.where(upload_parts.c.session == session)
    return [Part(**row._mapping) for row in connection.execute(statement)]  # noqa: SLF001


def drop_parts(connection: sa.Connection, *, upload_id: str) -> list[str]:
    """Forget an upload's parts; return the keys of their bytes."""
    lock_upload(connection, upload_id)
    keys = [part.key for part in parts_of(connection, upload_id=upload_id)]
    connection.execute(sa.delete(upload_parts).where(upload_parts.c.upload_id == upload_id))
    return keys


def abandoned(connection: sa.Connection, *, before: int, limit: int) -> list[Upload]:
    """Return uploads whose token ended before that time (ms) and that were never confirmed, files and parts included."""
    statement = (
        sa.select(*_COLUMNS)
        .where(uploads.c.state.in_(("reserved", "stored")), uploads.c.expires_at < before)
        .order_by(uploads.c.expires_at)
        .limit(limit)
    )
    return [Upload(**row._mapping) for row in connection.execute(statement)]  # noqa: SLF001


def due(connection: sa.Connection, *, before: int, limit: int) -> list[Upload]:
    """Return uploads that were confirmed before that time (ms)."""
    statement = (
        sa.select(*_COLUMNS)
        # Written out so that the database sees that its partial index has these rows.
        .where(uploads.c.state == sa.literal_column("'confirmed'"), uploads.c.confirmed_at < before)
        .order_by(uploads.c.confirmed_at)
        .limit(limit)
    )
    return [Upload(**row._mapping) for row in connection.execute(statement)]  # noqa: SLF001


def expire(connection: sa.Connection, *, upload_id: str) -> None:
    """Note that an upload's file is not kept any more."""
    connection.execute(
        sa.update(uploads)
        .where(uploads.c.id == upload_id, uploads.c.state == "confirmed")
        .values(state="expired", key=None)
    )


def abandon(connection: sa.Connection, *, upload_id: str) -> bool:
    """Close a place that was never confirmed; `False` where it was."""
    changed = connection.execute(
        sa.update(uploads)
        .where(uploads.c.id == upload_id, uploads.c.state.in_(("reserved", "stored")))
        .values(state="abandoned", key=None)
    )
    return changed.rowcount == 1


def _one(connection: sa.Connection, condition: Any) -> Upload | None:
    row = connection.execute(sa.select(*_COLUMNS).where(condition)).first()
    return Upload(**row._mapping) if row else None  # noqa: SLF001
