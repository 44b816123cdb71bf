"""The `exact` scheme on EVM networks: decide locally whether a payment is good, and make one.

Rules: specs/schemes/exact/scheme_exact_evm.md. Balances and used nonces are the chain's to say, not ours.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import NoReturn

from stablestudio.errors import Issue
from stablestudio.protocols import eip3009, evm
from stablestudio.protocols.eip3009 import Authorization, TokenDomain
from stablestudio.protocols.wallet import Wallet
from stablestudio.protocols.x402 import errors
from stablestudio.protocols.x402.messages import PaymentPayload, PaymentRequired, PaymentRequirements
from stablestudio.protocols.x402.payment_identifier import with_payment_identifier

SETTLE_MARGIN_SECONDS = 6  # the specification's time for a settlement to reach a block
_BACKDATE_SECONDS = 600  # a chain's clock may lag behind the buyer's


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedAuthorization:
    """A payment that holds by itself: `key` (`0xpayer:0xnonce`) names it for ever, `signature` ends in 27 or 28."""

    payer: Wallet
    key: str
    authorization: Authorization
    signature: bytes


def check_exact(payload: PaymentPayload, offer: PaymentRequirements, *, now_s: int) -> VerifiedAuthorization:
    """Check terms, signature and time of a payment against our own offer; raise a `PaymentRefused`."""
    check_terms(payload, offer)
    payer = recover_payer(payload, offer)
    check_time(payload, now_s=now_s)
    return VerifiedAuthorization(
        payer=payer,
        key=payload.authorization.key,
        authorization=payload.authorization,
        signature=normal_signature(payload.signature),
    )


def recover_payer(payload: PaymentPayload, offer: PaymentRequirements) -> Wallet:
    """Return who signed, under the token domain of our own offer, and only if that is the authorization's sender."""
    return prove_sender(token_domain(offer), payload.authorization, payload.signature)


def prove_sender(domain: TokenDomain, authorization: Authorization, signature: bytes) -> Wallet:
    """Return the sender if its own key signed; raise a `PaymentRefused` that says what is wrong with the signature.

    What is refused here may still be a contract wallet's (ERC-1271), which only its chain can tell.
    """
    if len(signature) != evm.SIGNATURE_BYTES:
        raise errors.ContractWalletUnsupported(
            f"The signature has {len(signature)} bytes instead of {evm.SIGNATURE_BYTES}: "
            "contract-wallet signatures are not accepted from this sender on this network."
        )
    try:
        signer = evm.recover_account(eip3009.digest(domain, authorization), signature)
    except evm.HighSignature:
        raise errors.PaymentSignatureHighS from None
    except evm.BadSignature:
        raise errors.PaymentSignatureInvalid from None
    if signer != bytes.fromhex(authorization.sender[2:]):
        raise errors.PaymentSenderMismatch
    return Wallet(namespace="eip155", address=authorization.sender)


def check_terms(payload: PaymentPayload, offer: PaymentRequirements) -> None:
    """Compare what was chosen and what was signed with our own offer; raise `PaymentTermsMismatch` with every difference."""
    chosen, signed = payload.accepted, payload.authorization
    compared = (
        (("accepted", "scheme"), chosen.scheme, offer.scheme),
        (("accepted", "network"), chosen.network, offer.network),
        (("accepted", "asset"), chosen.asset.lower(), offer.asset.lower()),
        (("accepted", "payTo"), chosen.pay_to.lower(), offer.pay_to.lower()),
        (("accepted", "amount"), chosen.amount, offer.amount),
        (("payload", "authorization", "to"), signed.recipient, offer.pay_to.lower()),
        (("payload", "authorization", "value"), str(signed.value), offer.amount),
    )
    issues = [
        Issue(path, "mismatch", f"{'.'.join(path)} is {got}, expected {expected}", (expected,))
        for path, got, expected in compared
        if got != expected
    ]
    if issues:
        _refuse_terms(issues)


def _refuse_terms(issues: list[Issue]) -> NoReturn:
    told = "; ".join(issue.message for issue in issues)
    raise errors.PaymentTermsMismatch(f"The payment is for other terms than this request costs: {told}.", issues=issues)


def check_time(payload: PaymentPayload, *, now_s: int) -> None:
    """Raise unless the authorization is valid now and for `SETTLE_MARGIN_SECONDS` more (Unix seconds)."""
    signed = payload.authorization
    if signed.valid_after >= now_s:  # the token wants a moment strictly after it
        raise errors.PaymentNotYetValid(f"The payment is valid after {signed.valid_after}, and now is {now_s}.")
    if signed.valid_before < now_s + SETTLE_MARGIN_SECONDS:
        raise errors.PaymentExpired(
            f"The payment is valid before {signed.valid_before}, and now is {now_s}; "
            f"{SETTLE_MARGIN_SECONDS} seconds must be left to settle it."
        )


def token_domain(offer: PaymentRequirements) -> TokenDomain:
    """Return the EIP-712 domain of an offer's token; raise `UnsupportedOffer` where the offer does not tell it."""
    namespace, _, chain = offer.network.partition(":")
    name, version = offer.extra.get("name"), offer.extra.get("version")
    if namespace != "eip155" or not (chain.isascii() and chain.isdecimal()) or not evm.is_address(offer.asset):
        raise errors.UnsupportedOffer
    if not isinstance(name, str) or not isinstance(version, str):
        raise errors.UnsupportedOffer
    return TokenDomain(name=name, version=version, chain_id=int(chain), contract=offer.asset)


def normal_signature(signature: bytes) -> bytes:
    """Return the 65 bytes with v as token contracts want it, 27 or 28, where a wallet wrote 0 or 1."""
    return signature[:64] + bytes((27 + signature[64] % 27,))


def sign_exact(
    required: PaymentRequired,
    requirements: PaymentRequirements,
    key: evm.EvmKey,
    *,
    now_s: int,
    nonce: bytes | None = None,
    payment_id: str | None = None,
) -> PaymentPayload:
    """Sign one offer of a challenge: valid from ten minutes ago until `maxTimeoutSeconds` from now.

    `nonce` (32 bytes) is random if not given. `payment_id` travels where the seller offers payment identifiers.
    The signature is money for whoever holds it until it expires: compare the amount with your budget before.
    """
    domain = token_domain(requirements)
    if requirements.scheme != "exact" or not evm.is_address(requirements.pay_to):
        raise errors.UnsupportedOffer
    authorization = Authorization(
        sender=key.address.lower(),
        recipient=requirements.pay_to.lower(),
        value=int(requirements.amount),
        valid_after=max(0, now_s - _BACKDATE_SECONDS),
        valid_before=now_s + requirements.max_timeout_seconds,
        nonce=os.urandom(32) if nonce is None else nonce,
    )
    extensions = required.extensions
    return PaymentPayload(
        accepted=requirements,
        authorization=authorization,
        signature=key.sign_digest(eip3009.digest(domain, authorization)),
        resource=required.resource.wire() if required.resource else None,
        extensions=with_payment_identifier(extensions, payment_id) if payment_id else extensions,
    )
