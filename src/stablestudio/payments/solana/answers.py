"""What a Solana node answers, as types: read leniently in what does not matter, and strictly in what does.

Source: https://solana.com/docs/rpc/http.
"""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic.alias_generators import to_camel

Commitment = Literal["processed", "confirmed", "finalized"]
_DEPTH: dict[str, int] = {"processed": 0, "confirmed": 1, "finalized": 2}


def _base64(value: object) -> bytes:
    if not isinstance(value, list) or len(value) != 2 or value[1] != "base64":
        raise ValueError("data is a pair of text and its encoding, base64")
    return base64.b64decode(value[0], validate=True)


Data = Annotated[bytes, BeforeValidator(_base64)]


class _Answer(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="ignore")


class Head(_Answer):
    """Where a chain is: `absolute_slot` counts places for blocks, `block_height` the blocks."""

    absolute_slot: int
    block_height: int


class Blockhash(_Answer):
    """A recent block's hash, good in blocks up to and including `last_valid_block_height`."""

    blockhash: str
    last_valid_block_height: int


class AccountState(_Answer):
    """An account: the program that owns it, its data, its lamports."""

    owner: str
    data: Data
    lamports: int


class Simulation(_Answer):
    """What a transaction would do now; `err` is null for a success."""

    err: Any = None
    logs: list[str] | None = None


class Status(_Answer):
    """How far a transaction's block has come; `err` is not null for a transaction that landed and failed."""

    slot: int
    err: Any = None
    confirmation_status: Commitment | None = None

    def reached(self, commitment: Commitment) -> bool:
        """Tell whether the block that holds the transaction is settled enough."""
        return _DEPTH[self.confirmation_status or "finalized"] >= _DEPTH[commitment]


class Entry(_Answer):
    """A transaction in an account's history."""

    signature: str
    slot: int
    err: Any = None
    memo: str | None = None
    block_time: int | None = None
    confirmation_status: Commitment | None = None


class _Amount(_Answer):
    amount: int  # decimal text, base units


class _TokenBalance(_Answer):
    account_index: int
    mint: str
    ui_token_amount: _Amount


class _Meta(_Answer):
    err: Any
    pre_token_balances: list[_TokenBalance] | None = None
    post_token_balances: list[_TokenBalance] | None = None


class Landed(_Answer):
    """A transaction as it was executed."""

    slot: int
    transaction: Data
    meta: _Meta

    def change(self, place: int) -> int:
        """Return by how much the token account at a place of the message's list has grown, in base units."""
        return _held(self.meta.post_token_balances, place) - _held(self.meta.pre_token_balances, place)


def _held(balances: list[_TokenBalance] | None, place: int) -> int:
    return sum(balance.ui_token_amount.amount for balance in balances or () if balance.account_index == place)


class _Context(_Answer):
    slot: int


class AccountAnswer(_Answer):
    value: AccountState | None


class BalanceAnswer(_Answer):
    value: _Amount


class BlockhashAnswer(_Answer):
    value: Blockhash


class FlagAnswer(_Answer):
    value: bool


class LamportsAnswer(_Answer):
    value: int


class SimulationAnswer(_Answer):
    value: Simulation


class Statuses(_Answer):
    """The answer about one signature, and the newest slot that the node knew of when it gave it."""

    context: _Context
    value: list[Status | None]
