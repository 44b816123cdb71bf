"""What must hold before the database is opened: a folder, nobody else in it, and a schema that is this program's."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO

from stablestudio.config import RESTORING, ConfigurationInvalid
from stablestudio.errors import StudioError
from stablestudio.store import migrate, secret_marks
from stablestudio.store.database import is_file
from stablestudio.store.migrate import bare_engine
from stablestudio.store.restoring import RestoreUnfinished


class DataFolderInUse(StudioError):
    """Another process serves from this data folder."""

    hint = "Stop the other process, or serve from another folder with --data."


class SchemaBehind(StudioError):
    """The database's schema is not this program's."""

    hint = "Run `stablestudio db upgrade` once, with the newest program that uses this database, then start again."


class SecretDiffers(StudioError):
    """The secret in the data folder is not that of this database."""

    hint = (
        "Copy the file `secret` from the data folder of another process of this database, or from its backup. If it is lost, "
        "run `stablestudio db replace-secret` once: links, tokens and sign-ins given out before will mean nothing."
    )


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationInvalid(f"data: {folder} cannot be used as a folder: {error.strerror}.") from None


def ready_schema(url: str) -> None:
    """Upgrade a file that nobody else uses; what processes share is upgraded by the operator, at a time of his choice."""
    if is_file(url):
        require_upgradable(migrate.current(url))
        migrate.upgrade(url)
        return
    found = migrate.current(url)
    if found != migrate.HEAD:
        raise SchemaBehind(f"The database's schema is {found or 'not there'}, this program needs {migrate.HEAD}.")


def require_secret(url: str, secret: bytes, *, folder: Path) -> None:
    """Refuse to start with another secret than the other processes: each would deny what the others have signed."""
    with bare_engine(url).begin() as connection:
        if not secret_marks.agrees(connection, secret):
            raise SecretDiffers(f"The secret in {folder / 'secret'} is not that of this database.")


def require_upgradable(found: str | None) -> None:
    """Raise `SchemaBehind` for a schema from a later program than this one."""
    if found is not None and found > migrate.HEAD:
        raise SchemaBehind(f"The database's schema is {found}, newer than this program's, which is {migrate.HEAD}.")


def lock(folder: Path) -> IO[str]:
    """Hold the data folder: two processes on one SQLite file would run each other's jobs."""
    try:
        file = (folder / "lock").open("w")
    except OSError as error:
        raise ConfigurationInvalid(f"data: {folder} cannot be used as a folder: {error.strerror}.") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise DataFolderInUse(f"Another process serves from {folder}.") from None
    if (folder / RESTORING).exists():
        file.close()
        raise RestoreUnfinished(f"A restore into {folder} was cut off.")
    return file
