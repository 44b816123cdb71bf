"""Why a payment was refused by the chain or by who settles it, and the conflicts of a payment presented twice."""

from __future__ import annotations

from stablestudio.errors import StudioError
from stablestudio.payments.rail import Rejected
from stablestudio.protocols import x402


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


class PaymentTooEarly(PaymentRejected):
    """The chain's clock has not reached the payment's validAfter."""

    hint = "Sign a new payment with validAfter in the past (0 will do) and check your clock; nothing was charged."


class SignatureRefusedByChain(PaymentRejected):
    """The chain refused the payment's signature."""

    hint = (
        "Sign all fields as sent with the paying account's key, on EVM networks under the EIP-712 domain of the offer; "
        "nothing was charged."
    )


class TransferRefusedByChain(PaymentRejected):
    """The chain would not carry this transfer out."""

    hint = "Read the reason in `error`, and pay from an account that the token lets transfer; nothing was charged."


class AccountFrozen(PaymentRejected):
    """A token account of this payment is frozen by the token's issuer."""

    hint = "Pay from another account, or with another token of the offers; nothing was charged."


class PaymentReverted(PaymentRejected):
    """The transfer failed on the chain; nothing moved."""

    hint = "Look up the transaction named in `error`, mend its cause and sign a new payment; nothing was charged."


class ContractWalletRefused(PaymentRejected):
    """The paying contract wallet did not accept the signature."""

    hint = (
        "Sign with an owner of the wallet, so that its isValidSignature (ERC-1271) answers 0x1626ba7e on the offer's "
        "network; nothing was charged."
    )


class WalletFactoryNotAllowed(PaymentRejected):
    """The paying contract wallet is not deployed, and this service does not call its factory."""

    hint = "Deploy the wallet on the offer's network first, or pay from another account; nothing was charged."


class WalletNotDeployable(PaymentRejected):
    """The factory call in the signature does not deploy the paying contract wallet."""

    hint = "Deploy the wallet on the offer's network first, or wrap the right factory call; nothing was charged."


class PayerRefused(PaymentRejected):
    """The settlement service may not take payments from this wallet."""

    hint = (
        "The settlement service screens addresses and its word is final here: ask it about this one, or pay from an "
        "account that it accepts; nothing was charged."
    )


class SettlementRefused(PaymentRejected):
    """The settlement service refused the payment."""

    hint = (
        "Sign a new payment for one of the offers in this answer's headers, unchanged; if that is refused too, choose "
        "another offer; nothing was charged."
    )


class RecipientRefused(StudioError):
    """The settlement service may not pay this service's receiving address."""

    status = 502
    hint = (
        "This is not the payment's fault, and a new signature meets the same answer: choose an offer on another network, "
        "or tell the operator; nothing was charged."
    )


class SettlementUnavailable(StudioError):
    """No payment can be settled on this network at the moment; nothing moved."""

    status = 503
    retryable = True
    hint = (
        "Send the same request with the same payment again in a few seconds, and sign no new one; nothing was charged."
    )


class PaymentReused(StudioError):
    """This payment has bought something else already; a payment buys one order."""

    status = 409
    hint = "Send the first request again to get its job, or sign a new payment for this one."


class IdempotencyConflict(StudioError):
    """This Idempotency-Key has opened another order of this wallet already."""

    status = 409
    hint = "Use a new key for a new order, or repeat the first request exactly."


class StoreUnavailable(StudioError):
    """The service cannot write down a sale at the moment, so it takes no payment."""

    status = 503
    retryable = True
    hint = "Send the same request again in a few seconds, with the same payment if it has one; nothing was charged."


class SalesUnavailable(StudioError):
    """This try took no money; whether an earlier one with this payment did cannot be looked up at the moment.

    Its `charged` is null: neither yes nor no.
    """

    status = 503
    retryable = True
    hint = (
        "Send the same request with the same payment again in a few seconds, and sign no new one: a payment that was "
        "taken before is answered with its job, and is not taken twice."
    )

    def __init__(self) -> None:
        super().__init__(charged=None)


class NetworkNotOffered(StudioError):
    """The payment is for a network or token that this service does not take."""

    status = 402
    hint = "Choose one of the offers in this answer's headers."


_BY_REASON: dict[str, type[StudioError]] = {
    "account_frozen": AccountFrozen,
    "contract_wallet_refused": ContractWalletRefused,
    "insufficient_funds": InsufficientFunds,
    "invalid_signature": SignatureRefusedByChain,
    "nonce_already_used": NonceAlreadyUsed,
    "payer_refused": PayerRefused,
    "payment_expired": PaymentExpiredUnsettled,
    "payment_not_yet_valid": PaymentTooEarly,
    "payment_refused": SettlementRefused,
    "recipient_refused": RecipientRefused,
    "settlement_unavailable": SettlementUnavailable,
    "simulation_failed": TransferRefusedByChain,
    "transaction_reverted": PaymentReverted,
    "wallet_factory_not_allowed": WalletFactoryNotAllowed,
    "wallet_not_deployable": WalletNotDeployable,
    # What a rail would have said of the signature at once, had it not asked the chain about a contract wallet first.
    **{
        error.code: error
        for error in (
            x402.ContractWalletUnsupported,
            x402.PaymentSenderMismatch,
            x402.PaymentSignatureHighS,
            x402.PaymentSignatureInvalid,
        )
    },
}


def rejection(outcome: Rejected, *, payer: str, network: str) -> StudioError:
    """Return the error that tells a buyer why nothing moved: a `PaymentRejected`, unless the fault is ours.

    An answer of 402 makes clients sign again, so what no new signature can mend is no 402.
    """
    error = _BY_REASON.get(outcome.reason, PaymentRejected)(outcome.message or None)
    if isinstance(error, PaymentRejected):
        error.payer, error.network, error.reason = payer, network, outcome.reason
    return error
