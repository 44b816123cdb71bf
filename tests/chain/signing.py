"""Authorizations as buyers sign them, and spoiled ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from stablestudio.protocols import eip3009
from stablestudio.protocols.eip3009 import Authorization, TokenDomain
from stablestudio.protocols.evm import EvmKey
from tests.chain.anvil import NOW
from tests.doubles import BUYER, PAY_TO, USDC

FUNDS = 1_000_000
PRICE = 45_000
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

Call = tuple[Authorization, bytes]


def nonce_of(number: int) -> bytes:
    return number.to_bytes(32)


GOOD = Authorization(
    sender=BUYER.address,
    recipient=PAY_TO,
    value=PRICE,
    valid_after=NOW - 600,
    valid_before=NOW + 300,
    nonce=nonce_of(1),
)


def signed(*, key: EvmKey = BUYER, domain: TokenDomain = USDC, **changes: Any) -> Call:
    made = replace(GOOD, **changes)
    return made, key.sign_digest(eip3009.digest(domain, made))


def tampered(**changes: Any) -> Call:
    """Return what was signed with something else in it."""
    made, signature = signed()
    return replace(made, **changes), signature


def high_s(signature: bytes) -> bytes:
    s = ORDER - int.from_bytes(signature[32:64])
    return signature[:32] + s.to_bytes(32) + bytes((55 - signature[64],))
