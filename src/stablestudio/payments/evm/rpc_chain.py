"""A real EVM chain as a token chain: simulate, send with an own gas key, wait, and believe only the chain."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from weakref import WeakValueDictionary

from stablestudio.payments.evm import reverts
from stablestudio.payments.evm.contract_wallets import Signed, read_signed
from stablestudio.payments.evm.facts import TokenFacts
from stablestudio.payments.evm.gas import GasAccount, NotSent, Sent
from stablestudio.payments.evm.rpc import Block, RpcError, RpcUnreachable
from stablestudio.payments.rail import Outcome, Rejected, Unknown
from stablestudio.protocols.contract_wallets import Counterfactual
from stablestudio.protocols.eip3009 import Authorization, TokenDomain

# Shorter than the time after which the reconciler takes over an open claim.
_PATIENCE = 20.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.5
_LOOKS = 3


class RpcTokenChain:
    """One EIP-3009 token reached through a node, with gas paid by us.

    Nothing is sent that the chain would refuse now, and nothing is called rejected that may still move: a lost
    answer, a time-out or a fault of the node is `Unknown`, with the transaction's hash in its reason once there is one.
    """

    judges_contract_wallets = True

    def __init__(self, facts: TokenFacts, *, gas: GasAccount, patience: float = _PATIENCE) -> None:
        """Take the chain's reads and the gas key; `patience` is the longest a submission waits, in seconds."""
        self._facts = facts
        self._rpc = facts.rpc
        self._gas = gas
        self._patience = patience
        self._contract = facts.domain.contract
        # Submissions of one authorization follow each other, so that a copy never pays gas to be refused.
        self._flights: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._sent: dict[str, Sent] = {}  # by the authorization's key, or by the wallet that it deploys

    @property
    def domain(self) -> TokenDomain:
        return self._facts.domain

    async def start(self) -> None:
        """Check that the node serves this chain and token; raise `WrongChain`."""
        await self._facts.start()

    async def stop(self) -> None:
        """Close the connections to the node."""
        await self._facts.stop()

    async def judge_wallet(self, authorization: Authorization, signature: bytes) -> Rejected | None:
        """Return what the chain has against a signature that is not the sender's own key's, or None if it holds."""
        return await self._facts.judge_wallet(authorization, signature)

    async def find(self, authorization: Authorization) -> Outcome:
        """Tell from the chain alone what became of the authorization."""
        outcome = await self._facts.find(authorization)
        if not isinstance(outcome, Unknown):
            self._sent.pop(authorization.key, None)
        return outcome

    async def balance(self, owner: str) -> int | None:
        """Return what an address holds in base units, or None where that cannot be told now."""
        return await self._facts.balance(owner)

    async def submit(self, authorization: Authorization, signature: bytes) -> Outcome:
        """Settle the authorization, or tell how it was settled, whoever sent it."""
        key = authorization.key
        flight = self._flights.setdefault(key, asyncio.Lock())
        try:
            async with asyncio.timeout(self._patience), flight:
                outcome = await self._settle(read_signed(authorization, signature))
        except TimeoutError:
            self._gas.doubt()
            outcome = Unknown(reason="not_seen_in_time")
        except NotSent as fault:
            outcome = Unknown(reason=fault.reason)
        except (RpcUnreachable, RpcError):
            outcome = Unknown(reason="chain_not_readable")
        return self._remember(key, outcome)

    async def _settle(self, signed: Signed) -> Outcome:
        step = await self._begin(signed)
        if isinstance(step, Sent):
            sent = step
            return await _poll(lambda: self._follow(signed, sent))
        if isinstance(step, Unknown):
            return await _poll(lambda: self._facts.find(signed.authorization))
        return step

    async def _begin(self, signed: Signed) -> Outcome | Sent:
        # A balanced node may lag behind the block that its twin just named: look again from a fresh head.
        for _ in range(_LOOKS - 1):
            with suppress(RpcUnreachable, RpcError):
                return await self._send(signed)
            await asyncio.sleep(_FIRST_PAUSE)
        return await self._send(signed)

    async def _send(self, signed: Signed) -> Outcome | Sent:
        """Return the transaction on its way, or the outcome where none is needed; all that is read is of one block."""
        head = await self._rpc.block()
        if await self._facts.is_used(signed.authorization, at=head.hash):
            return await self._facts.trace(signed.authorization, head)
        base_fee = head.base_fee_per_gas or 0
        if earlier := await self._resume(signed.key, base_fee):
            return earlier
        if signed.deployment and not await self._rpc.code(signed.authorization.sender, at=head.hash):
            refused = await self._deploy(signed, signed.deployment, head)
            if refused is None:
                await asyncio.sleep(_FIRST_PAUSE)  # a node that lags has to catch up
                return await self._send(signed)
        else:
            refused = await self._simulate(signed.transfer, at=head.hash)
        if refused:
            # An earlier transaction of ours may still be mined, so a refusal now is not the last word.
            return Unknown(reason="refused_while_sent") if signed.key in self._sent else refused
        return await self._broadcast(signed.key, self._contract, signed.transfer, base_fee=base_fee)

    async def _deploy(self, signed: Signed, deployment: Counterfactual, head: Block) -> Outcome | None:
        """Make sure that the paying wallet exists; return what speaks against it."""
        wallet, base_fee = signed.authorization.sender, head.base_fee_per_gas or 0
        # Several payments of one new wallet deploy it once.
        async with self._flights.setdefault(wallet, asyncio.Lock()):
            if await self._rpc.code(wallet):
                return None
            step: Outcome | Sent | None = await self._resume(wallet, base_fee)
            step = step or await self._facts.wallets.rehearse(signed.authorization, deployment)
            step = step or await self._facts.wallets.rehearse_deployment(
                deployment, sender=self._gas.address, gas=self._gas.limits.max_gas
            )
            step = step or await self._broadcast(wallet, deployment.factory, deployment.call, base_fee=base_fee)
            return await self._await_wallet(wallet, step) if isinstance(step, Sent) else step

    async def _await_wallet(self, wallet: str, sent: Sent) -> Outcome | None:
        while not await self._rpc.code(wallet):
            receipt = await self._rpc.receipt(sent.hash)
            if receipt is not None and receipt.status == 0:
                self._facts.wallets.distrust(wallet)
                self._sent.pop(wallet, None)
                return Rejected(
                    reason="wallet_not_deployable",
                    message=f"The paying wallet's deployment failed on the chain in transaction {sent.hash}.",
                )
            await asyncio.sleep(_FIRST_PAUSE)
        self._sent.pop(wallet, None)
        return None

    async def _broadcast(self, key: str, to: str, data: bytes, *, base_fee: int) -> Sent | Unknown:
        earlier = self._sent.get(key)
        try:
            return await self._gas.send(
                to, data, base_fee=base_fee, on_signed=lambda sent: self._sent.update({key: sent})
            )
        except (NotSent, RpcUnreachable, RpcError) as fault:
            self._sent.pop(key, None)
            if earlier is not None:
                self._sent[key] = earlier
            if isinstance(fault, RpcError) and fault.reverted:
                # Good after the last block, and not after what waits: an earlier submission, ours or a stranger's.
                return Unknown(reason="already_waiting")
            raise

    async def _resume(self, key: str, base_fee: int) -> Sent | None:
        """Return the transaction that an earlier submission left on its way, sent once more, if it can be mined now."""
        sent = self._sent.get(key)
        if sent is None or await self._rpc.receipt(sent.hash) is not None:
            return sent
        if await self._gas.is_spent(sent.nonce):
            self._sent.pop(key, None)
            return None
        if sent.max_fee < base_fee:
            return None
        await self._gas.resend(sent)
        return sent

    async def _simulate(self, data: bytes, *, at: str) -> Outcome | None:
        try:
            # With the gas that a transaction would get, so that a wallet's contract cannot burn more than that.
            await self._rpc.call(self._contract, data, at=at, sender=self._gas.address, gas=self._gas.limits.max_gas)
        except RpcError as refusal:
            if not refusal.reverted:
                raise
            meaning = reverts.rejection_of(refusal.reason)
            # The state of this very block says that the nonce is free: a token that contradicts itself tells nothing.
            return Unknown(reason="used_without_trace") if meaning is reverts.NONCE_SPENT else meaning
        return None

    async def _follow(self, signed: Signed, sent: Sent) -> Outcome:
        receipt = await self._rpc.receipt(sent.hash)
        if receipt is None:
            return Unknown(reason="not_mined")
        head, authorization = await self._rpc.block(), signed.authorization
        if receipt.status == 1 or not self._facts.is_deep(authorization, receipt, height=head.number):
            return self._facts.judge(authorization, receipt, sent.hash, height=head.number)
        if await self._facts.is_used(authorization, at=head.hash):
            return await self._facts.trace(authorization, head)  # somebody else was quicker
        refused = await self._simulate(signed.transfer, at=head.hash)
        if not isinstance(refused, Rejected) or refused.reason != "insufficient_funds":
            self._facts.wallets.distrust(authorization.sender)  # good before and after, and not when it counted
        return refused or Rejected(
            reason="transaction_reverted", message=f"The transfer failed on the chain in transaction {sent.hash}."
        )

    def _remember(self, key: str, outcome: Outcome) -> Outcome:
        if not isinstance(outcome, Unknown):
            self._sent.pop(key, None)
            return outcome
        sent = self._sent.get(key)
        return outcome if sent is None else Unknown(reason=f"{outcome.reason}:{sent.hash}")


async def _poll(ask: Callable[[], Awaitable[Outcome]]) -> Outcome:
    """Ask until there is an outcome; the caller sets the time-out. A fault of the node is no outcome."""
    pause = _FIRST_PAUSE
    while True:
        with suppress(RpcUnreachable, RpcError):
            outcome = await ask()
            if not isinstance(outcome, Unknown):
                return outcome
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)
