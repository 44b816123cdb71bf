"""What a buyer is told of its payment in headers: the receipt of the protocol that it paid by."""

from __future__ import annotations

from stablestudio.clock import iso
from stablestudio.errors import StudioError
from stablestudio.payments.errors import PaymentRejected
from stablestudio.protocols import mpp, x402
from stablestudio.server.http import Headers
from stablestudio.store.payments import Payment

_PROBLEMS = {
    "insufficient_funds": "payment-insufficient",
    "payment_expired_unsettled": "payment-expired",
}


def receipt(payment: Payment) -> Headers:
    """Return the receipt of a payment; none while it is held."""
    if payment.state != "settled":
        return []
    if payment.rail.startswith("mpp:"):
        line = mpp.encode_receipt(reference=payment.transaction or "", timestamp=iso(payment.updated_at))
        return [(mpp.PAYMENT_RECEIPT.encode(), line.encode())]
    settled = x402.SettleResponse(
        success=True, payer=payment.payer, transaction=payment.transaction or "", network=payment.network
    )
    return [(x402.PAYMENT_RESPONSE.encode(), x402.encode_response(settled).encode())]


def problem(error: StudioError) -> str:
    """Return the problem type that MPP has for a refusal (RFC 9457, as paymentauth.org names them)."""
    return f"https://paymentauth.org/problems/{_PROBLEMS.get(error.code, 'verification-failed')}"


def failure(error: PaymentRejected) -> tuple[str, str]:
    """Return the x402 header that tells why nothing moved."""
    failed = x402.SettleResponse(
        success=False, payer=error.payer, transaction="", network=error.network, error_reason=error.reason
    )
    return x402.PAYMENT_RESPONSE, x402.encode_response(failed)
