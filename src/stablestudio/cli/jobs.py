"""`stablestudio job` and `stablestudio jobs`: look at what was bought."""

from __future__ import annotations

from pathlib import Path

import click

from stablestudio.cli import job_verbs
from stablestudio.cli.generate import deliver, follow_job, require_success
from stablestudio.cli.output import Output
from stablestudio.cli.running import connect, speaks, url_option
from stablestudio.cli.views import job_document, job_lines
from stablestudio.client.jobs import is_job_id
from stablestudio.client.studio import DEFAULT_TIMEOUT


@click.command()
@click.argument("job_id", metavar="ID")
@click.option("--wait", is_flag=True, help="Wait until the job has ended.")
@click.option("--download", is_flag=True, help="Save its files.")
@click.option("--cancel", is_flag=True, help="End it early; what was paid goes back, unless it is too late.")
@click.option("--delete", is_flag=True, help="Delete its files for good, a failed job altogether.")
@click.option("--yes", is_flag=True, help="Delete without asking.")
@click.option("--webhooks", is_flag=True, help="Show who is told of it, with the secret, and how that went.")
@click.option("--redeliver", is_flag=True, help="Have everything that was told of it told once more.")
@click.option("-o", "--output", "target", type=click.Path(path_type=Path), default=Path(), help="File or folder.")
@click.option("--timeout", type=click.FloatRange(min=0), default=DEFAULT_TIMEOUT, show_default=True, help="Seconds.")
@url_option
@speaks
def job(
    out: Output,
    *,
    job_id: str,
    wait: bool,
    download: bool,
    cancel: bool,
    delete: bool,
    yes: bool,
    webhooks: bool,
    redeliver: bool,
    target: Path,
    timeout: float,
    url: str,
) -> None:
    """Show the job ID; with --wait until it has ended, with --download with its files.

    --cancel, --delete, --webhooks and --redeliver go alone.
    """
    if not is_job_id(job_id):
        raise click.BadParameter(f"{job_id!r} is no job id.", param_hint="ID")
    if sum((cancel, delete, webhooks, redeliver, wait or download)) > 1:
        raise click.UsageError("--cancel, --delete, --webhooks and --redeliver go alone.")
    if cancel:
        return job_verbs.cancel(out, job_id=job_id, url=url)
    if delete:
        return job_verbs.remove(out, job_id=job_id, yes=yes, url=url)
    if webhooks or redeliver:
        return job_verbs.tell_webhooks(out, job_id=job_id, again=redeliver, url=url)
    return look(out, job_id=job_id, wait=wait, download=download, target=target, timeout=timeout, url=url)


def look(out: Output, *, job_id: str, wait: bool, download: bool, target: Path, timeout: float, url: str) -> None:
    """Show a job as it is, or as it ends."""
    progress = out.progress()
    with connect(url, sleep=progress.sleep) as client:
        found = client.job(job_id)
        if wait and not found.ended:
            found = follow_job(client, found, progress=progress, timeout=timeout)
        if download:
            return deliver(out, client, found, target=target)
    if wait:
        require_success(found)
    out.result({"success": True, "job": job_document(found)}, *job_lines(found))
    return None


@click.command()
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True, help="How many at most.")
@click.option("--status", type=click.Choice(["pending", "loading", "complete", "failed"]), help="Only these.")
@url_option
@speaks
def jobs(out: Output, *, limit: int, status: str | None, url: str) -> None:
    """List the wallet's jobs, newest first."""
    with connect(url) as client:
        found = client.jobs(limit=limit, status=status)
    lines = [job_lines(each)[0] for each in found] or ["No jobs yet."]
    out.result({"success": True, "jobs": [job_document(each) for each in found]}, *lines)
