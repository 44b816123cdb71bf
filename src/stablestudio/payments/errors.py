"""Why a payment was refused after its signature held, and the conflicts of a payment presented twice."""

from __future__ import annotations

from stablestudio.errors import StudioError
from stablestudio.payments.rail import Rejected


class PaymentRejected(StudioError):
    """The payment was not settled; nothing moved.

    `payer`, `network` and `reason` tell which payment, where it is known.
    """

    payer = ""
    network = ""
    reason = ""

    status = 402
    hint = "Sign a new payment for one of the offers in this answer's headers."


class InsufficientFunds(PaymentRejected):
    """The wallet does not hold enough of the token for this payment."""

    hint = "Fund the paying wallet on the network of the offer and send the same request again."


class PaymentExpiredUnsettled(PaymentRejected):
    """The payment expired before it was settled."""


class NonceAlreadyUsed(PaymentRejected):
    """The authorization's nonce was spent on another transfer."""


class PaymentReused(StudioError):
    """This payment has bought something else already; a payment buys one order."""

    status = 409
    hint = "Send the first request again to get its job, or sign a new payment for this one."


class IdempotencyConflict(StudioError):
    """This Idempotency-Key has opened another order of this wallet already."""

    status = 409
    hint = "Use a new key for a new order, or repeat the first request exactly."


class StoreUnavailable(StudioError):
    """The service cannot write down a sale at the moment, so it does not take the payment."""

    status = 503
    retryable = True
    hint = "Send the same request with the same payment again in a few seconds; nothing was charged."


class NetworkNotOffered(StudioError):
    """The payment is for a network or token that this service does not take."""

    status = 402
    hint = "Choose one of the offers in this answer's headers."


_BY_REASON: dict[str, type[PaymentRejected]] = {
    "insufficient_funds": InsufficientFunds,
    "payment_expired": PaymentExpiredUnsettled,
    "nonce_already_used": NonceAlreadyUsed,
}


def rejection(outcome: Rejected, *, payer: str, network: str) -> PaymentRejected:
    """Return the error that tells a buyer why nothing moved."""
    error = _BY_REASON.get(outcome.reason, PaymentRejected)(outcome.message or None)
    error.payer, error.network, error.reason = payer, network, outcome.reason
    return error
