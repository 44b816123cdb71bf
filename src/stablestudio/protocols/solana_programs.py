"""The programs of Solana that a token payment calls: compute budget, SPL token, associated accounts, memo.

Sources: the instruction layouts of spl-token (TransferChecked is 12) and solana-compute-budget-interface.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

from stablestudio.protocols.solana import b58decode
from stablestudio.protocols.solana_transaction import Account, Instruction

COMPUTE_BUDGET = b58decode("ComputeBudget111111111111111111111111111111")
TOKEN = b58decode("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA")
TOKEN_2022 = b58decode("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb")
ASSOCIATED_TOKEN = b58decode("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL")
MEMO = b58decode("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr")
LIGHTHOUSE = b58decode("L2TExMFKdjpN9kozasaurPirfHy9P8sbXoAN1qA3S95")  # assertions that some wallets add
MINT_BYTES, TOKEN_ACCOUNT_BYTES = 82, 165

_SET_UNIT_LIMIT, _SET_UNIT_PRICE, _TRANSFER_CHECKED = 2, 3, 12
_INITIALIZED = 1
# The curve of ed25519: -x^2 + y^2 = 1 + d x^2 y^2 modulo p.
_P = 2**255 - 19
_D = -121665 * pow(121666, -1, _P) % _P


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferChecked:
    """What an SPL token's TransferChecked moves; the accounts are its first four."""

    amount: int
    decimals: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAccount:
    """The state of a token account; `usable` is False for a frozen or uninitialised one."""

    mint: bytes
    owner: bytes
    amount: int
    usable: bool


def unit_limit(units: int) -> Instruction:
    """Bound the compute units of a transaction."""
    return Instruction(program=COMPUTE_BUDGET, data=bytes((_SET_UNIT_LIMIT,)) + units.to_bytes(4, "little"))


def unit_price(micro_lamports: int) -> Instruction:
    """Offer a priority fee for each unit, in millionths of a lamport."""
    return Instruction(program=COMPUTE_BUDGET, data=bytes((_SET_UNIT_PRICE,)) + micro_lamports.to_bytes(8, "little"))


def memo(text: str) -> Instruction:
    """Write UTF-8 text into the transaction's log."""
    return Instruction(program=MEMO, data=text.encode())


def transfer_checked(
    *,
    source: bytes,
    mint: bytes,
    destination: bytes,
    authority: bytes,
    amount: int,
    decimals: int,
    program: bytes = TOKEN,
) -> Instruction:
    """Move tokens from one token account to another, signed by `authority`; the program checks mint and decimals."""
    accounts = (
        Account(key=source, writable=True),
        Account(key=mint),
        Account(key=destination, writable=True),
        Account(key=authority, signer=True),
    )
    data = bytes((_TRANSFER_CHECKED,)) + amount.to_bytes(8, "little") + bytes((decimals,))
    return Instruction(program=program, accounts=accounts, data=data)


def read_unit_limit(data: bytes) -> int | None:
    """Return the units of a SetComputeUnitLimit, or None for any other data."""
    return int.from_bytes(data[1:], "little") if len(data) == 5 and data[0] == _SET_UNIT_LIMIT else None


def read_unit_price(data: bytes) -> int | None:
    """Return the millionths of a lamport of a SetComputeUnitPrice, or None for any other data."""
    return int.from_bytes(data[1:], "little") if len(data) == 9 and data[0] == _SET_UNIT_PRICE else None


def read_transfer_checked(data: bytes) -> TransferChecked | None:
    """Return what a TransferChecked moves, or None for any other data."""
    if len(data) != 10 or data[0] != _TRANSFER_CHECKED:
        return None
    return TransferChecked(amount=int.from_bytes(data[1:9], "little"), decimals=data[9])


def read_token_account(data: bytes) -> TokenAccount | None:
    """Read a token account's data, with Token-2022's extensions after it or not; None where it is none."""
    if len(data) < TOKEN_ACCOUNT_BYTES:
        return None
    amount = int.from_bytes(data[64:72], "little")
    return TokenAccount(mint=data[:32], owner=data[32:64], amount=amount, usable=data[108] == _INITIALIZED)


def read_decimals(data: bytes) -> int | None:
    """Return the decimals in a mint's data; None where it is no initialised mint."""
    return data[44] if len(data) >= MINT_BYTES and data[45] == 1 else None


@lru_cache(maxsize=8192)
def token_account(owner: bytes, mint: bytes, program: bytes = TOKEN) -> bytes:
    """Return the address of an owner's associated token account: the first one, from bump 255 down, off the curve."""
    start = hashlib.sha256(owner + program + mint)
    for bump in range(255, -1, -1):
        candidate = start.copy()
        candidate.update(bytes((bump,)) + ASSOCIATED_TOKEN + b"ProgramDerivedAddress")
        if not is_on_curve(candidate.digest()):
            return candidate.digest()
    raise ValueError("No associated token account exists for this owner and mint")


def is_on_curve(key: bytes) -> bool:
    """Tell whether some x belongs to the key's y; libsodium would also ask for the prime order, and Solana does not."""
    y2 = pow(int.from_bytes(key, "little") & (1 << 255) - 1, 2, _P)
    # x^2 = (y^2 - 1) / (d y^2 + 1) has a root where numerator times denominator has one (Euler's criterion).
    product = (y2 - 1) * (_D * y2 + 1) % _P
    return pow(product, (_P - 1) // 2, _P) in (0, 1)
