"""A real Tempo chain, reached through a node's JSON-RPC."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from stablestudio.payments.evm.rpc import EvmRpc, Receipt, RpcError, RpcUnreachable
from stablestudio.payments.tempo.chain import (
    TempoReceipt,
    TempoRefused,
    TempoTransfer,
    TempoUnreachable,
    WrongTempoChain,
)
from stablestudio.protocols.eip3009_calls import TRANSFER, balance_call
from stablestudio.protocols.evm import keccak256

_CONFIRMATION_TIMEOUT = 4  # EIP-7966: taken, and in no block in time
_NO_SUCH_METHOD = -32601
_TAKEN = ("already known", "alreadyknown", "known transaction", "already imported")


class TempoRpcChain:
    """One node at one URL; several tokens may share it. A block of Tempo is final, so its receipts are facts."""

    def __init__(self, rpc: EvmRpc, *, chain_id: int) -> None:
        self._rpc = rpc
        self.chain_id = chain_id

    async def send(self, raw: bytes) -> TempoReceipt | None:
        transaction = "0x" + keccak256(raw).hex()
        try:
            receipt = await self._hand_in(raw)
        except RpcUnreachable as fault:
            raise TempoUnreachable(str(fault), sent=fault.sent) from None
        except RpcError as fault:
            if fault.code == _CONFIRMATION_TIMEOUT or any(word in fault.message.lower() for word in _TAKEN):
                return None
            raise TempoRefused(fault.message) from None
        return None if receipt is None else _read(receipt, transaction)

    async def _hand_in(self, raw: bytes) -> Receipt | None:
        try:
            return await self._rpc.send_raw_transaction_sync(raw)
        except RpcError as fault:
            if fault.code != _NO_SUCH_METHOD:
                raise
        await self._rpc.send_raw_transaction(raw)
        return None

    async def receipt(self, transaction: str) -> TempoReceipt | None:
        with self._reading():
            receipt = await self._rpc.receipt(transaction)
        return None if receipt is None else _read(receipt, transaction)

    async def now(self) -> int:
        with self._reading():
            return (await self._rpc.block()).timestamp

    async def balance(self, token: str, owner: str) -> int | None:
        try:
            answer = await self._rpc.call(token, balance_call(owner))
        except (RpcUnreachable, RpcError):
            return None
        return int.from_bytes(answer) if len(answer) == 32 else None

    async def start(self, token: str) -> None:
        try:
            chain_id, code = await self._rpc.chain_id(), await self._rpc.code(token)
        except RpcUnreachable as fault:
            raise WrongTempoChain(f"The node cannot be asked: {fault}.") from None
        except RpcError as fault:
            raise WrongTempoChain(f"{self._rpc.host} cannot serve payments: {fault}.") from None
        if chain_id != self.chain_id:
            raise WrongTempoChain(f"{self._rpc.host} serves chain {chain_id}, configured is {self.chain_id}.")
        if not code:
            raise WrongTempoChain(f"There is no token at {token} on chain {chain_id}.")

    async def stop(self) -> None:
        await self._rpc.close()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (RpcUnreachable, RpcError) as fault:
            raise TempoUnreachable(str(fault)) from None


def _read(receipt: Receipt, transaction: str) -> TempoReceipt:
    transfers = (
        TempoTransfer(
            token=log.address.lower(),
            sender=_address(log.topics[1]),
            recipient=_address(log.topics[2]),
            amount=int.from_bytes(log.data),
        )
        for log in receipt.logs
        if log.topics[:1] == (TRANSFER,) and len(log.topics) == 3 and len(log.data) == 32
        if log.transaction_hash.lower() == transaction and not log.removed
    )
    return TempoReceipt(transaction=transaction, succeeded=receipt.status == 1, transfers=tuple(transfers))


def _address(topic: str) -> str:
    return "0x" + topic[-40:].lower()
