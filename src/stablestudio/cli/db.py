"""`stablestudio db`: bring the database to this program's schema, or tell whether it has it."""

from __future__ import annotations

from typing import Any

import click
import sqlalchemy as sa

from stablestudio.cli.books import BooksOfAnotherVersion, BooksUnreadable, open_books, operates
from stablestudio.cli.output import Output
from stablestudio.config import Settings, load_secret
from stablestudio.server.premises import SchemaBehind, require_upgradable
from stablestudio.store import migrate, secret_marks

BEHIND = 1
_NEXT = "Next: stablestudio db upgrade, with the newest program that uses this database."


@click.group()
def db() -> None:
    """Look after the database's schema, and the secret that its processes share."""


@db.command()
@operates
def upgrade(out: Output, settings: Settings) -> None:
    """Bring the database to this program's schema: ours and the engine's. Run it once, before the new processes start.

    A file is upgraded at each start of the service as well.
    """
    from stablestudio.jobs.engine import prepare  # noqa: PLC0415 - a second that looking does not need

    settings.data.mkdir(parents=True, exist_ok=True)
    before = _current(settings)
    try:
        require_upgradable(before)
    except SchemaBehind as error:
        raise BooksOfAnotherVersion(error.message, hint=error.advice) from None
    try:
        with out.progress().during("upgrading the schema"):
            migrate.upgrade(settings.books)
            prepare(settings.books)
    except sa.exc.SQLAlchemyError as error:
        raise BooksUnreadable.because(error, "The database cannot be upgraded") from None
    told = "was there already" if before == migrate.HEAD else f"came from {before or 'nothing'}"
    out.result({"success": True, "before": before, "schema": migrate.HEAD}, f"Schema {migrate.HEAD}; it {told}.")


@db.command()
@operates
def check(out: Output, settings: Settings) -> None:
    """Compare the database's tables with this program's. Exit code 0: they are equal; 1: not; 2: it cannot be read.

    Of the engine's own tables the version is compared.
    """
    from stablestudio.jobs.engine_schema import versions  # noqa: PLC0415 - as above

    found = _current(settings)
    different = []
    if found == migrate.HEAD:
        different = [_said(each) for each in migrate.differences(settings.books)]
        has, needs = versions(settings.books)
        if has < needs:
            different.append(f"the engine's schema: {has or 'none'}, this program needs {needs}")
    good = found == migrate.HEAD and not different
    document = {"success": good, "found": found, "schema": migrate.HEAD, "differences": different}
    document |= {} if good else {"hint": _NEXT}
    verdict = "equal to this program's" if good else f"not this program's, which is {migrate.HEAD}"
    out.result(document, f"Schema {found or 'none'}: {verdict}.", *different, *([] if good else [_NEXT]))
    if not good:
        click.get_current_context().exit(BEHIND)


@db.command(name="replace-secret")
@operates
def replace_secret(out: Output, settings: Settings) -> None:
    """Give the database our secret, where its own is lost. No process may run.

    Links, tokens and sign-ins given out before mean nothing then, and every machine needs the new file.
    """
    with open_books(settings) as database, database.engine.begin() as connection:
        secret_marks.replace(connection, load_secret(settings.data))
    out.result({"success": True}, f"The database's secret is the one in {settings.data / 'secret'} now.")


def _said(difference: Any) -> str:
    """Return one of Alembic's differences in words."""
    if isinstance(difference, list):  # what differs in one column
        return "; ".join(map(_said, difference))
    verb, _, thing = difference[0].partition("_")
    if verb == "modify":
        return f"{difference[2]}.{difference[3]}: another {thing} in the database"
    item = difference[-1]
    name = f"{difference[2]}.{item.name}" if thing == "column" else f"{thing} {item.name}"
    return f"{name}: {'missing in the database' if verb == 'add' else 'in the database only'}"


def _current(settings: Settings) -> str | None:
    if settings.database is None and not (settings.data / "stablestudio.db").is_file():
        return None
    try:
        return migrate.current(settings.books)
    except sa.exc.DBAPIError as error:
        raise BooksUnreadable.because(error, "The database cannot be used") from None
