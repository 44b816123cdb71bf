"""What a Solana rail needs of a chain: settle a buyer's transfer, send our own, and look either up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from stablestudio.config import ConfigurationInvalid
from stablestudio.errors import StudioError
from stablestudio.payments.rail import Outcome, Settled
from stablestudio.payments.solana.answers import AccountState, Blockhash
from stablestudio.protocols.x402.exact_svm import Transfer


class ChainNotReadable(StudioError):
    """The node cannot be asked at the moment; nothing was sent and nothing was charged."""

    status = 503
    retryable = True
    hint = "Try again in a few seconds."


class WrongSolanaChain(ConfigurationInvalid):
    """The node behind this RPC address does not serve the cluster, token and accounts that are configured."""

    hint = "Correct the RPC address, the network, the token or the accounts, then start again."


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """A transfer to be settled or looked up.

    `payee` is the wallet behind the transfer's destination. `since_s` (Unix seconds) is a time before which it cannot
    have landed. `last_valid_height` is the last block that may hold it, where that is known: for transfers that we
    signed with a blockhash of our own asking.
    """

    transfer: Transfer
    payee: str
    since_s: int
    last_valid_height: int | None = None


class SolanaChain(Protocol):
    """A Solana cluster, reached in some way."""

    @property
    def network(self) -> str:
        """Return the CAIP-2 id of the cluster."""
        ...

    @property
    def fee_payer(self) -> str:
        """Return the account that is offered to pay the fees of buyers' transactions now."""
        ...

    def pays_fees(self, account: str) -> bool:
        """Tell whether an account pays fees for us: the one offered now, or one offered before."""
        ...

    async def submit(self, sought: Sought) -> Outcome:
        """Have a buyer's transfer, which lacks the fee payer's signature only, completed and executed once."""
        ...

    async def find(self, sought: Sought) -> Outcome:
        """Tell from the chain what became of a buyer's transfer, whoever completed it."""
        ...

    async def send(self, sought: Sought) -> Outcome:
        """Send a transfer that is signed in full. Sending the same again is harmless."""
        ...

    async def find_sent(self, sought: Sought) -> Outcome:
        """Tell from the chain what became of a transfer that is signed in full."""
        ...

    async def find_twin(self, sought: Sought) -> Settled | None:
        """Return an earlier transaction that paid the same amount to the same account under the same memo, by the same key.

        Raise `ChainNotReadable`.
        """
        ...

    async def blockhash(self) -> Blockhash:
        """Return a recent final block's hash to sign with; raise `ChainNotReadable`."""
        ...

    async def account(self, address: str) -> AccountState | None:
        """Return an account, None where there is none; raise `ChainNotReadable`."""
        ...

    async def balance(self, address: str) -> int | None:
        """Return what a token account holds in base units, or None where that cannot be told now."""
        ...

    async def start(self) -> None:
        """Make sure that the cluster is the right one and fees can be paid; raise a `StudioError` if not."""
        ...

    async def stop(self) -> None:
        """Close connections."""
        ...
