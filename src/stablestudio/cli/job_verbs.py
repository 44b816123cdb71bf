"""What `stablestudio job ID` does beside looking: cancel the job, delete its files, tell of its webhooks."""

from __future__ import annotations

import click

from stablestudio.cli.generate import with_refund
from stablestudio.cli.output import Output
from stablestudio.cli.running import connect
from stablestudio.cli.views import job_document, job_lines, webhook_document, webhook_lines


def cancel(out: Output, *, job_id: str, url: str) -> None:
    """End a job early, and tell what became of its money; `CancelTooLate` says where it goes on."""
    with connect(url) as client:
        job = with_refund(client, client.cancel(job_id))
    first = "Cancelled." if job.cancelled else "It had failed before it could be cancelled."
    out.result({"success": True, "job": job_document(job)}, first, *job_lines(job))


def remove(out: Output, *, job_id: str, yes: bool, url: str) -> None:
    """Delete a job that has ended; a person at a terminal is asked first."""
    if out.interactive and not yes:
        click.confirm(f"Delete the files of job {job_id} for good?", err=True, abort=True)
    with connect(url) as client:
        client.delete(job_id)
    out.result({"success": True, "deleted": job_id}, f"Deleted {job_id}.")


def tell_webhooks(out: Output, *, job_id: str, again: bool, url: str) -> None:
    """Tell who hears of a job, with the secret; `again` has everything told once more first."""
    with connect(url) as client:
        found = client.redeliver(job_id) if again else client.webhooks(job_id)
    out.result(webhook_document(found), *webhook_lines(found))
