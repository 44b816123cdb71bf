"""What a Tempo rail needs of a chain: hand in a signed transaction, look its receipt up, tell the time and a balance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from stablestudio.errors import StudioError


class WrongTempoChain(StudioError):
    """The node does not serve the Tempo chain and token that are configured."""

    hint = "Correct the Tempo node's URL or the token in the settings, then start again."


class TempoRefused(Exception):
    """The chain answered that it does not take this transaction now; the text is the node's.

    It says nothing of copies that were handed in before or elsewhere, nor of later: only receipts and blocks do.
    """


class TempoUnreachable(Exception):
    """The chain gave no usable answer. `sent` tells whether the question may have arrived all the same."""

    def __init__(self, message: str = "", *, sent: bool = True) -> None:
        self.sent = sent
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class TempoTransfer:
    """Money that a transaction moved: base units of a token; the addresses in lower case."""

    token: str
    sender: str
    recipient: str
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TempoReceipt:
    """What a mined transaction did; `transaction` is its hash. One that failed has moved nothing but its fee."""

    transaction: str
    succeeded: bool
    transfers: tuple[TempoTransfer, ...]


class TempoChain(Protocol):
    """A Tempo chain, reached in some way. Reads raise `TempoUnreachable` where the chain cannot be read."""

    @property
    def chain_id(self) -> int:
        """Return the EIP-155 chain id."""
        ...

    async def send(self, raw: bytes) -> TempoReceipt | None:
        """Hand in a signed transaction; return its receipt, or None if it was taken and is not mined yet.

        The same bytes may be handed in again: a chain takes them once. Raise `TempoRefused` or `TempoUnreachable`.
        """
        ...

    async def receipt(self, transaction: str) -> TempoReceipt | None:
        """Return the receipt of a transaction by its hash, None while it is in no block."""
        ...

    async def now(self) -> int:
        """Return the newest block's time in Unix seconds: what no later block's time lies before."""
        ...

    async def balance(self, token: str, owner: str) -> int | None:
        """Return what an address holds in base units, or None where that cannot be told now."""
        ...

    async def start(self, token: str) -> None:
        """Make sure that the chain is the right one and has the token; raise a `StudioError` if not."""
        ...

    async def stop(self) -> None:
        """Close connections; harmless a second time."""
        ...
