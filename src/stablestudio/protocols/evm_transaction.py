"""EIP-1559 transactions (type 2): encoding and signing; no fees are chosen and nothing is sent here."""

from __future__ import annotations

from dataclasses import dataclass

from stablestudio.protocols import rlp
from stablestudio.protocols.evm import EvmKey, keccak256

_TYPE = b"\x02"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """A call of an address; fees in wei per unit of gas, `value` in wei. Access lists are always empty."""

    chain_id: int
    nonce: int
    max_priority_fee_per_gas: int
    max_fee_per_gas: int
    gas_limit: int
    to: str
    value: int = 0
    data: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedTransaction:
    """What a node takes (`raw`), and the hash (`0x` and 64 digits) that it will have on the chain."""

    raw: bytes
    hash: str


def digest(transaction: Transaction) -> bytes:
    """Return the 32 bytes that the sender signs (EIP-1559: keccak of the type byte and the unsigned fields)."""
    return keccak256(_TYPE + rlp.encode(_fields(transaction)))


def sign(transaction: Transaction, key: EvmKey) -> SignedTransaction:
    """Sign deterministically: the same transaction always has the same bytes and hash."""
    signature = key.sign_digest(digest(transaction))
    parity, r, s = signature[64] - 27, int.from_bytes(signature[:32]), int.from_bytes(signature[32:64])
    raw = _TYPE + rlp.encode([*_fields(transaction), parity, r, s])
    return SignedTransaction(raw=raw, hash="0x" + keccak256(raw).hex())


def _fields(transaction: Transaction) -> list[rlp.Item]:
    return [
        transaction.chain_id,
        transaction.nonce,
        transaction.max_priority_fee_per_gas,
        transaction.max_fee_per_gas,
        transaction.gas_limit,
        bytes.fromhex(transaction.to[2:]),
        transaction.value,
        transaction.data,
        [],
    ]
