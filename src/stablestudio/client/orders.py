"""An order as the buyer keeps it, and what an answer to its signed payment means. Pure: the journal keeps the files."""

from __future__ import annotations

from dataclasses import dataclass

import pydantic

from stablestudio.client.answers import api_error
from stablestudio.client.errors import PaymentRejected, StudioApiError
from stablestudio.client.jobs import is_job_id
from stablestudio.client.steps import Lost, Outcome, Reply
from stablestudio.money import Money

_NOT_TAKEN = {408, 425, 429}  # the request was turned away before anybody looked at it


class Order(pydantic.BaseModel):
    """One purchase: one request, one signed payment, one idempotency key. It carries no secret but the payment itself."""

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore")

    key: str = pydantic.Field(pattern=r"^[A-Za-z0-9_-]{16,128}$")
    base_url: str
    url: str
    model: str
    operation: str
    body: str
    signature: str = pydantic.Field(repr=False)
    """The value of `PAYMENT-SIGNATURE`."""
    price: str
    network: str
    payer: str
    created_at: str
    expires_at: str
    job_id: str | None = None
    transaction: str | None = None

    @property
    def amount(self) -> Money:
        return Money.parse(self.price)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The payment bought a job."""

    reply: Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class SendAgain:
    """Send the same bytes again. `doubt` says that this attempt may have taken the money."""

    reason: str
    doubt: bool
    after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A last word. `certain` says that the service itself states that nothing was charged."""

    error: StudioApiError
    certain: bool


Verdict = Accepted | SendAgain | Refused


def judge(outcome: Outcome) -> Verdict:
    """Decide what one answer to a signed payment means; nothing here ever leads to a second signature."""
    if isinstance(outcome, Lost):
        return SendAgain(reason=outcome.reason, doubt=outcome.sent)
    body = outcome.document_or_none() or {}
    told_free = body.get("charged") is False
    status = outcome.status
    if status in {200, 201} and is_job_id(body.get("jobId")):
        return Accepted(reply=outcome)
    if status < 300:
        why = "the payment is being settled" if status == 202 else "an answer without a job"
        return SendAgain(reason=why, doubt=True, after=outcome.retry_after())
    if status in _NOT_TAKEN or status >= 500:
        doubt = status not in _NOT_TAKEN and not told_free
        return SendAgain(reason=f"HTTP {status}", doubt=doubt, after=outcome.retry_after())
    return Refused(error=api_error(outcome, PaymentRejected), certain=told_free)


def replay_delays() -> tuple[float, ...]:
    """Return the seconds to wait before each repetition of a payment; about a minute in all."""
    return (0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0)
