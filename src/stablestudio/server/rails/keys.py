"""Addresses and keys as the settings have them: read strictly, and kept apart."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from stablestudio.protocols.evm import EvmKey, checksum_address, is_address
from stablestudio.protocols.solana import SolanaKey
from stablestudio.rail_settings import Key, reveal, whereabouts
from stablestudio.server.rails.plan import Missing, Site


def require(values: Mapping[str, str | Key | None]) -> list[str]:
    """Return the values, keys revealed; raise `Missing` with all that is not there and where it was looked for."""
    found = {name: reveal(value) if isinstance(value, Key) else value for name, value in values.items()}
    missing = [_absent(name, values[name]) for name, value in found.items() if value is None]
    if missing:
        raise Missing(f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set")
    return [value for value in found.values() if value is not None]


def _absent(name: str, value: str | Key | None) -> str:
    return name + whereabouts(value if isinstance(value, Key) else None)


def evm_address(name: str, text: str) -> str:
    """Return an address; mixed case is a checksum (EIP-55), and a wrong one a mistyped address that nobody holds."""
    if not is_address(text):
        raise ValueError(f"{name} is not an address: 0x and 40 hexadecimal digits are")
    digits = text[2:]
    if digits not in (digits.lower(), digits.upper()) and text != checksum_address(text):
        raise ValueError(f"{name} has a wrong checksum: compare it with where you copied it from")
    return checksum_address(text)


def evm_key(name: str, text: str) -> EvmKey:
    """Return the key of a setting; raise `ValueError`, which never repeats it."""
    try:
        return EvmKey.from_hex(text)
    except ValueError:
        raise ValueError(f"{name} is not a key: 0x and 64 hexadecimal digits are") from None


def solana_key(name: str, text: str) -> SolanaKey:
    """Return the key of a setting; raise `ValueError`, which never repeats it."""
    try:
        return SolanaKey.from_base58(text)
    except ValueError as error:
        raise ValueError(f"{name} is not a Solana key: {error}") from None


def derived(site: Site, purpose: str) -> EvmKey:
    """Return a key of the embedded world, where none is worth anything."""
    return EvmKey.from_hex(hmac.digest(site.secret, f"embedded world: {purpose}".encode(), "sha256").hex())


def require_cold(pay_to: str, refunds: str) -> None:
    """Raise `ValueError` if refunds would be paid by the receiving address (money rule 8)."""
    if pay_to.lower() == refunds.lower():
        raise ValueError("refund_key belongs to pay_to: keep the receiving address cold, and refund from another one")
