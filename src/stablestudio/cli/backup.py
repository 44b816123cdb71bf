"""`stablestudio backup`: a copy of the whole service that can be put in place elsewhere."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import click

from stablestudio.cli.books import BooksMissing, open_books, operates
from stablestudio.cli.output import Output, Progress
from stablestudio.clock import SystemClock
from stablestudio.config import Settings
from stablestudio.operations.backup import Source, back_up
from stablestudio.operations.manifest import IN_BACKUP, Manifest
from stablestudio.server.storage import folder_of, open_shelf
from stablestudio.store import files
from stablestudio.store.database import Database

INCOMPLETE = 1
_EACH = 100
_NAMED = 10


@click.command()
@click.argument("target", type=click.Path(path_type=Path))
@operates
def backup(out: Output, settings: Settings, *, target: Path) -> None:
    """Write a backup to TARGET: a tar file if its name ends in .tar, else a folder. The service may run.

    Exit code 0: all is in it; 1: it was made, but files were lost or damaged before, each named; 2: there is no backup.
    Whoever reads it can sign links and sign-ins in the service's name: keep it as you keep the data folder.
    """
    os.umask(0o077)
    secret = settings.data / "secret"
    if not secret.is_file():
        raise BooksMissing(f"There is no {secret}.")
    progress = out.progress()
    with open_books(settings) as database:
        source = Source(
            url=database.url,
            secret=secret,
            storage=open_shelf(settings).storage,
            bucket=settings.storage if folder_of(settings) is None else None,
            still_kept=partial(_still_kept, database),
        )
        manifest = back_up(source, target, clock=SystemClock(), progress=partial(_tell, progress))
    progress.clear()
    document = {"success": not manifest.lost, "target": str(target), **manifest.model_dump(by_alias=True)}
    out.result(document, *_lines(target, manifest))
    if manifest.lost:
        click.get_current_context().exit(INCOMPLETE)


def _still_kept(database: Database, key: str) -> bool:
    with database.engine.connect().execution_options(reading=True) as connection:
        return files.still_kept(connection, key)


def _tell(progress: Progress, done: int, count: int) -> None:
    if done % _EACH == 0 or done == count:
        progress.update("copying files", 100 * done / count)


def _lines(target: Path, manifest: Manifest) -> list[str]:
    counts = manifest.counts
    where = "" if manifest.storage == IN_BACKUP else f" The files stay in {manifest.storage}."
    rest = [f"  and {len(manifest.lost) - _NAMED:,} more"] if len(manifest.lost) > _NAMED else []
    return [
        f"{target}: {counts['orders']:,} orders, {counts['files']:,} files, {counts['bytes']:,} bytes.{where}",
        *([f"Purged meanwhile: {len(manifest.purged):,} files."] if manifest.purged else []),
        *([f"Lost or damaged before: {len(manifest.lost):,} files."] if manifest.lost else []),
        *(f"  {key}" for key in manifest.lost[:_NAMED]),
        *rest,
    ]
