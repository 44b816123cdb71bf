"""`stablestudio resume`: learn what became of payments that were never answered, and send files to their end."""

from __future__ import annotations

import click

from stablestudio.cli.faults import command, exit_code
from stablestudio.cli.output import Output
from stablestudio.cli.running import connect, speaks, url_option
from stablestudio.cli.views import job_document, upload_document
from stablestudio.client import Resumed


@click.command()
@click.option(
    "--drop", "dropped", metavar="ID", help="Give up this upload, which cannot be sent any more, and its place."
)
@url_option
@speaks
def resume(out: Output, *, dropped: str | None, url: str) -> None:
    """Continue orders whose payment was never answered and uploads that were cut off, each from where it lay.

    The payments that were signed then are sent again, none is new.
    """
    if dropped is not None:
        return drop(out, key=dropped, url=url)
    progress = out.progress()
    with connect(url, sleep=progress.sleep) as client:
        found = client.resume(on_upload=progress.upload)
    progress.clear()
    failed = [each.error for each in found if each.error is not None]
    if failed and len(found) == 1:
        raise failed[0]
    document = {"success": not failed, "orders": [_document(each) for each in found]}
    out.result(document, *([_line(each) for each in found] or ["No order waits for an answer."]))
    if failed:
        click.get_current_context().exit(max(exit_code(error) for error in failed))
    return None


def drop(out: Output, *, key: str, url: str) -> None:
    """Give up one upload."""
    with connect(url) as client:
        order = client.drop(key)
    line = f"{key}  given up; the ${order.price} of its place is not given back."
    out.result({"success": True, "dropped": key, "price": order.price}, line)


def _document(resumed: Resumed) -> dict[str, object]:
    if resumed.job is not None:
        return {"order": resumed.order.key, "job": job_document(resumed.job)}
    if resumed.upload is not None:
        document: dict[str, object] = {"order": resumed.order.key, "upload": upload_document(resumed.upload)}
        return document | ({"next": _placing(resumed.wanted_for)} if resumed.wanted_for else {})
    return {"order": resumed.order.key, "error": resumed.error.body() if resumed.error else None}


def _line(resumed: Resumed) -> str:
    order = resumed.order
    if resumed.job is not None:
        return f"{order.key}  bought job {resumed.job.id}; next: {command(f'job {resumed.job.id} --wait --download')}"
    if resumed.upload is not None:
        then = f"; next: {_placing(resumed.wanted_for)}" if resumed.wanted_for else ""
        return f"{order.key}  uploaded {resumed.upload.blob_url}{then}"
    return f"{order.key}  {resumed.error.message if resumed.error else ''}"


def _placing(wanted_for: str) -> str:
    return (
        f"The order itself was not placed yet: repeat your `{command(f'generate {wanted_for}')} ...`, "
        "which does not pay for the upload again."
    )
