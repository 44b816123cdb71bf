from __future__ import annotations

import base64
import json
from typing import Any

from stablestudio.protocols import siwx
from stablestudio.protocols.evm import EvmKey
from stablestudio.protocols.solana import SolanaKey
from stablestudio.protocols.x402 import (
    PaymentPayload,
    PaymentRequired,
    PaymentRequirements,
    Resource,
    declare_payment_identifier,
    sign_exact,
)

NOW = 1_795_204_441
NOW_MS = NOW * 1000 + 836
USDC = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
BASE_SEPOLIA = "eip155:84532"
SOLANA_DEVNET = "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1"
CHAINS = (BASE_SEPOLIA, SOLANA_DEVNET)
PAY_TO = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
KEY = EvmKey.from_hex("0x" + "4c" * 32)
STRANGER = EvmKey.from_hex("0x" + "5d" * 32)
SOLANA_KEY = SolanaKey(b"\x07" * 32)
NONCE = bytes(range(32))
OFFER = PaymentRequirements(
    network=BASE_SEPOLIA,
    amount="134000",
    asset=USDC,
    pay_to=PAY_TO,
    max_timeout_seconds=300,
    extra={"name": "USDC", "version": "2"},
)
REQUIRED = PaymentRequired(
    accepts=(OFFER,),
    resource=Resource(
        url="https://studio.test/api/generate/nano-banana-pro/generate",
        description="Nano Banana Pro - generate",
        mime_type="application/json",
        other={"serviceName": "StableStudio", "tags": ["image"]},
    ),
    error="PAYMENT-SIGNATURE header is required",
    extensions=declare_payment_identifier(),
)
ORIGIN = "https://studio.test:8402"
PATH = "/api/jobs/job_1"
NONCES = siwx.NonceIssuer(b"0123456789abcdef0123456789abcdef")


def b64(value: object) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def unb64(header: str) -> Any:
    return json.loads(base64.b64decode(header, validate=True))


def payment(*, key: EvmKey = KEY, offer: PaymentRequirements = OFFER, nonce: bytes = NONCE) -> PaymentPayload:
    return sign_exact(REQUIRED, offer, key, now_s=NOW, nonce=nonce)


def payment_json() -> dict[str, Any]:
    body: dict[str, Any] = json.loads(json.dumps(payment().wire()))
    return body


def sign_in(key: EvmKey | SolanaKey = KEY, *, origin: str = ORIGIN, path: str = PATH, now_ms: int = NOW_MS) -> str:
    body = siwx.challenge(origin, path=path, nonce=NONCES.issue(now_ms), now_ms=now_ms, chains=CHAINS)
    return siwx.sign(body["extensions"]["sign-in-with-x"], key, origin=origin)
