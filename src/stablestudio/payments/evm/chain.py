"""What an EVM rail needs of a chain: submit an EIP-3009 authorization, and look one up. The ledger chain is one."""

from __future__ import annotations

from typing import Protocol

from stablestudio.payments.rail import Outcome
from stablestudio.protocols.eip3009 import Authorization, TokenDomain

# An authorization is over for good this long after its end, in seconds of the chain's own clock: it may have been sent in
# time, and a block that let it in may still replace the newest ones. Longer than the blocks of any confirmations.
FINALITY_SECONDS = 60


class TokenChain(Protocol):
    """A token that takes EIP-3009 authorizations, on some chain, reached in some way."""

    @property
    def domain(self) -> TokenDomain:
        """Return the token's EIP-712 domain."""
        ...

    async def submit(self, authorization: Authorization, signature: bytes) -> Outcome:
        """Send the authorization. One that was mined before, by whomever, is `Settled` with that transaction."""
        ...

    async def find(self, authorization: Authorization) -> Outcome:
        """Tell from the chain what became of the authorization."""
        ...

    async def balance(self, owner: str) -> int | None:
        """Return what an address holds in base units, or None where that cannot be told now."""
        ...

    async def start(self) -> None:
        """Make sure that the chain is the right one and can be used; raise a `StudioError` if not."""
        ...

    async def stop(self) -> None:
        """Close connections."""
        ...
