"""A Solana cluster through a node's JSON-RPC, where our own key pays the fees of buyers' transactions."""

from __future__ import annotations

import logging
from dataclasses import replace

from stablestudio.clock import Clock
from stablestudio.payments.facilitators.line import Attempts, MemoryAttempts
from stablestudio.payments.rail import Outcome, Settled
from stablestudio.payments.solana.answers import AccountState, Blockhash
from stablestudio.payments.solana.broadcast import Broadcaster, signature_of
from stablestudio.payments.solana.chain import ChainNotReadable, Sought, WrongSolanaChain
from stablestudio.payments.solana.facts import SolanaFacts
from stablestudio.payments.solana.rpc import NodeRefused, NodeUnreachable
from stablestudio.protocols.solana import SolanaKey, b58decode

log = logging.getLogger(__name__)
_REFERENCE = 32  # characters of the genesis hash that are the cluster's CAIP-2 reference
_FEE = 10_000  # lamports: two signatures
_LOW = 1_000 * _FEE


class SolanaNode:
    """What is common to all ways of settling: reads, and sending what we sign ourselves."""

    def __init__(
        self,
        facts: SolanaFacts,
        *,
        network: str,
        clock: Clock,
        attempts: Attempts | None = None,
        patience: float | None = None,
    ) -> None:
        """Take the cluster's reads; `patience` is the longest that a submission waits, in seconds."""
        self.network = network
        self.attempts = attempts or MemoryAttempts(clock=clock)
        self._facts = facts
        self._rpc = facts.rpc
        self._clock = clock
        terms = {} if patience is None else {"patience": patience}
        self._broadcaster = Broadcaster(facts, attempts=self.attempts, clock=clock, **terms)

    async def send(self, sought: Sought) -> Outcome:
        return await self._broadcaster.send(sought)

    async def find_sent(self, sought: Sought) -> Outcome:
        return await self._facts.find(sought, signature_of(sought))

    async def find_twin(self, sought: Sought) -> Settled | None:
        try:
            return await self._facts.find_twin(sought)
        except (NodeUnreachable, NodeRefused) as fault:
            raise _unreadable(fault) from None

    async def blockhash(self) -> Blockhash:
        try:
            return await self._rpc.latest_blockhash("finalized")
        except (NodeUnreachable, NodeRefused) as fault:
            raise _unreadable(fault) from None

    async def account(self, address: str) -> AccountState | None:
        try:
            return await self._rpc.account(address, commitment="confirmed")
        except (NodeUnreachable, NodeRefused) as fault:
            raise _unreadable(fault) from None

    async def balance(self, address: str) -> int | None:
        try:
            return await self._rpc.token_balance(address)
        except (NodeUnreachable, NodeRefused):
            return None

    async def start(self) -> None:
        """Check that the node serves the cluster; raise `WrongSolanaChain`."""
        try:
            genesis = await self._rpc.genesis_hash()
            await self._check_fees()
        except (NodeUnreachable, NodeRefused) as fault:
            raise WrongSolanaChain(f"The node cannot serve payments: {fault}.") from None
        if f"solana:{genesis[:_REFERENCE]}" != self.network:
            raise WrongSolanaChain(
                f"{self._rpc.host} serves solana:{genesis[:_REFERENCE]}, configured is {self.network}."
            )

    async def stop(self) -> None:
        await self._rpc.close()

    async def _check_fees(self) -> None:
        """Make sure that somebody pays the fees."""


class RpcSolanaChain(SolanaNode):
    """A cluster where we complete buyers' transactions ourselves.

    The fee payer's signature is the transaction's id, and the same key always makes the same one: so the id is known
    before anything is sent, and known again after a restart.
    """

    def __init__(
        self,
        facts: SolanaFacts,
        *,
        network: str,
        fee_payer: SolanaKey,
        clock: Clock,
        attempts: Attempts | None = None,
        patience: float | None = None,
    ) -> None:
        super().__init__(facts, network=network, clock=clock, attempts=attempts, patience=patience)
        self._key = fee_payer
        self.fee_payer = fee_payer.address

    def pays_fees(self, account: str) -> bool:
        return account == self.fee_payer

    async def submit(self, sought: Sought) -> Outcome:
        if not self._is_ours(sought):
            return await self._facts.find(sought, None)  # another key's, from before the settings were changed
        return await self._broadcaster.send(self._complete(sought))

    async def find(self, sought: Sought) -> Outcome:
        if not self._is_ours(sought):
            return await self._facts.find(sought, None)
        return await self._facts.find(sought, signature_of(self._complete(sought)))

    def _is_ours(self, sought: Sought) -> bool:
        return sought.transfer.fee_payer == b58decode(self.fee_payer)

    def _complete(self, sought: Sought) -> Sought:
        transaction = sought.transfer.transaction
        signed = transaction.signed(0, self._key.sign(transaction.message.raw))
        return replace(sought, transfer=replace(sought.transfer, transaction=signed))

    async def _check_fees(self) -> None:
        lamports = await self._rpc.lamports(self.fee_payer)
        if lamports < _FEE:
            raise WrongSolanaChain(
                f"The fee payer {self.fee_payer} holds {lamports} lamports, and a payment's fee is {_FEE}.",
                hint="Send it some SOL, 0.01 is enough for a thousand payments, then start again.",
            )
        if lamports < _LOW:
            log.warning("solana_fee_payer_low", extra={"account": self.fee_payer, "lamports": lamports})


def _unreadable(fault: Exception) -> ChainNotReadable:
    return ChainNotReadable(f"The Solana node cannot be asked at the moment: {fault}; nothing was charged.")
