"""The three headers of x402 over HTTP (specs/transports-v2/http.md): standard base64 of JSON, read strictly."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from stablestudio.protocols._wire import EVM_ADDRESS, LINE, Fields, WireError, decode_json, encode_json, form
from stablestudio.protocols.eip3009 import Authorization
from stablestudio.protocols.x402.errors import MalformedOffer, MalformedPayment, MalformedReceipt
from stablestudio.protocols.x402.messages import (
    VERSION,
    AnyPayment,
    PaymentPayload,
    PaymentRequired,
    PaymentRequirements,
    Resource,
    SettleResponse,
    SolanaPayload,
)

PAYMENT_REQUIRED = "PAYMENT-REQUIRED"
PAYMENT_SIGNATURE = "PAYMENT-SIGNATURE"
PAYMENT_RESPONSE = "PAYMENT-RESPONSE"
MAX_HEADER = 16 * 1024
_MAX_EXTENSIONS = 32
_MAX_OFFERS = 32

_NONCE = form("32 bytes: 0x and 64 hexadecimal digits", r"0x[0-9a-fA-F]{64}")
# A Solana transaction fits into one packet of 1232 bytes.
_TRANSACTION = form("base64 of a Solana transaction", r"[A-Za-z0-9+/]{4,1644}={0,2}")
_SIGNATURE = form("0x and an even number of hexadecimal digits", r"0x(?:[0-9a-fA-F]{2}){0,4096}")


def encode_required(required: PaymentRequired) -> str:
    """Return the value of PAYMENT-REQUIRED."""
    return encode_json(required.wire())


def decode_required(header: str, *, limit: int = MAX_HEADER) -> PaymentRequired:
    """Read PAYMENT-REQUIRED of at most `limit` characters; raise `MalformedOffer`."""
    try:
        return _read_required(decode_json(header, limit=limit))
    except WireError as error:
        raise MalformedOffer(f"The seller's PAYMENT-REQUIRED cannot be read: {error}.") from None


def encode_payment(payload: AnyPayment) -> str:
    """Return the value of PAYMENT-SIGNATURE."""
    return encode_json(payload.wire())


def decode_payment(header: str, *, limit: int = MAX_HEADER) -> AnyPayment:
    """Read PAYMENT-SIGNATURE of at most `limit` characters; raise `MalformedPayment`, which names the part at fault.

    Form only: whether the signature holds and the terms fit is for `exact` to say.
    """
    try:
        return _read_payment(decode_json(header, limit=limit))
    except WireError as error:
        raise MalformedPayment(f"The payment header cannot be read: {error}.") from None


def encode_response(response: SettleResponse) -> str:
    """Return the value of PAYMENT-RESPONSE."""
    return encode_json(response.wire())


def decode_response(header: str, *, limit: int = MAX_HEADER) -> SettleResponse:
    """Read PAYMENT-RESPONSE of at most `limit` characters; raise `MalformedReceipt`."""
    try:
        fields = decode_json(header, limit=limit)
    except WireError as error:
        raise MalformedReceipt(f"The settlement answer cannot be read: {error}.") from None
    return SettleResponse.read(fields.value)


def _read_required(fields: Fields) -> PaymentRequired:
    _require_version(fields)
    resource = fields.optional_object("resource")
    return PaymentRequired(
        accepts=tuple(
            PaymentRequirements.read(Fields({"accepts": offer}).object("accepts"))
            for offer in fields.items("accepts", limit=_MAX_OFFERS)
        ),
        resource=_read_resource(resource) if resource else None,
        error=fields.remark("error"),
        extensions=_read_extensions(fields),
    )


def _read_resource(fields: Fields) -> Resource:
    return Resource(
        url=fields.text("url", LINE),
        description=fields.remark("description"),
        mime_type=fields.remark("mimeType"),
        other=fields.others("url", "description", "mimeType"),
    )


def _read_payment(fields: Fields) -> AnyPayment:
    _require_version(fields)
    payload = fields.object("payload")
    resource = fields.optional_object("resource")
    if "transaction" in payload.value:
        return SolanaPayload(
            transaction=_read_transaction(payload),
            accepted=PaymentRequirements.read(fields.object("accepted"), max_timeout_seconds=0),
            resource=resource.value if resource else None,
            extensions=_read_extensions(fields),
        )
    return PaymentPayload(
        authorization=_read_authorization(payload),
        signature=bytes.fromhex(payload.text("signature", _SIGNATURE)[2:]),
        # Some buyers leave maxTimeoutSeconds out of the echo; validBefore is what counts.
        accepted=PaymentRequirements.read(fields.object("accepted"), max_timeout_seconds=0),
        resource=resource.value if resource else None,
        extensions=_read_extensions(fields),
    )


def _read_authorization(payload: Fields) -> Authorization:
    if "authorization" not in payload.value and "permit2Authorization" in payload.value:
        raise payload.fault("authorization", "is missing: Permit2 payloads are not accepted here")
    fields = payload.object("authorization")
    return Authorization(
        sender=fields.text("from", EVM_ADDRESS).lower(),
        recipient=fields.text("to", EVM_ADDRESS).lower(),
        value=fields.uint256("value"),
        valid_after=fields.uint256("validAfter"),
        valid_before=fields.uint256("validBefore"),
        nonce=bytes.fromhex(fields.text("nonce", _NONCE)[2:]),
    )


def _read_transaction(payload: Fields) -> bytes:
    try:
        return base64.b64decode(payload.text("transaction", _TRANSACTION), validate=True)
    except binascii.Error:
        raise payload.fault("transaction", "must be base64 of a signed Solana transaction") from None


def _read_extensions(fields: Fields) -> Mapping[str, Any]:
    extensions = fields.optional_object("extensions")
    if extensions is None:
        return {}
    if len(extensions.value) > _MAX_EXTENSIONS:
        raise fields.fault("extensions", f"must have at most {_MAX_EXTENSIONS} members")
    return extensions.value


def _require_version(fields: Fields) -> None:
    if fields.whole("x402Version") != VERSION:
        raise fields.fault("x402Version", f"must be {VERSION}")
