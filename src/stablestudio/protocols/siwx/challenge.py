"""The challenge that a 402 carries when a wallet has to show itself, and the buyer's answer to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stablestudio.clock import iso
from stablestudio.protocols import evm
from stablestudio.protocols._wire import Fields, WireError, encode_json
from stablestudio.protocols.evm import EvmKey
from stablestudio.protocols.siwx.errors import SiwxChallengeRefused, SiwxMissing
from stablestudio.protocols.siwx.message import Message, message_text, read_chain, signature_type
from stablestudio.protocols.solana import SolanaKey, b58encode

NAME = "sign-in-with-x"
HEADER = "SIGN-IN-WITH-X"
LIFETIME_MS = 5 * 60 * 1000
READS = "Sign in to read your jobs"
_MAX_CHAINS = 32
_TEXT = {"type": "string"}
_URI = {"type": "string", "format": "uri"}
_MOMENT = {"type": "string", "format": "date-time"}
_SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "domain": _TEXT,
        "address": _TEXT,
        "statement": _TEXT,
        "uri": _URI,
        "version": _TEXT,
        "chainId": _TEXT,
        "type": _TEXT,
        "nonce": _TEXT,
        "issuedAt": _MOMENT,
        "expirationTime": _MOMENT,
        "notBefore": _MOMENT,
        "requestId": _TEXT,
        "resources": {"type": "array", "items": _URI},
        "signature": _TEXT,
    },
    "required": ["domain", "address", "uri", "version", "chainId", "type", "nonce", "issuedAt", "signature"],
}


def challenge(
    origin: str,
    *,
    path: str,
    nonce: str,
    now_ms: int,
    chains: Sequence[str],
    statement: str = READS,
    error: str | None = None,
) -> dict[str, Any]:
    """Return the x402 body that asks for a sign-in at `origin` (`https://host[:port]`) and `path` (query included).

    `encode_challenge` of the same body is the value of PAYMENT-REQUIRED, without which clients ignore it.
    """
    uri = origin + path
    asked = Message(
        domain=origin.partition("://")[2],
        uri=uri,
        nonce=nonce,
        issued_at=iso(now_ms),
        expiration_time=iso(now_ms + LIFETIME_MS),
        statement=statement,
        resources=(uri,),
    )
    return {
        "x402Version": 2,
        "error": error or SiwxMissing().message,
        "resource": {"url": uri},
        "accepts": [],
        "extensions": {
            NAME: {
                "info": asked.wire(),
                "supportedChains": [{"chainId": chain, "type": signature_type(chain)} for chain in chains],
                "schema": _SCHEMA,
            }
        },
    }


def encode_challenge(body: Mapping[str, Any]) -> str:
    """Return the value of PAYMENT-REQUIRED for a `challenge`."""
    return encode_json(body)


def sign(extension: Mapping[str, Any], key: EvmKey | SolanaKey, *, origin: str) -> str:
    """Answer the `sign-in-with-x` extension that `origin` sent: the value of SIGN-IN-WITH-X.

    The text is signed only if it names that origin; otherwise a seller could collect sign-ins for another one.
    Raise `SiwxChallengeRefused`.
    """
    try:
        fields = Fields(extension, (NAME,))
        asked = Message.read(fields.object("info"))
        chain = _choose_chain(fields, "solana:" if isinstance(key, SolanaKey) else "eip155:")
    except WireError as error:
        raise SiwxChallengeRefused(f"The seller's sign-in challenge cannot be read: {error}.") from None
    if origin.partition("://")[2] != asked.domain or not f"{asked.uri}/".startswith(f"{origin}/"):
        raise SiwxChallengeRefused("The seller's sign-in challenge names another host than its own.")
    text = message_text(asked, chain=chain, address=key.address)
    return encode_json(
        {
            **asked.wire(),
            "address": key.address,
            "chainId": chain,
            "type": signature_type(chain),
            "signature": _sign_text(text, key),
        }
    )


def _choose_chain(fields: Fields, family: str) -> str:
    for item in fields.items("supportedChains", limit=_MAX_CHAINS):
        chain = read_chain(Fields({"supportedChains": item}, fields.path).object("supportedChains"))
        if chain.startswith(family):
            return chain
    raise SiwxChallengeRefused("The seller's sign-in challenge offers no chain for this kind of key.")


def _sign_text(text: str, key: EvmKey | SolanaKey) -> str:
    if isinstance(key, SolanaKey):
        return b58encode(key.sign(text.encode()))
    return f"0x{key.sign_digest(evm.personal_digest(text)).hex()}"
