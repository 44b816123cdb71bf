"""What a vendor's refusal means: for the buyer a clean sentence, for the maker a kind, for the operator the raw word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from stablestudio.errors import StudioError
from stablestudio.providers.answers import Ambiguous, Reply
from stablestudio.providers.provider import Failed, FailureKind, NotAccepted
from stablestudio.providers.scrub import scrubbed

_DETAIL = 500  # characters

SENTENCES: Mapping[FailureKind, str] = {
    FailureKind.MODERATION: "The vendor's content rules refused this prompt, its media or the result.",
    FailureKind.INVALID_INPUT: "The vendor could not work with this input.",
    FailureKind.UPSTREAM_AUTH: "The vendor does not take this service's key at the moment.",
    FailureKind.UPSTREAM_QUOTA: "This service has used up its credit with the vendor.",
    FailureKind.UPSTREAM_RETIRED: "The vendor no longer serves this model.",
    FailureKind.RATE_LIMITED: "The vendor has too much to do at the moment.",
    FailureKind.UPSTREAM_ERROR: "The vendor could not make this.",
    FailureKind.UPSTREAM_TIMEOUT: "The vendor did not finish in time.",
    FailureKind.UPSTREAM_UNKNOWN: "The vendor's answer was lost; the work was not repeated.",
    FailureKind.CANCELLED: "This was cancelled at the buyer's request.",
    FailureKind.PAYMENT_FAILED: "The payment could not be collected when the work was done.",
}
_BY_STATUS = {
    400: FailureKind.INVALID_INPUT,
    401: FailureKind.UPSTREAM_AUTH,
    402: FailureKind.UPSTREAM_QUOTA,
    403: FailureKind.UPSTREAM_AUTH,
    404: FailureKind.UPSTREAM_RETIRED,
    410: FailureKind.UPSTREAM_RETIRED,
    413: FailureKind.INVALID_INPUT,
    415: FailureKind.INVALID_INPUT,
    422: FailureKind.INVALID_INPUT,
    429: FailureKind.RATE_LIMITED,
}
_OF_THE_WORK = frozenset({FailureKind.MODERATION, FailureKind.INVALID_INPUT})


class VendorUnusable(StudioError):
    """A configured vendor cannot be used."""

    status = 503
    hint = "Correct the vendor's key, address or account in the configuration of this service."


def failed(kind: FailureKind, message: str | None = None, *, detail: str = "", request_id: str | None = None) -> Failed:
    """Return a failure whose words for the buyer are those of its kind, unless a better clean sentence is given."""
    told = scrubbed(detail)[:_DETAIL]
    return Failed(kind=kind, message=message or SENTENCES[kind], detail=told, request_id=request_id)


def kind_of(status: int) -> FailureKind:
    """Return what a status means where the vendor's own code tells no more."""
    return _BY_STATUS.get(status, FailureKind.UPSTREAM_ERROR)


def turned_down(kind: FailureKind, reply: Reply, *, message: str | None = None) -> Failed:
    """Return the failure of work that was turned down before it was taken, where the work itself is the reason.

    Raise `NotAccepted` where the reason is the vendor's or the operator's, so that another vendor may be asked, and
    `Ambiguous` where the vendor's own time ran out: whatever it had begun may go on.
    """
    if kind is FailureKind.UPSTREAM_TIMEOUT:
        raise Ambiguous(f"status {reply.status}: {reply.excerpt}", reply=reply)
    if kind in _OF_THE_WORK:
        return failed(kind, message, detail=reply.excerpt, request_id=reply.request_id)
    told = f"status {reply.status}: {reply.excerpt}"
    raise NotAccepted(told, kind=kind, request_id=reply.request_id)


def unusable(name: str, reply: Reply, *, kind: FailureKind | None = None) -> NoReturn:
    """Raise what the answer to a check means for the operator."""
    match kind or kind_of(reply.status):
        case FailureKind.UPSTREAM_AUTH:
            what = "refuses the configured key"
        case FailureKind.UPSTREAM_QUOTA:
            what = "has no credit left for the configured key"
        case FailureKind.UPSTREAM_RETIRED:
            what = "does not know what was asked for: is its address right?"
        case _:
            what = "answered unexpectedly"
    raise VendorUnusable(f"{name} {what} (HTTP {reply.status}: {reply.excerpt[:200]})")
