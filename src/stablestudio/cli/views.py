"""How quotes, jobs and files look to people and to programs."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from stablestudio.client import Job, Price, Quote, Upload, Webhooks
from stablestudio.client.menu import Eta
from stablestudio.client.prices import Line, Way
from stablestudio.client.webhooks import Message


def job_document(job: Job) -> dict[str, Any]:
    """Return a job as the service told it, with its small inputs in short."""
    told: dict[str, Any] = shortened(job.model_dump(by_alias=True, exclude_none=True))
    return told


def shortened(value: Any) -> Any:
    """Return a value with the beginning of each `data:` URI, unless the service has cut it already."""
    match value:
        case str() if value.startswith("data:") and len(value) > _LONGEST and not value.endswith(_CUT):
            return f"{value[:_LONGEST]}... ({len(value)}{_CUT}"
        case dict():
            return {name: shortened(each) for name, each in value.items()}
        case list() | tuple():
            return [shortened(each) for each in value]
    return value


def upload_document(upload: Upload) -> dict[str, Any]:
    """Return an upload as the service told it."""
    return upload.model_dump(by_alias=True, exclude_none=True)


_LONGEST = 60  # characters of a `data:` URI
_CUT = " characters)"
# What is said of a payment that has not moved; `held` moves when the work is done.
_PAYMENTS = {"held": "held", "released": "released", "rejected": "not paid", "unknown": "unclear"}


def job_lines(job: Job) -> list[str]:
    """Return a job for people: state, payment, refund, links."""
    lines = ["  ".join(word for word in (job.id, job.type, job.status) if word)]
    if job.complaint:
        lines.append(f"  reason   {job.complaint}")
    payment = job.payment
    if payment and payment.amount:
        word = _PAYMENTS.get(payment.state or "", "paid")
        lines.append(f"  {word:<8} ${payment.amount} on {payment.network}{_transaction(payment.transaction)}")
        if payment.refund:
            back = "refunded" if job.refunded else "refund on its way"
            lines.append(f"  {back}{_transaction(payment.refund.transaction)}")
    result = job.result
    links = (
        (("image", result.image_url), ("video", result.video_url), ("thumb", result.thumbnail_url)) if result else ()
    )
    return lines + [f"  {name:<8} {url}" for name, url in links if url]


def file_lines(paths: Sequence[Path]) -> list[str]:
    return [f"  saved    {path} ({path.stat().st_size:,} bytes)" for path in paths]


def webhook_document(webhooks: Webhooks) -> dict[str, Any]:
    """Return the log of a job's webhooks as the service told it."""
    return {"success": True} | webhooks.model_dump(by_alias=True, exclude_unset=True)


def webhook_lines(webhooks: Webhooks) -> list[str]:
    """Return the log for people: who is told, how the messages are checked, and each message with its last try."""
    if webhooks.url is None:
        return [f"{webhooks.job_id}  nobody is told: its order named no webhook"]
    head = [f"{webhooks.job_id}  {webhooks.url}", f"  secret   {webhooks.secret}", f"  key      {webhooks.public_key}"]
    return head + [f"  {_message(each)}" for each in webhooks.messages]


def _message(message: Message) -> str:
    tries = [str(each.status or each.reason or "cut off").removesuffix(".") for each in message.tries]
    told = f"{len(tries)} {'try' if len(tries) == 1 else 'tries'}{f', last {tries[-1]}' if tries else ''}"
    due = f", next {message.next_try_at}" if message.next_try_at else ""
    return f"{message.type}  {message.state}  {message.id}, {told}{due}"


def eta_words(eta: Eta) -> str:
    """Return how long something takes, e.g. `about 12 s, 9 of 10 within 20 s`; what nobody measured has no such detail."""
    if not eta.p90_seconds:
        return "at once"
    if eta.basis != "history":
        return f"usually within {eta.p90_seconds:g} s"
    return f"about {eta.seconds:g} s, 9 of 10 within {eta.p90_seconds:g} s"


def price_document(price: Price) -> dict[str, Any]:
    """Return a price as the service told it, with the uploads that it does not know of."""
    return price.model_dump(by_alias=True, exclude_unset=True)


def price_lines(price: Price) -> list[str]:
    """Return a price for people: what it is made of, the time to expect, and what each network asks."""
    held = ", charged when the work is done" if price.settles == "complete" else ""
    uploads = [f"  ${price.total}  with the upload of files that are too large to go inside: {price.uploads}"]
    return [
        f"${price.price}  {price.model}/{price.operation}{held}",
        *(f"  {_part(line)}" for line in price.breakdown),
        *(uploads if price.uploads else []),
        f"  {eta_words(price.eta)}",
        *(f"  {_way(way)}" for way in price.rails),
    ]


def _part(line: Line) -> str:
    times = f"{line.quantity} x ${line.unit_price} a second" if line.unit == "second" else f"${line.unit_price} each"
    because = ", ".join(f"{name}={value}" for name, value in line.because.items())
    return f"{times}{f', by {because}' if because else ''}"


def _way(way: Way) -> str:
    amount = f"{Decimal(way.amount).scaleb(-way.decimals):f}"
    return f"{amount}  by {way.protocol} on {way.network}, token {way.asset}"


def quote_document(quote: Quote) -> dict[str, Any]:
    """Return a quote with everything that a payment of it would name."""
    return {
        "success": True,
        "model": quote.wish.model,
        "operation": quote.wish.operation,
        "price": str(quote.amount),
        **({"uploads": len(quote.uploads), "total": str(quote.total)} if quote.uploads else {}),
        "currency": "USD",
        "network": quote.network,
        "asset": quote.offer.asset,
        "payTo": quote.pay_to,
        "expiresInSeconds": quote.offer.max_timeout_seconds,
    }


def _transaction(transaction: str | None) -> str:
    return f", transaction {transaction}" if transaction else ""
