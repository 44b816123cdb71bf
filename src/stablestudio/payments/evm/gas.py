"""The key that pays gas: one writer, nonces that never leave a gap, EIP-1559 fees under a cap."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from stablestudio.payments.evm.rpc import EvmRpc, RpcError, RpcUnreachable
from stablestudio.protocols.evm import EvmKey
from stablestudio.protocols.evm_transaction import SignedTransaction, Transaction, sign

log = logging.getLogger(__name__)
_TRIES = 3  # nonces that are tried where another writer was quicker
_HELD = ("already known", "alreadyknown", "already imported", "known transaction")
_NONCE_TAKEN = ("nonce too low", "nonce is too low", "replacement transaction underpriced", "oldnonce")
_BROKE = "insufficient funds"


class NotSent(Exception):
    """Certainly no transaction left this process, or the node refused it; `reason` is a short word."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


Holds = Callable[[], bool]


class Lease(Protocol):
    """The right to be the one writer of a gas key."""

    def hold(self) -> AbstractAsyncContextManager[Holds]:
        """Wait for the right and keep it inside the `async with`; what it yields tells whether it still holds.

        May raise `NotSent` where the right cannot be had in time.
        """
        ...


class LocalLease:
    """One writer among the tasks of this process. Several processes need `stored.StoredLease`."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[Holds]:
        async with self._lock:
            yield lambda: True


@dataclass(frozen=True, slots=True, kw_only=True)
class GasLimits:
    """What one transaction may cost.

    `max_cost` is gas times fee in wei; a rollup adds its small fee for data, which no field of a transaction bounds.
    """

    max_gas: int = 300_000
    max_cost: int = 100_000_000_000_000  # 0.0001 of the coin
    max_tip: int = 100_000_000  # wei per unit of gas; more advice than that is not followed
    margin_percent: int = 25  # over the node's estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A transaction that may be on its way; fees in wei per unit of gas."""

    nonce: int
    max_fee: int
    priority_fee: int
    signed: SignedTransaction

    @property
    def hash(self) -> str:
        return self.signed.hash


class GasAccount:
    """A gas key on one chain. Give the same account to all that send with the key, so that they share its nonces."""

    def __init__(
        self,
        rpc: EvmRpc,
        key: EvmKey,
        *,
        chain_id: int,
        lease: Lease | None = None,
        limits: GasLimits | None = None,
    ) -> None:
        self._rpc = rpc
        self._key = key
        self._chain_id = chain_id
        self._lease = lease or LocalLease()
        self.limits = limits or GasLimits()
        self._next = 0  # one past the highest nonce that this process knows to be taken
        self._waiting: dict[int, Sent] = {}

    @property
    def address(self) -> str:
        """Return the address that pays gas."""
        return self._key.address

    def doubt(self) -> None:
        """Forget which nonces are taken, because a transaction did not arrive; the node is asked anew."""
        self._next = 0

    async def send(self, to: str, data: bytes, *, base_fee: int, on_signed: Callable[[Sent], None]) -> Sent:
        """Sign and broadcast a call. `on_signed` hears of each transaction before it leaves.

        Returns too when the node's answer was lost: then only the chain knows. Raises `NotSent`, or `RpcError` and
        `RpcUnreachable` from before the broadcast; after any of them nothing is on its way.
        """
        estimate = await self._rpc.estimate_gas(to, data, sender=self.address)
        gas = min(estimate * (100 + self.limits.margin_percent) // 100, self.limits.max_gas)
        if estimate > gas:
            raise NotSent("gas_limit_exceeded")
        tip = min(await self._rpc.priority_fee(), self.limits.max_tip)
        async with self._lease.hold() as holds:
            for _ in range(_TRIES):
                nonce, replaced = await self._take_nonce(base_fee)
                sent = self._sign(to, data, nonce=nonce, gas=gas, fees=self._fees(base_fee, tip, gas, replaced))
                if not holds():
                    raise NotSent("gas_key_lost")  # another process may have taken this very nonce
                on_signed(sent)
                if await self._broadcast(sent):
                    return sent
        raise NotSent("nonce_contended")

    async def resend(self, sent: Sent) -> None:
        """Broadcast the same bytes again; a node that has them, or has mined them, just says so."""
        try:
            await self._rpc.send_raw_transaction(sent.signed.raw)
        except (RpcError, RpcUnreachable) as fault:
            log.info("transaction_resent", extra={"transaction": sent.hash, "answer": str(fault)})

    async def is_spent(self, nonce: int) -> bool:
        """Tell whether a transaction with this nonce was mined, ours or the one that replaced it."""
        return await self._rpc.transaction_count(self.address, pending=False) > nonce

    async def _take_nonce(self, base_fee: int) -> tuple[int, Sent | None]:
        mined = await self._rpc.transaction_count(self.address, pending=False)
        pending = await self._rpc.transaction_count(self.address, pending=True)
        self._waiting = {nonce: sent for nonce, sent in self._waiting.items() if nonce >= mined}
        first = self._waiting.get(mined)
        # The first in the queue blocks all others; one that cannot be mined at this base fee makes place.
        if first is not None and pending > mined and first.max_fee < base_fee:
            return mined, first
        return max(pending, self._next), None

    def _fees(self, base_fee: int, tip: int, gas: int, replaced: Sent | None) -> tuple[int, int]:
        if replaced is not None:
            tip = max(tip, replaced.priority_fee * 9 // 8 + 1)  # nodes ask for a tenth more
        # Twice the base fee outlives six full blocks in a row, each of which raises it by an eighth.
        max_fee = min(2 * base_fee + tip, self.limits.max_cost // gas)
        if max_fee < base_fee + tip:
            raise NotSent("gas_price_above_cap")
        return max_fee, tip

    def _sign(self, to: str, data: bytes, *, nonce: int, gas: int, fees: tuple[int, int]) -> Sent:
        max_fee, tip = fees
        transaction = Transaction(
            chain_id=self._chain_id,
            nonce=nonce,
            max_priority_fee_per_gas=tip,
            max_fee_per_gas=max_fee,
            gas_limit=gas,
            to=to,
            data=data,
        )
        return Sent(nonce=nonce, max_fee=max_fee, priority_fee=tip, signed=sign(transaction, self._key))

    async def _broadcast(self, sent: Sent) -> bool:
        """Return True if the transaction may be on its way, False if its nonce was taken by another."""
        self._next = 0  # whatever ends this, even a cancellation, gives the nonce back
        try:
            await self._rpc.send_raw_transaction(sent.signed.raw)
        except RpcError as refusal:
            if _says(refusal, _NONCE_TAKEN):
                return False
            if not _says(refusal, _HELD):
                raise NotSent(_reason(refusal, self.address)) from None
        except RpcUnreachable as fault:
            if not fault.sent:
                raise
            self._waiting[sent.nonce] = sent
            await self.resend(sent)  # harmless if the first arrived, and quicker than a time-out if not
            return True
        self._waiting[sent.nonce] = sent
        self._next = sent.nonce + 1
        return True


def _reason(refusal: RpcError, address: str) -> str:
    broke = _says(refusal, (_BROKE,))
    log.error("gas_key_unfunded" if broke else "broadcast_refused", extra={"key": address, "answer": str(refusal)})
    return "gas_key_unfunded" if broke else "broadcast_refused"


def _says(refusal: RpcError, words: tuple[str, ...]) -> bool:
    message = refusal.message.lower()
    return any(word in message for word in words)
