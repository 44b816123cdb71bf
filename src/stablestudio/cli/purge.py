"""`stablestudio purge`: erase files whose time is over, or tell what would go."""

from __future__ import annotations

import asyncio

import click

from stablestudio.cli.books import open_books, operates
from stablestudio.cli.output import Output
from stablestudio.clock import SystemClock, iso
from stablestudio.config import Settings
from stablestudio.jobs.purge import Purger
from stablestudio.media.copies import Copies
from stablestudio.media.upload_ends import UploadEnds
from stablestudio.server.storage import kept_uploads_ms, open_shelf
from stablestudio.store.assets import Tally
from stablestudio.store.database import Database

LEFT = 1


@click.command()
@click.option("--dry-run", is_flag=True, help="Only tell what would go.")
@operates
def purge(out: Output, settings: Settings, *, dry_run: bool) -> None:
    """Erase files that have expired, what was left of deleted ones, uploads that are over, and copies nobody needs.

    The service does the same by itself, once an hour or more often.

    Exit code 0: nothing is left to erase; 1: some files could not be erased and stay in line; 2: the books or the
    storage cannot be used.
    """
    with open_books(settings) as database, out.progress().during("looking" if dry_run else "erasing files"):
        gone, left, others = asyncio.run(_purge(settings, database, dry_run=dry_run))
    document = {
        "success": not left,
        "dryRun": dry_run,
        "files": gone.files,
        "bytes": gone.size,
        "oldest": None if gone.oldest is None else iso(gone.oldest),
        "uploads": others["uploads"],
        "copies": others["copies"],
        "left": left,
    }
    out.result(document, *_lines(gone, others, left=left, dry_run=dry_run))
    if left:
        click.get_current_context().exit(LEFT)


async def _purge(settings: Settings, database: Database, *, dry_run: bool) -> tuple[Tally, int, dict[str, int]]:
    """Return what went of results, how many files did not, and how many of uploads and of copies went."""
    storage, clock = open_shelf(settings).storage, SystemClock()
    purger = Purger(database, storage=storage, clock=clock)
    uploads = UploadEnds(database, storage=storage, clock=clock, kept_ms=kept_uploads_ms(settings))
    copies = Copies(database, storage=storage, clock=clock)
    if dry_run:
        return await purger.look(), 0, {"uploads": (await uploads.look())[0], "copies": (await copies.look())[0]}
    gone = await purger.purge()
    others = {"uploads": await uploads.purge(), "copies": await copies.purge()}
    left = (await purger.look()).files + (await uploads.look())[0] + (await copies.look())[0]
    return gone, left, others


def _lines(gone: Tally, others: dict[str, int], *, left: int, dry_run: bool) -> list[str]:
    verb = "Would erase" if dry_run else "Erased"
    since = f", the oldest of {iso(gone.oldest)}" if gone.oldest is not None else ""
    lines = [f"{verb} {gone.files:,} files, {gone.size:,} bytes{since}."] if gone.files else []
    lines += [f"{verb} {count:,} files of {name}." for name, count in others.items() if count]
    lines += [f"Not erased: {left:,} files; the log says why."] if left else []
    return lines or ["Nothing to erase."]
