"""`stablestudio restore`: put a backup in place."""

from __future__ import annotations

import os
from pathlib import Path

import click

from stablestudio.cli.books import operates
from stablestudio.cli.output import Output
from stablestudio.clock import SystemClock
from stablestudio.config import Settings
from stablestudio.operations.manifest import IN_BACKUP, Manifest
from stablestudio.operations.restore import Place
from stablestudio.operations.restore import restore as put_back
from stablestudio.server.storage import folder_of


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--stopped", is_flag=True, help="The service was stopped for the backup and has not run since.")
@operates
def restore(out: Output, settings: Settings, *, source: Path, stopped: bool) -> None:
    """Put the backup SOURCE in place, in an empty data folder; nothing is in place unless all of it is whole.

    Without --stopped, orders that were open are taken to have gone on after the backup: vendors are asked for their
    work before they are asked to do it, and refunds on Tempo wait for an approval. See docs/backup.md.
    Exit code 0: done; 2: nothing was put in place.
    """
    os.umask(0o077)
    place = Place(data=settings.data, url=settings.books, files=folder_of(settings))
    with out.progress().during("restoring"):
        manifest = put_back(source, place, clock=SystemClock(), stopped=stopped)
    document = {"success": True, "data": str(settings.data), "stopped": stopped}
    out.result(document | manifest.model_dump(by_alias=True), *_lines(manifest, stopped=stopped))


def _lines(manifest: Manifest, *, stopped: bool) -> list[str]:
    files = "" if manifest.storage == IN_BACKUP else f" Its files are in {manifest.storage}."
    after = "Payments taken since then are not in these books: compare them with what your address received."
    return [
        f"Restored {manifest.counts['orders']:,} orders as they were at {manifest.made_at}.{files}",
        *([] if stopped else [after]),
        "Next: stablestudio audit, then start the service.",
    ]
