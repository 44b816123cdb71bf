"""What a provider is: three verbs, and answers that say what is certain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from stablestudio.catalog import Offering, OfferingInput
from stablestudio.errors import Issue

# Seconds that the books may take for a look at a task under way, so that thousands of tasks are read together.
LOOK_PATIENCE = 0.03


class FailureKind(StrEnum):
    """Why a job failed, in one vocabulary for all vendors."""

    MODERATION = "moderation"
    INVALID_INPUT = "invalid_input"
    UPSTREAM_AUTH = "upstream_auth"  # the vendor does not take the operator's key
    UPSTREAM_QUOTA = "upstream_quota"  # the operator's credit or contract is used up
    UPSTREAM_RETIRED = "upstream_retired"  # the vendor has ended the model
    RATE_LIMITED = "rate_limited"
    UPSTREAM_ERROR = "upstream_error"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    UPSTREAM_UNKNOWN = "upstream_unknown"
    CANCELLED = "cancelled"  # by the buyer
    PAYMENT_FAILED = "payment_failed"  # held until the work was done, and not to be had then


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is to be made, for which job."""

    job_id: str
    wallet: str
    ordered_at: int  # milliseconds
    offering: Offering
    input: OfferingInput
    model: str = ""  # the vendor's own id of the model, as the binding names it


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The vendor took the work; `task` is its handle."""

    task: str
    upstream_model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """Not done yet; `progress` in percent where the vendor tells."""

    progress: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """Done; the output can be fetched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The vendor says, definitively, that nothing will come.

    `message` is fit for the buyer's eyes; `detail` is the vendor's raw word and `request_id` its own, for the operator.
    """

    kind: FailureKind
    message: str
    detail: str = ""
    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """The file that was made."""

    data: bytes
    content_type: str


class NotAccepted(Exception):
    """The vendor certainly did not take the work; asking again, or asking another, is safe.

    `retry_after` is the vendor's own advice in seconds, where it gave one.
    """

    def __init__(
        self,
        detail: str = "",
        *,
        kind: FailureKind = FailureKind.UPSTREAM_ERROR,
        retry_after: float | None = None,
        request_id: str | None = None,
    ) -> None:
        self.kind = kind
        self.detail = detail
        self.retry_after = retry_after
        self.request_id = request_id
        super().__init__(detail)


class Provider(Protocol):
    """A vendor. `submit` is called at most once per intent; the other verbs may be repeated."""

    name: str

    async def submit(self, work: Work) -> Accepted | Failed:
        """Ask for the work. Raises `NotAccepted`; any other exception means that nobody knows."""
        ...

    async def find(self, work: Work) -> Accepted | None:
        """Look for this work, submitted by a process that died. Raises `NotAccepted` if certainly none was."""
        ...

    async def poll(self, work: Work, task: str) -> Running | Made | Failed:
        """Ask how it goes."""
        ...

    async def fetch(self, work: Work, task: str) -> Output | Failed:
        """Get the output; `Failed` where it turns out that there is none."""
        ...


@runtime_checkable
class Cancels(Protocol):
    """A provider that can be told to stop working on a task."""

    name: str

    async def cancel(self, work: Work, task: str) -> bool:
        """Ask it to give a task up; return whether it agreed. A finished task, or one that cannot be stopped, stays."""
        ...


@runtime_checkable
class Objects(Protocol):
    """A provider that makes less than a route sells, and tells so from the input alone."""

    def objections(self, offering: Offering, given: OfferingInput, *, model: str = "") -> tuple[Issue, ...]:
        """Return an issue for each field that asks for what it lacks; pure, because it is asked at every quote."""
        ...


class Vendor(Provider, Protocol):
    """A provider outside of this house, behind a key."""

    @property
    def models(self) -> Mapping[str, str]:
        """Return the vendor's usual model by the key of each offering that it can make."""
        ...

    async def check(self) -> None:
        """Prove key and reach by a question that costs nothing; raise `VendorUnusable`, and nothing else."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...
