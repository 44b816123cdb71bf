"""How quotes, jobs and files look to people and to programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stablestudio.client import Job, Quote, Upload


def job_document(job: Job) -> dict[str, Any]:
    """Return a job as the service told it, with its small inputs in short."""
    told: dict[str, Any] = shortened(job.model_dump(by_alias=True, exclude_none=True))
    return told


def shortened(value: Any) -> Any:
    """Return a value with the beginning of each `data:` URI, which nobody reads to its end."""
    match value:
        case str() if value.startswith("data:") and len(value) > _LONGEST:
            return f"{value[:_LONGEST]}... ({len(value):,} characters)"
        case dict():
            return {name: shortened(each) for name, each in value.items()}
        case list() | tuple():
            return [shortened(each) for each in value]
    return value


def upload_document(upload: Upload) -> dict[str, Any]:
    """Return an upload as the service told it."""
    return upload.model_dump(by_alias=True, exclude_none=True)


_LONGEST = 60  # characters of a `data:` URI
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


def quote_document(quote: Quote) -> dict[str, Any]:
    """Return a quote with everything that a payment of it would name."""
    return {
        "success": True,
        "model": quote.wish.model,
        "operation": quote.wish.operation,
        "amount": str(quote.amount),
        **({"uploads": len(quote.uploads), "total": str(quote.total)} if quote.uploads else {}),
        "currency": "USD",
        "network": quote.network,
        "asset": quote.offer.asset,
        "payTo": quote.pay_to,
        "expiresInSeconds": quote.offer.max_timeout_seconds,
    }


def _transaction(transaction: str | None) -> str:
    return f", transaction {transaction}" if transaction else ""
