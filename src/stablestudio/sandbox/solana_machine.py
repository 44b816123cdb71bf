"""Solana's own virtual machine and token program, run in this process on accounts that are given for each run.

The machine is LiteSVM of the package solders, an optional dependency; it is loaded at the first run.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from stablestudio.errors import StudioError
from stablestudio.protocols.solana_programs import MINT_BYTES, TOKEN, TOKEN_ACCOUNT_BYTES
from stablestudio.protocols.solana_transaction import Message

WALLET_LAMPORTS = 10_000_000_000  # every wallet of the embedded world holds 10 SOL, whatever it spends
TOKEN_ACCOUNT_LAMPORTS, MINT_LAMPORTS = 2_039_280, 1_461_600
_SYSTEM = bytes(32)
_SUPPLY = 10**18


class SolanaLedgerUnavailable(StudioError):
    """The embedded Solana ledger needs the package solders, which is not installed."""

    status = 503
    hint = "Install stablestudio[solana], or switch the embedded Solana rail off."


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What a token account holds, in base units, and for whom."""

    owner: bytes
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a transaction did to the accounts it was given; nothing of it is kept in the machine.

    `err` is as JSON-RPC tells it, None for a success. `after` holds the data of each account written to, None for one
    that was closed.
    """

    err: Any
    logs: tuple[str, ...]
    units: int
    fee: int
    after: Mapping[bytes, tuple[bytes, bytes] | None]  # by account: the owning program and the data

    @property
    def landed(self) -> bool:
        """Tell whether a block would hold the transaction: it succeeded, or failed in one of its instructions."""
        return self.err is None or (isinstance(self.err, dict) and "InstructionError" in self.err)


def require_solders() -> None:
    """Raise `SolanaLedgerUnavailable` where the machine cannot be loaded."""
    if find_spec("solders") is None:
        raise SolanaLedgerUnavailable


def mint_data(decimals: int) -> bytes:
    """Return a mint's data: no authorities, initialised."""
    data = bytes(36) + _SUPPLY.to_bytes(8, "little") + bytes((decimals, 1))
    return data.ljust(MINT_BYTES, b"\0")


def token_account_data(mint: bytes, holding: Holding) -> bytes:
    """Return a token account's data: initialised, with no delegate and no authority but its owner."""
    data = (mint + holding.owner + holding.amount.to_bytes(8, "little")).ljust(108, b"\0") + b"\x01"
    return data.ljust(TOKEN_ACCOUNT_BYTES, b"\0")


class SolanaMachine:
    """Runs transactions. Safe to share between threads, which take turns."""

    def __init__(self, mint: bytes, *, decimals: int) -> None:
        self._mint = mint
        self._decimals = decimals
        self._turn = threading.Lock()
        self._vm: Any = None

    def run(
        self, raw: bytes, message: Message, holdings: Mapping[bytes, Holding], *, check_signatures: bool = True
    ) -> Run:
        """Run a transaction whose signers are wallets, on token accounts that hold so much; blockhashes do not matter."""
        with self._turn:
            vm = self._machine().with_sigverify(check_signatures)
            planted = self._plant(vm, message, holdings)
            try:
                return self._simulate(vm, raw)
            finally:
                for key in planted:
                    self._set(vm, key, lamports=0, data=b"", owner=_SYSTEM)

    def _machine(self) -> Any:
        if self._vm is None:
            from solders.litesvm import LiteSVM  # noqa: PLC0415 - heavy, and optional

            self._vm = LiteSVM().with_blockhash_check(False).with_transaction_history(0)  # noqa: FBT003
            self._set(self._vm, self._mint, lamports=MINT_LAMPORTS, data=mint_data(self._decimals), owner=TOKEN)
        return self._vm

    def _plant(self, vm: Any, message: Message, holdings: Mapping[bytes, Holding]) -> list[bytes]:
        signers = message.keys[: message.signers]
        for key in signers:
            self._set(vm, key, lamports=WALLET_LAMPORTS, data=b"", owner=_SYSTEM)
        for key, holding in holdings.items():
            data = token_account_data(self._mint, holding)
            self._set(vm, key, lamports=TOKEN_ACCOUNT_LAMPORTS, data=data, owner=TOKEN)
        return [*signers, *holdings]

    def _set(self, vm: Any, key: bytes, *, lamports: int, data: bytes, owner: bytes) -> None:
        from solders.account import Account  # noqa: PLC0415
        from solders.pubkey import Pubkey  # noqa: PLC0415

        vm.set_account(Pubkey(key), Account(lamports, data, Pubkey(owner)))

    def _simulate(self, vm: Any, raw: bytes) -> Run:
        from solders.transaction import VersionedTransaction  # noqa: PLC0415

        result = vm.simulate_transaction(VersionedTransaction.from_bytes(raw))
        meta = result.meta()
        failed = hasattr(result, "err")
        after = {} if failed else {bytes(key): _state(account) for key, account in result.post_accounts()}
        return Run(
            err=_tell(result.err()) if failed else None,
            logs=tuple(meta.logs()),
            units=meta.compute_units_consumed(),
            fee=meta.fee(),
            after=after,
        )


def _state(account: Any) -> tuple[bytes, bytes] | None:
    return (bytes(account.owner), bytes(account.data)) if account.lamports else None


def _tell(error: Any) -> Any:
    """Return an error as JSON-RPC spells it."""
    name = type(error).__name__
    if name == "TransactionErrorInstructionError":
        inner = error.err
        code = getattr(inner, "code", None)
        return {"InstructionError": [error.index, {"Custom": code} if code is not None else _word(inner)]}
    if name == "TransactionErrorFieldless":
        return _word(error)
    return name.removeprefix("TransactionError")


def _word(error: Any) -> str:
    return str(error).rpartition(".")[2]
