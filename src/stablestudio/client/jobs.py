"""A job as the service tells it, and how often to ask."""

from __future__ import annotations

import re
from typing import Annotated, Any

import pydantic
from pydantic.alias_generators import to_camel

from stablestudio.client.errors import UnreadableAnswer
from stablestudio.client.steps import Reply

_JOB_ID = r"[A-Za-z0-9_-]{1,128}"
_FIRST = 0.3
_GROWTH = 1.5  # a look comes late by a third of the time waited so far, at most
_QUICK = 20
_SLOWEST = 60
_DEFAULT_POLL = 5


class Told(pydantic.BaseModel):
    """What a service tells, kept as it is told: fields that this client does not know, too."""

    model_config = pydantic.ConfigDict(frozen=True, extra="allow", alias_generator=to_camel, populate_by_name=True)


class Refund(Told):
    """Money on its way back, or back."""

    state: str | None = None
    amount: str | None = None
    transaction: str | None = None


class Payment(Told):
    """What was paid for a job, in US dollars, and what came of it."""

    amount: str | None = None
    network: str | None = None
    payer: str | None = None
    transaction: str | None = None
    state: str | None = None
    refund: Refund | None = None


class Result(Told):
    """Links to the files of a complete job; they live about 20 minutes and are fresh at each read.

    A job whose files are gone says why in place of links: `expired` or `deleted`.
    """

    image_url: str | None = None
    video_url: str | None = None
    thumbnail_url: str | None = None
    poster_url: str | None = None
    blurhash: str | None = None
    content_type: str | None = None
    size: int | None = None
    sha256: str | None = None
    width: int | None = None
    height: int | None = None
    duration_seconds: float | None = None
    expires_at: str | None = None
    expired: bool | None = None
    deleted: bool | None = None

    @property
    def gone(self) -> str | None:
        """Return why the files cannot be had any more; None while they can."""
        if self.deleted:
            return "deleted"
        return "expired" if self.expired else None


class Job(Told):
    """A job: `pending`, `loading`, `complete` or `failed`. What the service tells beyond these fields is kept, too."""

    # It becomes part of URLs and file names.
    id: Annotated[str, pydantic.Field(pattern=f"^{_JOB_ID}$", serialization_alias="jobId")] = pydantic.Field(
        validation_alias=pydantic.AliasChoices("jobId", "id")
    )
    status: str
    type: str | None = None
    progress: int | float | None = None
    error: Any = None
    error_code: str | None = None
    result: Result | None = None
    payment: Payment | None = None
    webhook: str | None = None
    """Who is told when the job ends, by the order that this client kept; only where it has just been bought."""
    poll_after: int | float = _DEFAULT_POLL

    @property
    def ended(self) -> bool:
        return self.status in {"complete", "failed"}

    @property
    def failed(self) -> bool:
        return self.status == "failed"

    @property
    def cancelled(self) -> bool:
        """Tell whether its wallet ended it."""
        return self.failed and self.error_code == "cancelled"

    @property
    def refunded(self) -> bool:
        """Tell whether the money is back in the payer's wallet."""
        return self.payment is not None and self.payment.state == "refunded"

    @property
    def uncharged(self) -> bool:
        """Tell whether the payment was never taken: held and given back, or not to be had."""
        return self.payment is not None and self.payment.state in {"released", "rejected"}

    @property
    def complaint(self) -> str | None:
        """Return why a job failed, as the service words it."""
        told = self.error.get("message", self.error.get("error")) if isinstance(self.error, dict) else self.error
        return str(told) if told else None


def read_job(reply: Reply, *, job_id: str | None = None) -> Job:
    """Read one job; raise `UnreadableAnswer` if it is none."""
    document = reply.document()
    inner = document.get("job")
    return job_of(inner if isinstance(inner, dict) else document, job_id=job_id)


def read_jobs(reply: Reply) -> list[Job]:
    """Read a list of jobs; raise `UnreadableAnswer` if it is none."""
    items = reply.document().get("jobs")
    if not isinstance(items, list):
        raise UnreadableAnswer("The service answered no list of jobs.")
    return [job_of(item) for item in items]


def job_of(document: Any, *, job_id: str | None = None) -> Job:
    """Read a job from JSON that names its id, or that is known to be of `job_id`."""
    try:
        return Job.model_validate(({"jobId": job_id} if job_id else {}) | document)
    except (pydantic.ValidationError, TypeError) as error:
        raise UnreadableAnswer("The service answered a job that this client cannot read.") from error


def poll_delay(count: int, *, poll_after: float) -> float:
    """Return the seconds before the next look: quick at first, then what the service asks for.

    Most pictures are there in a second or two, so the first looks cost little and save much.
    """
    return min(_FIRST * _GROWTH ** min(count, _QUICK), max(poll_after, 0.1), _SLOWEST)


def is_job_id(value: object) -> bool:
    """Tell whether a value can stand in URLs and file names as a job's id."""
    return isinstance(value, str) and re.fullmatch(_JOB_ID, value) is not None
