"""`stablestudio purge`: erase files whose time is over, or tell what would go."""

from __future__ import annotations

import asyncio

import click

from stablestudio.cli.books import open_books, operates
from stablestudio.cli.output import Output
from stablestudio.clock import SystemClock, iso
from stablestudio.config import Settings
from stablestudio.jobs.purge import Purger
from stablestudio.server.storage import open_shelf
from stablestudio.store.assets import Tally
from stablestudio.store.database import Database

LEFT = 1


@click.command()
@click.option("--dry-run", is_flag=True, help="Only tell what would go.")
@operates
def purge(out: Output, settings: Settings, *, dry_run: bool) -> None:
    """Erase files that have expired, and what was left of deleted ones. The service does the same once an hour.

    Exit code 0: nothing is left to erase; 1: some files could not be erased and stay in line; 2: the books or the
    storage cannot be used.
    """
    with open_books(settings) as database:
        gone, left = asyncio.run(_purge(settings, database, dry_run=dry_run))
    document = {
        "success": not left,
        "dryRun": dry_run,
        "files": gone.files,
        "bytes": gone.size,
        "oldest": None if gone.oldest is None else iso(gone.oldest),
        "left": left,
    }
    out.result(document, *_lines(gone, left=left, dry_run=dry_run))
    if left:
        click.get_current_context().exit(LEFT)


async def _purge(settings: Settings, database: Database, *, dry_run: bool) -> tuple[Tally, int]:
    purger = Purger(database, storage=open_shelf(settings).storage, clock=SystemClock())
    if dry_run:
        return await purger.look(), 0
    gone = await purger.purge()
    return gone, (await purger.look()).files


def _lines(gone: Tally, *, left: int, dry_run: bool) -> list[str]:
    verb = "Would erase" if dry_run else "Erased"
    since = f", the oldest of {iso(gone.oldest)}" if gone.oldest is not None else ""
    told = f"{verb} {gone.files:,} files, {gone.size:,} bytes{since}." if gone.files else "Nothing to erase."
    return [told, f"Not erased: {left:,} files; the log says why."] if left else [told]
