"""x402 v2 messages (https://github.com/x402-foundation/x402, specs/x402-specification-v2.md)."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stablestudio.protocols import evm
from stablestudio.protocols._wire import CHAIN_ID, Fields, WireError, form
from stablestudio.protocols.eip3009 import Authorization
from stablestudio.protocols.x402.errors import MalformedReceipt

VERSION = 2

_SCHEME = form("a scheme name such as exact", r"[a-z0-9][-_a-z0-9]{0,31}")
_ACCOUNT = form("an address or asset id", r"[-._:/a-zA-Z0-9]{1,128}")
_TRANSACTION = form("a transaction id", r"[0-9a-zA-Z]{1,256}")
_NETWORK = form("a network id", r"[-:_a-zA-Z0-9]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentRequirements:
    """One entry of `accepts`: what a rail asks. `amount` is decimal text in base units; `other` keeps unknown members for the echo."""

    scheme: str = "exact"
    network: str
    amount: str
    asset: str
    pay_to: str
    max_timeout_seconds: int
    extra: Mapping[str, Any] = field(default_factory=dict)
    other: Mapping[str, Any] = field(default_factory=dict)

    def wire(self) -> dict[str, Any]:
        return {
            **self.other,
            "scheme": self.scheme,
            "network": self.network,
            "amount": self.amount,
            "asset": self.asset,
            "payTo": self.pay_to,
            "maxTimeoutSeconds": self.max_timeout_seconds,
            "extra": dict(self.extra),
        }

    @classmethod
    def read(cls, fields: Fields, *, max_timeout_seconds: int | None = None) -> PaymentRequirements:
        """Read an entry; `max_timeout_seconds` stands in where it is absent. Raise `WireError`."""
        extra = fields.optional_object("extra")
        return cls(
            scheme=fields.text("scheme", _SCHEME),
            network=fields.text("network", CHAIN_ID),
            amount=str(fields.uint256("amount")),
            asset=fields.text("asset", _ACCOUNT),
            pay_to=fields.text("payTo", _ACCOUNT),
            max_timeout_seconds=fields.whole("maxTimeoutSeconds", default=max_timeout_seconds),
            extra=extra.value if extra else {},
            other=fields.others("scheme", "network", "amount", "asset", "payTo", "maxTimeoutSeconds", "extra"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """What is sold; `other` carries optional members such as `serviceName` (<= 32 characters) and `tags` (<= 5)."""

    url: str
    description: str | None = None
    mime_type: str | None = None
    other: Mapping[str, Any] = field(default_factory=dict)

    def wire(self) -> dict[str, Any]:
        known = {"url": self.url, "description": self.description, "mimeType": self.mime_type}
        return {name: value for name, value in known.items() if value is not None} | dict(self.other)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentRequired:
    """The challenge of a 402: offers in the seller's order of preference, none where a sign-in is asked for."""

    accepts: Sequence[PaymentRequirements]
    resource: Resource | None = None
    error: str | None = None
    extensions: Mapping[str, Any] = field(default_factory=dict)

    def wire(self) -> dict[str, Any]:
        return {
            "x402Version": VERSION,
            **({"error": self.error} if self.error else {}),
            **({"resource": self.resource.wire()} if self.resource else {}),
            "accepts": [offer.wire() for offer in self.accepts],
            "extensions": dict(self.extensions),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentPayload:
    """A buyer's signed payment. Only the authorization is signed; `accepted`, `resource` and `extensions` are hearsay."""

    accepted: PaymentRequirements
    authorization: Authorization
    signature: bytes
    resource: Mapping[str, Any] | None = None
    extensions: Mapping[str, Any] = field(default_factory=dict)

    def wire(self) -> dict[str, Any]:
        signed = self.authorization
        return {
            "x402Version": VERSION,
            "payload": {
                "signature": f"0x{self.signature.hex()}",
                "authorization": {
                    "from": evm.checksum_address(signed.sender),
                    "to": evm.checksum_address(signed.recipient),
                    "value": str(signed.value),
                    "validAfter": str(signed.valid_after),
                    "validBefore": str(signed.valid_before),
                    "nonce": f"0x{signed.nonce.hex()}",
                },
            },
            "accepted": self.accepted.wire(),
            **({"resource": dict(self.resource)} if self.resource is not None else {}),
            "extensions": dict(self.extensions),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SolanaPayload:
    """A buyer's partly signed Solana transaction, as its bytes; the fee payer's signature is still missing."""

    accepted: PaymentRequirements
    transaction: bytes
    resource: Mapping[str, Any] | None = None
    extensions: Mapping[str, Any] = field(default_factory=dict)

    def wire(self) -> dict[str, Any]:
        return {
            "x402Version": VERSION,
            "payload": {"transaction": base64.b64encode(self.transaction).decode()},
            "accepted": self.accepted.wire(),
            **({"resource": dict(self.resource)} if self.resource is not None else {}),
            "extensions": dict(self.extensions),
        }


AnyPayment = PaymentPayload | SolanaPayload


@dataclass(frozen=True, slots=True, kw_only=True)
class SettleResponse:
    """How a settlement ended. A failure that names a transaction (`settlement_pending`) is not final."""

    success: bool
    network: str
    transaction: str = ""
    payer: str | None = None
    amount: str | None = None
    error_reason: str | None = None
    error_message: str | None = None

    def wire(self) -> dict[str, Any]:
        body = {
            "success": self.success,
            "errorReason": self.error_reason,
            "errorMessage": self.error_message,
            "payer": self.payer,
            "transaction": self.transaction,
            "network": self.network,
            "amount": self.amount,
        }
        return {name: value for name, value in body.items() if value is not None}

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> SettleResponse:
        """Read a decoded answer of a seller or a facilitator; raise `MalformedReceipt`."""
        fields = Fields(body)
        try:
            return cls(
                success=fields.flag("success"),
                network=fields.optional_text("network", _NETWORK) or "",
                transaction=fields.optional_text("transaction", _TRANSACTION) or "",
                payer=fields.optional_text("payer", _ACCOUNT),
                amount=None if fields.value.get("amount") is None else str(fields.uint256("amount")),
                error_reason=fields.remark("errorReason"),
                error_message=fields.remark("errorMessage"),
            )
        except WireError as error:
            raise MalformedReceipt(f"The settlement answer cannot be read: {error}.") from None
