"""`stablestudio upload`: hand over a file once, for any number of orders."""

from __future__ import annotations

from pathlib import Path

import click

from stablestudio.cli.generate import approval, interruptible
from stablestudio.cli.output import Output
from stablestudio.cli.running import Dollars, connect, speaks, url_option
from stablestudio.cli.views import upload_document
from stablestudio.money import Money


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--type", "content_type", metavar="TYPE", help="Such as image/png; what the file begins with unless given."
)
@click.option("--max-price", type=Dollars(), help="The most to pay; $5.00 unless given, and above $1.00 it asks.")
@click.option("--yes", is_flag=True, help="Pay up to the limit without asking.")
@click.option("--allow-mainnet", is_flag=True, help="Pay real money where the service asks for it.")
@url_option
@speaks
def upload(
    out: Output,
    *,
    file: Path,
    content_type: str | None,
    max_price: Money | None,
    yes: bool,
    allow_mainnet: bool,
    url: str,
) -> None:
    """Buy a place for FILE, send it there and write the address that media fields take from this wallet.

    What is cut off is continued by the same command, or by `stablestudio resume`, and not paid again.
    """
    progress = out.progress()
    approve = approval(out, max_price=max_price, yes=yes)
    with connect(url, allow_mainnet=allow_mainnet, sleep=progress.sleep) as client:
        done = interruptible(
            client,
            lambda: client.upload(
                file, content_type=content_type, max_price=max_price, approve=approve, on_progress=progress.upload
            ),
            progress=progress,
        )
    out.result({"success": True, "upload": upload_document(done)}, done.blob_url)
