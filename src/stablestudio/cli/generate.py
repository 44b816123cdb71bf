"""`stablestudio generate`: the whole purchase, from the price to the file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from stablestudio.cli.faults import command
from stablestudio.cli.inputs import FIELD_HELP, place_media, read_fields, read_media, split_model
from stablestudio.cli.output import Output, Progress
from stablestudio.cli.running import Dollars, connect, speaks, url_option
from stablestudio.cli.views import file_lines, job_document, job_lines
from stablestudio.client import (
    Job,
    JobFailed,
    JobStillRunning,
    PaymentOutcomeUnknown,
    Quote,
    StudioClient,
    UploadInterrupted,
)
from stablestudio.client.files import sources_in
from stablestudio.client.menu import choose_operation
from stablestudio.client.studio import DEFAULT_TIMEOUT
from stablestudio.client.till import Approve
from stablestudio.money import Money

Bought = TypeVar("Bought")
CONFIRM_ABOVE = Money(1_000_000)
_REFUND_NEWS = 10.0


@click.command()
@click.argument("model")
@click.argument("prompt")
@click.option("--op", "operation", help="The operation; the model's first unless given.")
@click.option("-p", "pairs", multiple=True, metavar="FIELD=VALUE", help=FIELD_HELP)
@click.option("--image", "images", multiple=True, metavar="URL|job:ID|FILE", help="An input image; may be repeated.")
@click.option("--max-price", type=Dollars(), help="The most to pay; $5.00 unless given, and above $1.00 it asks.")
@click.option("--yes", is_flag=True, help="Pay up to the limit without asking.")
@click.option("--allow-mainnet", is_flag=True, help="Pay real money where the service asks for it.")
@click.option("-o", "--output", "target", type=click.Path(path_type=Path), default=Path(), help="File or folder.")
@click.option("--webhook", metavar="URL", help="An address that is told when the job ends.")
@click.option("--no-wait", is_flag=True, help="Return as soon as the job is paid.")
@click.option("--timeout", type=click.FloatRange(min=0), default=DEFAULT_TIMEOUT, show_default=True, help="Seconds.")
@url_option
@speaks
def generate(
    out: Output,
    *,
    model: str,
    prompt: str,
    operation: str | None,
    pairs: Sequence[str],
    images: Sequence[str],
    max_price: Money | None,
    yes: bool,
    allow_mainnet: bool,
    target: Path,
    webhook: str | None,
    no_wait: bool,
    timeout: float,
    url: str,
) -> None:
    """Buy a picture or a clip made by MODEL from PROMPT, wait for it and save it.

    MODEL may name its operation: nano-banana/edit. You pay at most once, whatever happens.
    """
    name, named = split_model(model, operation=operation)
    fields = read_fields(pairs)
    require_writable(target)
    media = read_media(images)
    progress = out.progress()
    with connect(url, allow_mainnet=allow_mainnet, sleep=progress.sleep) as client:
        with_media = bool(media) or any(sources_in(fields))
        chosen = named or choose_operation(client.models(), model=name, with_media=with_media)
        wish = ({"prompt": prompt} if prompt else {}) | place_media(media, model=name, operation=chosen) | fields
        tell_unanswered(out, client)
        approve = approval(out, max_price=max_price, yes=yes)
        job = interruptible(
            client,
            lambda: client.submit(
                name,
                chosen,
                wish,
                max_price=max_price,
                approve=approve,
                on_upload=progress.upload,
                webhook=webhook,
            ),
            progress=progress,
        )
        tell_bought(out, job, webhook=webhook)
        if no_wait:
            follow = command(f"job {job.id} --wait --download")
            out.result({"success": True, "job": job_document(job), "next": follow}, *job_lines(job), f"Next: {follow}")
            return
        deliver(out, client, follow_job(client, job, progress=progress, timeout=timeout), target=target)


def tell_bought(out: Output, job: Job, *, webhook: str | None) -> None:
    """Tell what was paid, and who is told of the end where that is not who was named."""
    told = job.payment.amount if job.payment else None
    held = job.payment is not None and job.payment.state == "held"
    out.say(f"{'Signed' if held else 'Paid'} ${told}{', charged when it is done' if held else ''}; job {job.id}.")
    if job.webhook != webhook:
        out.say(f"This continued an earlier order: its webhook holds ({job.webhook or 'none'}).")


def require_writable(target: Path) -> None:
    """Refuse a place where nothing can be saved, before anything is paid."""
    place = target.absolute()
    while not place.exists():
        place = place.parent
    if (place != target.absolute() and not place.is_dir()) or not os.access(place, os.W_OK):
        raise click.BadParameter(f"nothing can be saved at {target}; nothing was paid", param_hint="--output")


def interruptible(client: StudioClient, purchase: Callable[[], Bought], *, progress: Progress) -> Bought:
    """Pay once; an interrupt after a signature was sent says how to go on."""
    pending, kept = client.pending(), client.kept()
    try:
        return purchase()
    except KeyboardInterrupt:
        sent = [order for order in client.pending() if order not in pending]
        there = [order for order in client.kept() if order not in kept]
        if not sent and there:
            raise UploadInterrupted(
                "Interrupted before the order was placed; its file is there.", order=there[0]
            ) from None
        if not sent:
            raise
        if sent[0].sending is not None and sent[0].transaction is not None:
            raise UploadInterrupted("Interrupted while the file was on its way.", order=sent[0]) from None
        raise PaymentOutcomeUnknown("Interrupted while the payment was on its way.", order=sent[0]) from None
    finally:
        progress.clear()


def approval(out: Output, *, max_price: Money | None, yes: bool) -> Approve:
    """Return who says yes to a quote: a limit that was named, `--yes`, or above a dollar the person at the terminal."""

    def approve(quote: Quote) -> bool:
        uploads = f", ${quote.total} with uploads" if quote.uploads else ""
        out.say(f"Price ${quote.amount}{uploads} on {quote.token.title}, to {quote.pay_to}.")
        if yes or max_price is not None or quote.total <= CONFIRM_ABOVE:
            return True
        if out.interactive:
            return click.confirm(f"Pay ${quote.total}?", err=True)
        out.say(f"Above ${CONFIRM_ABOVE} a limit (--max-price) or --yes is needed where nobody can be asked.")
        return False

    return approve


def tell_unanswered(out: Output, client: StudioClient) -> None:
    """Remind of orders whose payment was never answered, and of uploads that were cut off."""
    count = len(client.pending())
    if count:
        out.say(f"Orders to go on with: {count}. The same input continues its order; `stablestudio resume` does all.")


def follow_job(client: StudioClient, job: Job, *, progress: Progress, timeout: float) -> Job:
    """Wait for a job with its progress on screen; an interrupt leaves it running and says how to go on."""
    try:
        ended = client.wait(job, timeout=timeout, on_progress=lambda now: progress.update(now.status, now.progress))
        return with_refund(client, ended) if ended.failed else ended
    except KeyboardInterrupt:
        told = f"Stopped waiting; job {job.id} goes on. `{command(f'job {job.id} --cancel')}` ends it if it still can."
        raise JobStillRunning(told, job=job) from None
    finally:
        progress.clear()


def deliver(out: Output, client: StudioClient, job: Job, *, target: Path) -> None:
    """Save a complete job's files and tell of them; raise `JobFailed` for a failed one."""
    require_success(job)
    paths = client.download(job, target)
    document: dict[str, Any] = {"success": True, "job": job_document(job), "files": [str(path) for path in paths]}
    out.result(document, *job_lines(job), *file_lines(paths))


def require_success(job: Job) -> None:
    """Raise `JobFailed` for a failed job."""
    if job.failed:
        raise JobFailed(f"Job {job.id} failed: {job.complaint or 'no reason was told'}", job=job)


def with_refund(client: StudioClient, job: Job) -> Job:
    """Return a failed job as it stands once its refund is through, or after a while without."""
    if job.refunded or job.uncharged:
        return job
    try:
        return client.wait_for_refund(job, timeout=_REFUND_NEWS)
    except JobStillRunning as news:
        return news.job
