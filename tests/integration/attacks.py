"""The attack table on the wire (facts of x402, section 10): what a dishonest or broken buyer may send, and what it is told."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from stablestudio.protocols import eip3009, x402
from stablestudio.protocols.eip3009 import Authorization, TokenDomain
from stablestudio.protocols.evm import EvmKey
from tests.service import Buyer

_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_ELSEWHERE = "0x209693bc6afc0c5328ba36faf03c514ef312287c"
Wire = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """A payment header made from a good payment, and the code of its refusal."""

    name: str
    code: str
    make: Callable[[x402.PaymentPayload, EvmKey], str]

    def __str__(self) -> str:
        return self.name


def good_payment(buyer: Buyer, path: str, body: dict[str, Any]) -> x402.PaymentPayload:
    """Return a payment that buys this body."""
    required = buyer.challenge(path, body)
    return x402.sign_exact(required, required.accepts[0], buyer.key, now_s=int(time.time()))


def signed_anew(
    payment: x402.PaymentPayload, key: EvmKey, *, domain: dict[str, Any] | None = None, **terms: Any
) -> str:
    """Sign other terms, or under another token domain, correctly."""
    authorization = replace(payment.authorization, **terms)
    token = replace(_domain(payment), **(domain or {}))
    return x402.encode_payment(
        replace(payment, authorization=authorization, signature=key.sign_digest(eip3009.digest(token, authorization)))
    )


def lasting(payment: x402.PaymentPayload, key: EvmKey, *, seconds: int) -> str:
    """Sign the payment to end so many seconds from now."""
    return signed_anew(payment, key, valid_before=int(time.time()) + seconds)


def _domain(payment: x402.PaymentPayload) -> TokenDomain:
    return x402.token_domain(payment.accepted)


def _tampered(**changes: Any) -> Callable[[x402.PaymentPayload, EvmKey], str]:
    """Change signed fields after signing."""

    def make(payment: x402.PaymentPayload, _: EvmKey) -> str:
        return x402.encode_payment(replace(payment, authorization=_changed(payment.authorization, changes)))

    return make


def _changed(authorization: Authorization, changes: dict[str, Any]) -> Authorization:
    made = {name: new(getattr(authorization, name)) if callable(new) else new for name, new in changes.items()}
    return replace(authorization, **made)


def _signature(change: Callable[[bytes], bytes]) -> Callable[[x402.PaymentPayload, EvmKey], str]:
    return lambda payment, _: x402.encode_payment(replace(payment, signature=change(payment.signature)))


def _high_s(signature: bytes) -> bytes:
    s = _ORDER - int.from_bytes(signature[32:64])
    return signature[:32] + s.to_bytes(32) + bytes([55 - signature[64]])


def _accepted(**changes: Any) -> Callable[[x402.PaymentPayload, EvmKey], str]:
    """Change the buyer's copy of the offer, which nobody signs."""
    return lambda payment, _: x402.encode_payment(replace(payment, accepted=replace(payment.accepted, **changes)))


def _signed(**options: Any) -> Callable[[x402.PaymentPayload, EvmKey], str]:
    return lambda payment, key: signed_anew(payment, key, **options)


def _wire(change: Callable[[Wire], object]) -> Callable[[x402.PaymentPayload, EvmKey], str]:
    """Change the JSON itself."""

    def make(payment: x402.PaymentPayload, _: EvmKey) -> str:
        wire = json.loads(json.dumps(payment.wire()))
        change(wire)
        return base64.b64encode(json.dumps(wire).encode()).decode()

    return make


def _raw(header: str) -> Callable[[x402.PaymentPayload, EvmKey], str]:
    return lambda _payment, _key: header


_FORGED, _TERMS, _MALFORMED = "payment_sender_mismatch", "payment_terms_mismatch", "malformed_payment"
_NETWORK = "network_not_offered"

ATTACKS = [
    Attack(name=name, code=code, make=make)
    for name, code, make in (
        ("value tampered", _FORGED, _tampered(value=lambda value: value - 1)),
        ("to tampered", _FORGED, _tampered(recipient=_ELSEWHERE)),
        ("from tampered", _FORGED, _tampered(sender=_ELSEWHERE)),
        ("nonce tampered", _FORGED, _tampered(nonce=lambda nonce: bytes([nonce[0] ^ 1]) + nonce[1:])),
        ("validAfter tampered", _FORGED, _tampered(valid_after=0)),
        ("validBefore tampered", _FORGED, _tampered(valid_before=lambda end: end + 1)),
        ("signature with one bit flipped", _FORGED, _signature(lambda s: s[:63] + bytes([s[63] ^ 1]) + s[64:])),
        ("signature with the other v", _FORGED, _signature(lambda s: s[:64] + bytes([55 - s[64]]))),
        ("signature with v 29", "payment_signature_invalid", _signature(lambda s: s[:64] + b"\x1d")),
        ("signature of zeros", "payment_signature_invalid", _signature(lambda _: bytes(64) + b"\x1b")),
        ("signature's high-s twin", "payment_signature_high_s", _signature(_high_s)),
        ("signature of a contract wallet", "contract_wallet_unsupported", _signature(lambda s: s + bytes(32))),
        ("signature missing", "contract_wallet_unsupported", _signature(lambda _: b"")),
        ("asset in accepted", _NETWORK, _accepted(asset=_ELSEWHERE)),
        ("network in accepted", _NETWORK, _accepted(network="eip155:8453")),
        ("amount in accepted", _TERMS, _accepted(amount="1")),
        ("payTo in accepted", _TERMS, _accepted(pay_to=_ELSEWHERE)),
        ("scheme in accepted", _TERMS, _accepted(scheme="upto")),
        ("a lower value, well signed", _TERMS, _signed(value=1)),
        ("a higher value, well signed", _TERMS, _signed(value=1_000_000)),
        ("value zero, well signed", _TERMS, _signed(value=0)),
        ("the largest value, well signed", _TERMS, _signed(value=2**256 - 1)),
        ("another recipient, well signed", _TERMS, _signed(recipient=_ELSEWHERE)),
        ("expired", "payment_expired", lambda payment, key: lasting(payment, key, seconds=-1)),
        ("about to expire", "payment_expired", lambda payment, key: lasting(payment, key, seconds=4)),
        ("not yet valid", "payment_not_yet_valid", _signed(valid_after=2**40, valid_before=2**41)),
        ("signed for another chain id", _FORGED, _signed(domain={"chain_id": 8453})),
        ("signed for another token", _FORGED, _signed(domain={"contract": _ELSEWHERE})),
        ("signed under another token name", _FORGED, _signed(domain={"name": "USD Coin"})),
        ("signed under another token version", _FORGED, _signed(domain={"version": "1"})),
        ("not base64", _MALFORMED, _raw("%%%")),
        ("base64 of no JSON", _MALFORMED, _raw(base64.b64encode(b"\xff\xfe").decode())),
        ("base64 of {}", _MALFORMED, _raw(base64.b64encode(b"{}").decode())),
        ("an empty header", _MALFORMED, _raw("")),
        ("an empty payload", _MALFORMED, _wire(lambda wire: wire.update(payload={}))),
        ("x402 version 1", _MALFORMED, _wire(lambda wire: wire.update(x402Version=1))),
        ("no accepted offer", _MALFORMED, _wire(lambda wire: wire.pop("accepted"))),
        ("value as a number", _MALFORMED, _wire(lambda wire: wire["payload"]["authorization"].update(value=45000))),
        ("value as a fraction", _MALFORMED, _wire(lambda wire: wire["payload"]["authorization"].update(value="4.5"))),
        ("a negative value", _MALFORMED, _wire(lambda wire: wire["payload"]["authorization"].update(value="-45000"))),
        ("a short nonce", _MALFORMED, _wire(lambda wire: wire["payload"]["authorization"].update(nonce="0x00"))),
        ("30 KB of header", _MALFORMED, _wire(lambda wire: wire.update(extensions={"a": "b" * 22_000}))),
    )
]
