"""The mark that a PostgreSQL bears while a backup is put into it: nobody uses it so, and the next restore clears it.

What a restore loads, brings up to date and notes are commits of their own; the mark goes with the last of them, which tells in a
comment what was restored: a restore that was cut off right after it is known as whole by that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from stablestudio.errors import StudioError
from stablestudio.store.database import words_of

MARK = "restoring"
# By which the session of pg_restore is found: it may outlive who started it.
COPIER = "stablestudio copy"
# What bears the comment: it is there in every revision, and is no table of the books.
_TOLD = "alembic_version"
# Of PostgreSQL's advisory lock: two restores into one database.
_LOCK = 5_402_403
_TAKE = sa.text("SELECT pg_try_advisory_lock(:lock)")
_END_COPIER = sa.text(
    "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity"
    " WHERE application_name = :copier AND datname = current_database() AND usename = current_user"
)
# What an extension brought along is not in the way.
_TABLES = f"""
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p', 'v', 'm', 'S') AND c.relname <> '{MARK}'
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
"""
_THERE = sa.text(f"SELECT c.relname {_TABLES} ORDER BY 1 LIMIT 5")
# The mark knows the schemas that are not the backup's.
_MAKE = sa.text(f"CREATE TABLE {MARK} AS SELECT nspname AS kept FROM pg_namespace")  # noqa: S608 - a constant
_DROP_ALL = sa.text(f"""
DO $$ DECLARE each record; BEGIN
    FOR each IN SELECT nspname FROM pg_namespace
        WHERE nspname !~ '^pg_' AND nspname NOT IN (SELECT kept FROM {MARK}) LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', each.nspname);
    END LOOP;
    FOR each IN SELECT c.relname, CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW'
        WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind {_TABLES} LOOP
        EXECUTE format('DROP %s IF EXISTS %I CASCADE', each.kind, each.relname);
    END LOOP;
    DROP TABLE {MARK};
END $$
""")  # noqa: S608 - a constant


class RestoreUnfinished(StudioError):
    """A backup was restored here, and not to its end."""

    hint = "Run stablestudio restore again, with the same backup."


class NotEmpty(Exception):
    """What is there in a database that should be empty."""


class Occupied(Exception):
    """Another restore is at work on a database."""


class NotEmptied(Exception):
    """A restore failed, and the database could not be emptied: it is half full, or the last commit came through."""


def require_none(connection: sa.Connection) -> None:
    """Raise `RestoreUnfinished` where the database bears the mark."""
    if sa.inspect(connection).has_table(MARK):
        raise RestoreUnfinished("A restore into this database was cut off, or is still at work.")


@contextmanager
def marked(engine: sa.Engine) -> Iterator[None]:
    """Mark an empty database, or one that a restore has left half full, which is emptied; at a fault it is empty again.

    Raises `NotEmpty` and `Occupied`, by which nothing is changed, and `NotEmptied`, by which all is left for the next restore.
    """
    with engine.connect() as holder:
        if not holder.execute(_TAKE, {"lock": _LOCK}).scalar():
            raise Occupied
        if sa.inspect(holder).has_table(MARK):
            _empty(holder)
        if there := holder.execute(_THERE).scalars().all():
            raise NotEmpty(", ".join(there))
        holder.execute(_MAKE)
        holder.commit()
        try:
            yield
        except BaseException as fault:
            try:
                with engine.begin() as connection:
                    _empty(connection)
            except sa.exc.DBAPIError:
                raise NotEmptied(words_of(fault)) from fault
            raise


def end(connection: sa.Connection, *, sums: str) -> None:
    """Take the mark away and tell what was restored, with whatever else is in this transaction.

    In a file there is neither mark nor comment.
    """
    if connection.dialect.supports_comments:
        connection.execute(sa.text(f"DROP TABLE {MARK}"))
        connection.execute(sa.schema.SetTableComment(sa.Table(_TOLD, sa.MetaData(), comment=sums)))


def ended(connection: sa.Connection) -> str | None:
    """Return the `sums` of the restore that came to its end here last, None where there was none, or it has not ended."""
    there = sa.inspect(connection)
    if there.has_table(MARK) or not there.has_table(_TOLD):
        return None
    return there.get_table_comment(_TOLD)["text"]


def _empty(connection: sa.Connection) -> None:
    connection.execute(_END_COPIER, {"copier": COPIER})
    connection.execute(_DROP_ALL)
