"""What the operator's commands share: the books of a data folder, beside a running service, and the way out for errors."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

import click
import sqlalchemy as sa

from stablestudio.cli.faults import USAGE, exit_code
from stablestudio.cli.output import Output
from stablestudio.config import ConfigurationInvalid, Settings, load_settings
from stablestudio.errors import StudioError
from stablestudio.operations.faults import BackupFault
from stablestudio.store import migrate
from stablestudio.store.database import AWAY_HINT, Database, connect, is_away, is_file, place_of, words_of
from stablestudio.store.restoring import RestoreUnfinished


class OperatorMistake(StudioError):
    """The command does not fit what is in the books."""

    status = 400
    hint = "Correct the command and run it again."


class BooksMissing(OperatorMistake):
    """There are no books in this data folder."""

    hint = "Name the service's folder with --data or STABLESTUDIO_DATA; its first start writes the books."


class BooksOfAnotherVersion(OperatorMistake):
    """The books were written by another version of this program."""

    hint = "Start the service with the same version as this command, or run `stablestudio db upgrade`; this changes nothing."


class BooksUnreadable(OperatorMistake):
    """The books cannot be read."""

    hint = "Run this as the user that the service runs as, on the same machine."

    @classmethod
    def because(cls, fault: sa.exc.SQLAlchemyError, what: str) -> Self:
        """Make it of what could not be done, and of the driver's words on why."""
        return cls(f"{what}: {words_of(fault)}", hint=AWAY_HINT if is_away(fault) else None)


_MISTAKES = (OperatorMistake, ConfigurationInvalid, BackupFault, RestoreUnfinished)


@contextmanager
def open_books(settings: Settings) -> Iterator[Database]:
    """Open the database as it is: it is neither made nor migrated, and a running service is not disturbed.

    Raises an `OperatorMistake` that says why it cannot be used.
    """
    url = settings.books
    path = settings.data / "stablestudio.db"
    place = place_of(url)
    if is_file(url) and not path.is_file():
        raise BooksMissing(f"There is no {path}.")
    try:
        found = migrate.current(url)
        if found != migrate.HEAD:
            raise BooksOfAnotherVersion(
                f"The schema of {place} is {found or 'none'}, this program needs {migrate.HEAD}."
            )
        with closing(connect(url)) as database:
            yield database
    except sa.exc.DBAPIError as error:
        raise BooksUnreadable.because(error, f"{place} cannot be used") from None


def operates(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command `--data` and `--json`, settings and an `Output`, and turn its errors into text and exit codes."""

    @click.option("--data", type=click.Path(path_type=Path), default=None, help="The service's data folder.")
    @click.option("--json", "as_json", is_flag=True, help="Write JSON, also on a terminal.")
    @functools.wraps(function)
    def run(*args: Any, data: Path | None, as_json: bool, **options: Any) -> None:
        out = Output(as_json=as_json)
        try:
            function(out, load_settings({"data": data}), *args, **options)
        except StudioError as error:
            code = USAGE if isinstance(error, _MISTAKES) else exit_code(error)
            document = error.body() | {"exitCode": code, "next": error.advice}
            out.fail(document, error.message, f"Next: {error.advice}", "Money: none moved.")
            click.get_current_context().exit(code)

    return run
