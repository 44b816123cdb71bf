"""How we tell a facilitator who we are: nothing, or a JWT made afresh for each call. Keys never leave this file."""

from __future__ import annotations

import base64
import binascii
import json
import secrets
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

from Crypto.Hash import SHA256
from Crypto.PublicKey import ECC
from Crypto.Signature import DSS
from nacl.signing import SigningKey

from stablestudio.clock import Clock
from stablestudio.errors import StudioError

_LIFETIME_SECONDS = 120
_PAYAI_PREFIX = "payai_sk_"
_Sign = Callable[[bytes], bytes]


class FacilitatorKeyInvalid(StudioError):
    """The key for a facilitator cannot be used."""

    hint = "Copy id and secret of the facilitator's API key again, whole and as its site shows them."


class FacilitatorAuth(Protocol):
    """Make the headers that let one call through."""

    def headers(self, method: str, url: str) -> Mapping[str, str]:
        """Return headers good for this very call."""
        ...


class NoAuth:
    """For facilitators that serve everyone."""

    def headers(self, method: str, url: str) -> Mapping[str, str]:  # noqa: ARG002 - the protocol's signature
        return {}


class CdpAuth:
    """Coinbase's JWT: EdDSA for a base64 key of 64 bytes, ES256 for a PEM key (docs.cdp.coinbase.com, JWT authentication)."""

    def __init__(
        self, *, key_id: str, secret: str, clock: Clock, nonce: Callable[[], str] = lambda: secrets.token_hex(16)
    ) -> None:
        self._key_id = _require_id(key_id)
        # Environment files often hold a PEM on one line, with its line ends spelled out.
        text = secret.strip().replace("\\n", "\n")
        self._algorithm, self._sign = _es256(text) if text.startswith("-----BEGIN") else _ed25519_pair(text)
        self._clock = clock
        self._nonce = nonce

    def headers(self, method: str, url: str) -> Mapping[str, str]:
        now = self._clock.now_ms() // 1000
        address = urlsplit(url)
        return _bearer(
            self._sign,
            header={"alg": self._algorithm, "kid": self._key_id, "typ": "JWT", "nonce": self._nonce()},
            claims={
                "sub": self._key_id,
                "iss": "cdp",
                "nbf": now,
                "exp": now + _LIFETIME_SECONDS,
                "uris": [f"{method} {address.netloc}{address.path}"],
            },
        )


class PayAiAuth:
    """PayAI's JWT: EdDSA, the secret a PKCS#8 key in base64 (docs.payai.network/x402/facilitators/authentication)."""

    def __init__(
        self, *, key_id: str, secret: str, clock: Clock, nonce: Callable[[], str] = lambda: str(uuid.uuid4())
    ) -> None:
        self._key_id = _require_id(key_id)
        self._sign = _ed25519_pkcs8(secret.strip().removeprefix(_PAYAI_PREFIX))
        self._clock = clock
        self._nonce = nonce

    def headers(self, method: str, url: str) -> Mapping[str, str]:  # noqa: ARG002 - the token is not bound to an address
        now = self._clock.now_ms() // 1000
        return _bearer(
            self._sign,
            header={"alg": "EdDSA", "typ": "JWT", "kid": self._key_id},
            claims={
                "sub": self._key_id,
                "iss": "payai-merchant",
                "iat": now,
                "exp": now + _LIFETIME_SECONDS,
                "jti": self._nonce(),
            },
        )


def _bearer(sign: _Sign, *, header: Mapping[str, Any], claims: Mapping[str, Any]) -> Mapping[str, str]:
    message = b".".join(_base64url(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
    return {"Authorization": f"Bearer {(message + b'.' + _base64url(sign(message))).decode()}"}


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _require_id(key_id: str) -> str:
    text = key_id.strip()
    if not text:
        raise FacilitatorKeyInvalid("The facilitator's key has no id.")
    return text


# The keys live in closures and every cause is dropped: the libraries' own texts and reprs can hold the key itself.


def _ed25519_pair(text: str) -> tuple[str, _Sign]:
    data = _unbase64(text)
    if len(data) != 64:
        raise FacilitatorKeyInvalid("The facilitator's secret must be base64 of 64 bytes, or a PEM key.")
    key = SigningKey(data[:32])
    if key.verify_key.encode() != data[32:]:
        raise FacilitatorKeyInvalid("The two halves of the facilitator's secret do not belong together.")
    return "EdDSA", lambda message: key.sign(message).signature


def _ed25519_pkcs8(text: str) -> _Sign:
    key = _import(_unbase64(text), curve="Ed25519")
    seed = SigningKey(key.seed)
    return lambda message: seed.sign(message).signature


def _es256(text: str) -> tuple[str, _Sign]:
    # pycryptodome is here for keccak anyway, so no further package is needed for this one algorithm.
    signer = DSS.new(_import(text.encode(), curve="NIST P-256"), "deterministic-rfc6979")
    return "ES256", lambda message: bytes(signer.sign(SHA256.new(message)))


def _import(data: bytes, *, curve: str) -> Any:
    try:
        key = ECC.import_key(data)
    except (ValueError, IndexError, TypeError):
        raise FacilitatorKeyInvalid("The facilitator's secret is no private key that can be read.") from None
    if key.curve != curve or not key.has_private():
        raise FacilitatorKeyInvalid(f"The facilitator's secret must be a private key on {curve}.")
    return key


def _unbase64(text: str) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise FacilitatorKeyInvalid("The facilitator's secret is not base64.") from None
