"""Why a payment is refused, or why a seller's message cannot be read: one class per reason."""

from __future__ import annotations

from stablestudio.errors import StudioError


class PaymentRefused(StudioError):
    """This payment was refused; nothing was charged."""

    status = 402
    hint = "Sign a new payment for one of the offers in PAYMENT-REQUIRED, unchanged; nothing was charged."


class MalformedPayment(PaymentRefused):
    """The payment header cannot be read."""

    hint = (
        "Send PAYMENT-SIGNATURE as base64 of an x402 v2 PaymentPayload with an EIP-3009 authorization, "
        "made from one of the offers in PAYMENT-REQUIRED; nothing was charged."
    )


class PaymentTermsMismatch(PaymentRefused):
    """The payment is for other terms than this request costs."""


class PaymentSignatureInvalid(PaymentRefused):
    """The payment's signature is no valid secp256k1 signature."""


class PaymentSignatureHighS(PaymentRefused):
    """The payment's signature has an s in the upper half of the curve order, which token contracts refuse."""

    hint = "Sign with a wallet that makes low-s signatures (EIP-2); nothing was charged."


class PaymentSenderMismatch(PaymentRefused):
    """The payment was not signed by its sender."""

    hint = (
        "Sign all authorization fields as sent, under the EIP-712 domain of the offer: extra.name, extra.version, "
        "the network's chain id and the asset; nothing was charged."
    )


class ContractWalletUnsupported(PaymentRefused):
    """Signatures of contract wallets (ERC-1271, ERC-6492) are not accepted from this sender on this network."""

    hint = (
        "Pay from an account with a private key, whose signature has 65 bytes, or from a contract wallet that is deployed "
        "on a network where this service asks wallets; nothing was charged."
    )


class PaymentNotYetValid(PaymentRefused):
    """The payment's validAfter lies in the future."""

    hint = "Set validAfter to the past (0 will do) and check your clock; nothing was charged."


class PaymentExpired(PaymentRefused):
    """The payment expires before it could be settled."""

    hint = "Sign a new payment with validBefore = now + maxTimeoutSeconds and check your clock; nothing was charged."


class MalformedOffer(StudioError):
    """The seller's PAYMENT-REQUIRED cannot be read."""

    status = 502
    hint = "Tell the seller; nothing was signed."


class UnsupportedOffer(StudioError):
    """This offer cannot be paid with an EIP-3009 authorization."""

    status = 502
    hint = "Choose an `exact` offer on an eip155 network that names its token in extra.name and extra.version."


class MalformedReceipt(StudioError):
    """The settlement answer cannot be read."""

    status = 502
    hint = "The payment may have been made: ask again with the same signed payment, never with a new one."
