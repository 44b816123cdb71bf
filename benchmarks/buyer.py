"""The buyer's signatures in bulk, made before the clock starts: EIP-3009 payments and SIGN-IN-WITH-X proofs.

Written apart from the product's own protocols on purpose: a slip there would otherwise be measured as a success.
"""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from coincurve import PrivateKey
from Crypto.Hash import keccak

_AUTHORIZATION = b"TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
_CHAIN = {"chainId": "eip155:84532", "type": "eip191"}
_DOMAIN = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"


def _keccak(data: bytes) -> bytes:
    return keccak.new(digest_bits=256, data=data).digest()


def _word(value: int | str) -> bytes:
    return (int(value, 16) if isinstance(value, str) else value).to_bytes(32, "big")


def _header(value: dict[str, Any]) -> str:
    return base64.b64encode(json.dumps(value, separators=(",", ":")).encode()).decode()


@dataclass(frozen=True, slots=True)
class Wallet:
    """A throw-away EVM key."""

    key: PrivateKey
    address: str

    @classmethod
    def generate(cls) -> Wallet:
        """Make a new key."""
        key = PrivateKey()
        lower = _keccak(key.public_key.format(compressed=False)[1:])[-20:].hex()
        digest = _keccak(lower.encode()).hex()
        mixed = (c.upper() if int(d, 16) >= 8 else c for c, d in zip(lower, digest, strict=False))
        return cls(key, "0x" + "".join(mixed))

    def _sign(self, digest: bytes) -> str:
        signature = self.key.sign_recoverable(digest, hasher=None)
        return "0x" + signature[:64].hex() + f"{signature[64] + 27:02x}"

    def payment(self, challenge: dict[str, Any]) -> str:
        """Answer a PAYMENT-REQUIRED's first `exact` offer with a PAYMENT-SIGNATURE, as the stock clients do."""
        accepted = next(offer for offer in challenge["accepts"] if offer["network"].startswith("eip155:"))
        nonce = secrets.token_bytes(32)
        valid_before = int(datetime.now(tz=UTC).timestamp()) + accepted["maxTimeoutSeconds"]
        signature = self._sign(_authorization(accepted, sender=self.address, valid_before=valid_before, nonce=nonce))
        authorization = {
            "from": self.address,
            "to": accepted["payTo"],
            "value": accepted["amount"],
            "validAfter": "0",
            "validBefore": str(valid_before),
            "nonce": "0x" + nonce.hex(),
        }
        return _header(
            {
                "x402Version": 2,
                "payload": {"authorization": authorization, "signature": signature},
                "extensions": challenge.get("extensions", {}),
                "resource": challenge["resource"],
                "accepted": accepted,
            }
        )

    def proof(self, info: dict[str, Any]) -> str:
        """Sign in: a SIGN-IN-WITH-X header for the challenge's `info`, on Base Sepolia."""
        text = _siwe(info, address=self.address).encode()
        signature = self._sign(_keccak(b"\x19Ethereum Signed Message:\n%d%b" % (len(text), text)))
        return _header({**info, "address": self.address, **_CHAIN, "signature": signature})


def made_up(*, domain: str, uri: str) -> dict[str, Any]:
    """Give a challenge's `info` that nobody issued, for a server that does not look."""
    now = datetime.now(tz=UTC)
    return {
        "domain": domain,
        "uri": uri,
        "version": "1",
        "nonce": secrets.token_hex(16),
        "issuedAt": _iso(now),
        "expirationTime": _iso(now + timedelta(minutes=5)),
    }


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _authorization(accepted: dict[str, Any], *, sender: str, valid_before: int, nonce: bytes) -> bytes:
    domain = _keccak(
        _keccak(_DOMAIN)
        + _keccak(accepted["extra"]["name"].encode())
        + _keccak(accepted["extra"]["version"].encode())
        + _word(int(accepted["network"].split(":")[1]))
        + _word(accepted["asset"])
    )
    message = _keccak(
        _keccak(_AUTHORIZATION)
        + _word(sender)
        + _word(accepted["payTo"])
        + _word(int(accepted["amount"]))
        + _word(0)
        + _word(valid_before)
        + nonce
    )
    return _keccak(b"\x19\x01" + domain + message)


def _siwe(info: dict[str, Any], *, address: str) -> str:
    resources = [f"- {resource}" for resource in info.get("resources", ())]
    lines = [
        f"{info['domain']} wants you to sign in with your Ethereum account:",
        address,
        "",
        *([info["statement"]] if "statement" in info else []),
        "",
        f"URI: {info['uri']}",
        f"Version: {info['version']}",
        f"Chain ID: {_CHAIN['chainId'].removeprefix('eip155:')}",
        f"Nonce: {info['nonce']}",
        f"Issued At: {info['issuedAt']}",
        f"Expiration Time: {info['expirationTime']}",
        *(["Resources:", *resources] if resources else []),
    ]
    return "\n".join(lines)


def read_header(value: str) -> dict[str, Any]:
    """Decode a base64 JSON header."""
    decoded: dict[str, Any] = json.loads(base64.b64decode(value))
    return decoded
