"""`stablestudio resume`: learn what became of payments that were never answered, and send files to their end."""

from __future__ import annotations

import click

from stablestudio.cli.faults import command, exit_code
from stablestudio.cli.output import Output
from stablestudio.cli.running import connect, speaks, url_option
from stablestudio.cli.views import job_document, upload_document
from stablestudio.client import Resumed


@click.command()
@url_option
@speaks
def resume(out: Output, *, url: str) -> None:
    """Continue orders whose payment was never answered and uploads that were cut off, each from where it lay.

    The payments that were signed then are sent again, none is new.
    """
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


def _document(resumed: Resumed) -> dict[str, object]:
    if resumed.job is not None:
        return {"order": resumed.order.key, "job": job_document(resumed.job)}
    if resumed.upload is not None:
        return {"order": resumed.order.key, "upload": upload_document(resumed.upload)}
    return {"order": resumed.order.key, "error": resumed.error.body() if resumed.error else None}


def _line(resumed: Resumed) -> str:
    order = resumed.order
    if resumed.job is not None:
        return f"{order.key}  bought job {resumed.job.id}; next: {command(f'job {resumed.job.id} --wait --download')}"
    if resumed.upload is not None:
        return f"{order.key}  uploaded {resumed.upload.blob_url}"
    return f"{order.key}  {resumed.error.message if resumed.error else ''}"
