"""An order as the buyer keeps it, and what an answer to its signed payment means. Pure: the journal keeps the files."""

from __future__ import annotations

from dataclasses import dataclass

import pydantic
from pydantic.alias_generators import to_camel

from stablestudio.client.answers import api_error
from stablestudio.client.errors import PaymentRejected, StudioApiError
from stablestudio.client.jobs import is_job_id
from stablestudio.client.offers import Wish
from stablestudio.client.steps import Lost, Outcome, Reply
from stablestudio.money import Money

_NOT_TAKEN = {408, 425, 429}  # the request was turned away before anybody looked at it


class Upload(pydantic.BaseModel):
    """A file that the service has; media fields take it, or its `blob_url`, for orders of the same wallet."""

    model_config = pydantic.ConfigDict(frozen=True, extra="allow", alias_generator=to_camel, populate_by_name=True)

    id: str
    blob_url: str
    content_type: str | None = None
    size: int | None = None
    sha256: str | None = None
    expires_at: str | None = None
    """Until when the file is kept; None for ever, or where the service does not tell."""


class Sending(pydantic.BaseModel):
    """A file on its way to its paid place, and how far it has come: `etags` are of the parts that arrived in `session`."""

    model_config = pydantic.ConfigDict(frozen=True)

    path: str | None
    """Where the file lies; None where a program had its bytes."""
    sha256: str | None
    """None after a refusal: the place is free for any file of its name and type."""
    session: str | None = None
    etags: dict[int, str] = pydantic.Field(default_factory=dict)
    wanted_for: str | None = None
    """The model and operation of the order that the file is for; None where it is uploaded for its own sake."""
    upload: Upload | None = None
    """The file in its place, until the order that it is for is answered."""


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
    sending: Sending | None = None
    webhook: str | None = None
    """Who is told when the job ends; sent with the payment each time."""

    @property
    def amount(self) -> Money:
        return Money.parse(self.price)

    @property
    def open(self) -> bool:
        """Tell whether there is something to continue: a payment without an answer, or a file to send."""
        if self.sending is not None:
            return self.sending.sha256 is not None and self.sending.upload is None
        return self.job_id is None

    def serves(self, wish: Wish) -> bool:
        """Tell whether this order, once it is answered, is what the wish wants.

        Another webhook makes no other order: the work may be paid, and it is not to be paid twice.
        """
        if (self.url, self.body) != (wish.url, wish.body.decode()):
            return False
        ours, wanted = self.sending, wish.sending
        return ours is None or wanted is None or ours.sha256 in (None, wanted.sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The payment bought something."""

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


def judge(outcome: Outcome, *, receipt: str = "jobId") -> Verdict:
    """Decide what one answer to a signed payment means; nothing here ever leads to a second signature.

    `receipt` is the field of the answer that names what was bought.
    """
    if isinstance(outcome, Lost):
        return SendAgain(reason=outcome.reason, doubt=outcome.sent)
    body = outcome.document_or_none() or {}
    told_free = body.get("charged") is False
    status = outcome.status
    if status in {200, 201} and is_job_id(body.get(receipt)):
        return Accepted(reply=outcome)
    if status < 300:
        why = "the payment is being settled" if status == 202 else f"an answer without {receipt}"
        return SendAgain(reason=why, doubt=True, after=outcome.retry_after())
    if status in _NOT_TAKEN or status >= 500:
        doubt = status not in _NOT_TAKEN and not told_free
        return SendAgain(reason=f"HTTP {status}", doubt=doubt, after=outcome.retry_after())
    return Refused(error=api_error(outcome, PaymentRejected), certain=told_free)


def replay_delays() -> tuple[float, ...]:
    """Return the seconds to wait before each repetition of a payment; about a minute in all."""
    return (0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0)
