"""What a command says and returns when it fails: one exit code per cause, and always what became of the money."""

from __future__ import annotations

import click
from click.core import ParameterSource

from stablestudio.cli.output import Output
from stablestudio.client import Order, errors
from stablestudio.errors import Issue, StudioError
from stablestudio.protocols import siwx, x402

OK, UNEXPECTED, USAGE, REFUSED_TO_PAY, PAYMENT_FAILED, JOB_FAILED, SERVICE, UNFINISHED = range(8)

_CODES: tuple[tuple[tuple[type[StudioError], ...], int], ...] = (
    ((errors.PurchaseRefused, siwx.SiwxChallengeRefused), REFUSED_TO_PAY),
    (
        (errors.PaymentOutcomeUnknown, errors.JobStillRunning, errors.CancelTooLate, errors.UploadInterrupted),
        UNFINISHED,
    ),
    ((errors.JobFailed, errors.UploadError), JOB_FAILED),
    ((errors.ServiceUnreachable, errors.UnreadableAnswer, errors.DownloadFailed, x402.MalformedOffer), SERVICE),
    (
        (errors.WalletError, errors.InvalidAddress, errors.UnknownModel, errors.FileUnusable, errors.UploadNotOpen),
        USAGE,
    ),
)
# What a service says of a payment; of anything else it says the same with a payment as without.
_OF_PAYMENTS = {402, 409}


def exit_code(error: StudioError) -> int:
    """Return the documented exit code of an error."""
    for kinds, code in _CODES:
        if isinstance(error, kinds):
            return code
    if isinstance(error, errors.PaymentRejected) and error.status in _OF_PAYMENTS:
        return PAYMENT_FAILED
    if isinstance(error, errors.StudioApiError):
        return SERVICE if error.status >= 500 or error.status == 429 else USAGE
    return UNEXPECTED


def tell(out: Output, error: StudioError) -> None:
    """Write an error: the sentence, the fields at fault, what to do next, and whether money moved."""
    lines = [error.message, *_fields(error), f"Next: {next_step(error)}"]
    document = error.body() | {"exitCode": exit_code(error), "next": next_step(error)}
    out.fail(document, *lines, f"Money: {money(error)}")


def next_step(error: StudioError) -> str:
    """Return what to do now, as a command where there is one."""
    if isinstance(error, errors.JobStillRunning | errors.CancelTooLate):
        return command(f"job {error.job.id} --wait --download")
    if isinstance(error, errors.JobFailed):
        look = f"{command(f'job {error.job.id}')}   (shows the refund, which is made automatically)"
        return (
            look
            if error.money_moved
            else f"{_AFTER.get(error.job.error_code or '', _LATER)}; this order costs nothing."
        )
    if isinstance(error, errors.PaymentOutcomeUnknown):
        return f"{command('resume')}   (never order this again by hand)"
    if isinstance(error, errors.UploadInterrupted):
        return _after_interruption(error.order)
    return error.advice


def _after_interruption(order: Order) -> str:
    """Return how a file is sent on, and the order placed that it is for."""
    if order.sending is None or order.sending.wanted_for is None:
        return command("resume")
    again = "the same command again, which does not pay for the upload again"
    return f"{command('resume')}   (sends the file; then {again})" if order.open else again


_LATER = "Order again in some minutes, or choose another model"
_AFTER = {
    "cancelled": "Order again if you want it after all",
    "moderation": "Change the prompt or the files and order again",
    "invalid_input": "Change the input and order again",
    "upstream_retired": "Choose another model: stablestudio models",
}


def command(words: str) -> str:
    """Return a command line for the same service: an address that was given by hand is given again."""
    context = click.get_current_context(silent=True)
    if context is None or context.get_parameter_source("url") is not ParameterSource.COMMANDLINE:
        return f"stablestudio {words}"
    return f"stablestudio {words} --url {context.params['url']}"


def money(error: StudioError) -> str:
    """Return one sentence on what became of the money."""
    told = _of_order(error)
    if not isinstance(error, errors.BuyerError) or not error.uploads:
        return told
    told = "the order was not charged." if error.order_charged is False else told
    return " ".join([told, *(f"{upload}." for upload in error.uploads)])


_PAID = {
    errors.JobStillRunning: "the job is paid, once; waiting for it costs nothing.",
    errors.CancelTooLate: "the job is charged, once; if it fails after all, its payment goes back by itself.",
    errors.DownloadFailed: "the job is paid; downloading costs nothing.",
}


def _of_order(error: StudioError) -> str:
    if isinstance(error, errors.JobFailed):
        return _of_failed_job(error)
    if told := next((told for kind, told in _PAID.items() if isinstance(error, kind)), None):
        return told
    if isinstance(error, errors.PaymentOutcomeUnknown):
        return f"not known yet whether ${error.order.price} was taken; it cannot be taken twice."
    if isinstance(error, errors.UploadError):
        return f"${error.order.price} was paid for the place, once."
    moved = error.order_charged if isinstance(error, errors.BuyerError) else error.charged
    return {True: "the payment was taken.", False: "none moved.", None: "not known whether any moved."}[moved]


def _of_failed_job(error: errors.JobFailed) -> str:
    payment = error.job.payment
    if not error.money_moved:
        refund = payment.refund if payment else None
        where = f" (transaction {refund.transaction})" if refund and refund.transaction else ""
        return f"back in your wallet{where}." if error.job.refunded else "nothing was charged."
    return (
        f"${payment.amount} was paid and is on its way back."
        if payment and payment.amount
        else "it is on its way back."
    )


def _fields(error: StudioError) -> list[str]:
    """Return what is wrong with each field, without what the sentence above says already."""
    return [f"  {line}" for issue in error.issues if (line := _field(issue)) != error.message]


def _field(issue: Issue) -> str:
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in issue.path).removeprefix(".")
    text = issue.message if not where or f"'{where}'" in issue.message else f"{where}: {issue.message}"
    allowed = [str(value) for value in issue.allowed or ()]
    return f"{text} (allowed: {', '.join(allowed)})" if allowed and allowed[0] not in text else text
