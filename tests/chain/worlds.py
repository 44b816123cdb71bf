"""The two chains that may not differ, behind one set of verbs."""

from __future__ import annotations

from typing import Protocol

from stablestudio.payments.evm.chain import TokenChain
from stablestudio.payments.evm.facts import TokenFacts
from stablestudio.payments.evm.gas import GasAccount
from stablestudio.payments.evm.rpc import EvmRpc
from stablestudio.payments.evm.rpc_chain import RpcTokenChain
from stablestudio.protocols.eip3009 import Authorization
from stablestudio.protocols.evm import EvmKey
from stablestudio.sandbox.chain import LedgerTokenChain
from stablestudio.sandbox.ledger import LedgerChain
from tests.chain.anvil import GAS_KEY, Anvil
from tests.doubles import USDC, ManualClock


class World(Protocol):
    """A token chain, and what others do on it."""

    @property
    def chain(self) -> TokenChain: ...

    async def fund(self, address: str, amount: int) -> None: ...

    async def balance(self, address: str) -> int: ...

    async def transfer(self, authorization: Authorization, signature: bytes) -> None:
        """A stranger submits an authorization."""

    async def cancel(self, key: EvmKey, nonce: bytes) -> None: ...

    async def move_to(self, timestamp: int) -> None: ...


class LedgerWorld:
    """The embedded ledger."""

    def __init__(self, ledger: LedgerChain, clock: ManualClock) -> None:
        self._ledger = ledger
        self._clock = clock
        self.chain = LedgerTokenChain(ledger, clock=clock)

    async def fund(self, address: str, amount: int) -> None:
        await self._ledger.mint(address, amount)

    async def balance(self, address: str) -> int:
        return await self._ledger.balance_of(address)

    async def transfer(self, authorization: Authorization, signature: bytes) -> None:
        await self._ledger.transfer_with_authorization(authorization, signature)

    async def cancel(self, key: EvmKey, nonce: bytes) -> None:
        # Nobody can reach a cancellation there; the books hold one as nothing paid to nobody.
        await self._ledger._database.write(
            lambda connection: self._ledger._record(
                connection,
                sender=key.address,
                recipient="0x" + "0" * 40,
                amount=0,
                nonce="0x" + nonce.hex(),
                salt=nonce,
                now=self._clock.now_ms(),
            )
        )

    async def move_to(self, timestamp: int) -> None:
        self._clock.advance(timestamp - self._clock.now_s)


class AnvilWorld:
    """The same on a real EVM."""

    def __init__(self, anvil: Anvil, rpc: EvmRpc) -> None:
        self._anvil = anvil
        self.chain = chain_on(rpc)

    async def fund(self, address: str, amount: int) -> None:
        self._anvil.fund(address, amount)

    async def balance(self, address: str) -> int:
        return self._anvil.balance(address)

    async def transfer(self, authorization: Authorization, signature: bytes) -> None:
        self._anvil.transfer(authorization, signature)

    async def cancel(self, key: EvmKey, nonce: bytes) -> None:
        self._anvil.cancel(key, nonce)

    async def move_to(self, timestamp: int) -> None:
        self._anvil.move_to(timestamp)


def chain_on(
    rpc: EvmRpc, *, facts: TokenFacts | None = None, gas: GasAccount | None = None, patience: float = 10.0
) -> RpcTokenChain:
    """Return the chain as a service would build it."""
    return RpcTokenChain(
        facts or TokenFacts(rpc, domain=USDC),
        gas=gas or GasAccount(rpc, GAS_KEY, chain_id=USDC.chain_id),
        patience=patience,
    )
