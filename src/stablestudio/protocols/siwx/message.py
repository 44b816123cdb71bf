"""The text that a wallet signs to sign in: EIP-4361 for EVM accounts, its sibling for Solana ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stablestudio.protocols._wire import CHAIN_ID, LINE, VISIBLE, Fields, form

_DOMAIN = form("a host, with its port if it has one", r"[!-~]{1,255}")
_VERSION = form("1", r"1")
_MOMENT = form(
    "an RFC 3339 moment with a time zone",
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:Z|[+-][0-9]{2}:[0-9]{2})",
)
_MAX_RESOURCES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is signed, without who signs it; moments stay texts, because their very spelling is signed."""

    domain: str
    uri: str
    nonce: str
    issued_at: str
    version: str = "1"
    statement: str | None = None
    expiration_time: str | None = None
    not_before: str | None = None
    request_id: str | None = None
    resources: tuple[str, ...] = ()

    @classmethod
    def read(cls, fields: Fields) -> Message:
        """Read a challenge's `info` or a proof; raise `WireError`. No member can hold a line break."""
        return cls(
            domain=fields.text("domain", _DOMAIN),
            uri=fields.text("uri", VISIBLE),
            version=fields.text("version", _VERSION),
            nonce=fields.text("nonce", VISIBLE),
            issued_at=fields.text("issuedAt", _MOMENT),
            statement=fields.optional_text("statement", LINE),
            expiration_time=fields.optional_text("expirationTime", _MOMENT),
            not_before=fields.optional_text("notBefore", _MOMENT),
            request_id=fields.optional_text("requestId", LINE),
            resources=fields.texts("resources", VISIBLE, limit=_MAX_RESOURCES),
        )

    def wire(self) -> dict[str, Any]:
        known = {
            "domain": self.domain,
            "uri": self.uri,
            "version": self.version,
            "nonce": self.nonce,
            "issuedAt": self.issued_at,
            "expirationTime": self.expiration_time,
            "notBefore": self.not_before,
            "requestId": self.request_id,
            "statement": self.statement,
            "resources": list(self.resources) or None,
        }
        return {name: value for name, value in known.items() if value is not None}


def read_chain(fields: Fields) -> str:
    return fields.text("chainId", CHAIN_ID)


def signature_type(chain: str) -> str:
    """Return how accounts of a CAIP-2 chain sign: `ed25519` on Solana, else `eip191`."""
    return "ed25519" if chain.startswith("solana:") else "eip191"


def message_text(message: Message, *, chain: str, address: str) -> str:
    """Return the exact text; `address` in EIP-55 or base58, `chain` in CAIP-2.

    Without a statement the EVM text keeps its empty line and the Solana text drops it: that is how the
    libraries of the field (siwe; @x402/extensions 2.9 to 2.27) write them.
    """
    family, _, reference = chain.partition(":")
    solana = family == "solana"
    gap = [] if solana else [""]
    remark = gap if message.statement is None else [message.statement, ""]
    optional = (
        ("Expiration Time", message.expiration_time),
        ("Not Before", message.not_before),
        ("Request ID", message.request_id),
    )
    return "\n".join(
        [
            f"{message.domain} wants you to sign in with your {'Solana' if solana else 'Ethereum'} account:",
            address,
            "",
            *remark,
            f"URI: {message.uri}",
            f"Version: {message.version}",
            f"Chain ID: {reference}",
            f"Nonce: {message.nonce}",
            f"Issued At: {message.issued_at}",
            *(f"{label}: {value}" for label, value in optional if value is not None),
            *(["Resources:"] if message.resources else []),
            *(f"- {resource}" for resource in message.resources),
        ]
    )
