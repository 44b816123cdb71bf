"""The mark of the secret that all processes of a database share: it tells two secrets apart, and nothing of either."""

from __future__ import annotations

import hashlib
import hmac

import sqlalchemy as sa

from stablestudio.store.inserting import insert
from stablestudio.store.tables import secret_marks

_NAME = "secret"


def mark_of(secret: bytes) -> str:
    """Return the mark of a secret."""
    return hmac.new(secret, b"stablestudio secret mark", hashlib.sha256).hexdigest()


def agrees(connection: sa.Connection, secret: bytes) -> bool:
    """Tell whether this is the database's secret; the first one is."""
    first = insert(connection, secret_marks).values(name=_NAME, mark=mark_of(secret))
    connection.execute(first.on_conflict_do_nothing())
    kept = connection.execute(sa.select(secret_marks.c.mark).where(secret_marks.c.name == _NAME)).scalar_one()
    return hmac.compare_digest(kept, mark_of(secret))


def replace(connection: sa.Connection, secret: bytes) -> None:
    """Make this the database's secret."""
    connection.execute(sa.delete(secret_marks))
    connection.execute(sa.insert(secret_marks).values(name=_NAME, mark=mark_of(secret)))
