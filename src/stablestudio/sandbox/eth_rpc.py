"""The methods of Ethereum's JSON-RPC that wallets and libraries call, for every embedded chain of that family."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from stablestudio.protocols.evm import keccak256
from stablestudio.sandbox.abi import MULTICALL, CallReverted, Contract, multicall_of, read_deployless
from stablestudio.sandbox.rpc import INVALID_PARAMS, Method, Parameters, RpcError, hex_at, object_at

REVERTED = 3
_NOBODY = "0x" + "0" * 40
_NO_HASH = "0x" + "0" * 64
_GAS_LIMIT = 30_000_000
_GAS_OF_A_CALL, _GAS_OF_A_TRANSACTION = 50_000, 21_000
_LONGEST_HISTORY, _MOST_CALLS, _MOST_PERCENTILES = 1024, 32, 100
_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,16}")
_NEWEST = ("latest", "pending", "safe", "finalized")
_NO_TRANSACTIONS = "0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"  # the root of an empty trie
_NO_UNCLES = "0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347"


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """An event of a contract."""

    address: str
    topics: tuple[str, ...]
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Mined:
    """A mined transaction as Ethereum tells it; `mined_at` in milliseconds, `more` fields that its type adds."""

    hash: str
    block: int
    sender: str
    to: str
    succeeded: bool
    mined_at: int
    type: str
    nonce: int = 0
    logs: tuple[Log, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)
    receipt: Mapping[str, Any] = field(default_factory=dict)


class EthLedger(Protocol):
    """What the methods ask of a ledger."""

    @property
    def chain_id(self) -> int: ...

    @property
    def contracts(self) -> Mapping[str, Contract]:
        """Return the contracts by address, in lower case."""
        ...

    def now_ms(self) -> int: ...

    async def height(self) -> int: ...

    async def mined(self, transaction: str, /) -> Mined | None:
        """Return a transaction by its hash."""
        ...

    async def mined_in(self, block: int, /) -> Mined | None:
        """Return the transaction of a block; there is at most one."""
        ...

    async def nonce_of(self, owner: str, /) -> int:
        """Return how many transactions an account has sent."""
        ...


class EthMethods:
    """Answers from a ledger without gas prices or a native coin: both are zero."""

    def __init__(self, ledger: EthLedger) -> None:
        self._ledger = ledger
        self._contracts = {**ledger.contracts, MULTICALL: multicall_of(ledger.contracts)}
        self._block_prefix = keccak256(b"block of chain %d" % ledger.chain_id)[:24]

    def table(self) -> dict[str, Method]:
        """Return the methods by name."""
        chain_id = self._ledger.chain_id
        return {
            "web3_clientVersion": _constant("stablestudio/ledger"),
            "net_version": _constant(str(chain_id)),
            "eth_chainId": _constant(hex(chain_id)),
            "eth_syncing": _constant(False),  # noqa: FBT003 - JSON's false
            "eth_accounts": _constant([]),
            "eth_gasPrice": _constant("0x0"),
            "eth_maxPriorityFeePerGas": _constant("0x0"),
            "eth_feeHistory": self._fee_history,
            "eth_blockNumber": self._block_number,
            "eth_getBlockByNumber": self._block_by_number,
            "eth_getBlockByHash": self._block_by_hash,
            "eth_getBalance": self._coins,
            "eth_getCode": self._code,
            "eth_getTransactionCount": self._nonce,
            "eth_getTransactionByHash": self._transaction,
            "eth_getTransactionReceipt": self._receipt,
            "eth_call": self._call,
            "eth_estimateGas": self._estimate,
        }

    async def receipt_of(self, transaction: str) -> dict[str, Any] | None:
        """Return the receipt of a transaction."""
        mined = await self._ledger.mined(transaction)
        return None if mined is None else self._write_receipt(mined)

    async def _fee_history(self, parameters: Parameters) -> dict[str, Any]:
        wanted = parameters[0] if parameters else None
        count = wanted if isinstance(wanted, int) else _quantity(wanted)
        percentiles = parameters[2] if len(parameters) > 2 else []
        if not isinstance(percentiles, list) or len(percentiles) > _MOST_PERCENTILES:
            raise RpcError(INVALID_PARAMS, f"percentiles are a list of at most {_MOST_PERCENTILES}")
        newest = await self._block_at(parameters, 1)
        count = max(0, min(count, newest + 1, _LONGEST_HISTORY))
        return {
            "oldestBlock": hex(newest - count + 1),
            "baseFeePerGas": ["0x0"] * (count + 1),
            "gasUsedRatio": [0.0] * count,
            "reward": [["0x0"] * len(percentiles)] * count,
        }

    async def _block_number(self, _: Parameters) -> str:
        return hex(await self._ledger.height())

    async def _block_by_number(self, parameters: Parameters) -> dict[str, Any] | None:
        return await self._block(await self._block_at(parameters, 0), parameters)

    async def _block_by_hash(self, parameters: Parameters) -> dict[str, Any] | None:
        read = bytes.fromhex(hex_at(parameters, 0, size=32)[2:])
        if read[:24] != self._block_prefix:
            return None
        return await self._block(int.from_bytes(read[24:]), parameters)

    async def _block(self, number: int, parameters: Parameters) -> dict[str, Any] | None:
        height = await self._ledger.height()
        if number > height:
            return None
        mined = await self._ledger.mined_in(number)
        in_full = len(parameters) > 1 and parameters[1] is True
        # No empty blocks are made: the newest one stands for now.
        at = self._ledger.now_ms() if number == height or mined is None else mined.mined_at
        told = [] if mined is None else [self._write_transaction(mined) if in_full else mined.hash]
        return {
            "number": hex(number),
            "hash": self._block_hash(number),
            "parentHash": self._block_hash(number - 1) if number else _NO_HASH,
            "timestamp": hex(at // 1000),
            "transactions": told,
            **_EMPTY_BLOCK,
        }

    async def _coins(self, parameters: Parameters) -> str:
        hex_at(parameters, 0, size=20)
        return "0x0"

    async def _code(self, parameters: Parameters) -> str:
        return "0xfe" if hex_at(parameters, 0, size=20) in self._contracts else "0x"

    async def _nonce(self, parameters: Parameters) -> str:
        return hex(await self._ledger.nonce_of(hex_at(parameters, 0, size=20)))

    async def _transaction(self, parameters: Parameters) -> dict[str, Any] | None:
        mined = await self._ledger.mined(hex_at(parameters, 0, size=32))
        return None if mined is None else self._write_transaction(mined)

    async def _receipt(self, parameters: Parameters) -> dict[str, Any] | None:
        return await self.receipt_of(hex_at(parameters, 0, size=32))

    async def _call(self, parameters: Parameters) -> str:
        return "0x" + (await self._run(object_at(parameters, 0))).hex()

    async def _estimate(self, parameters: Parameters) -> str:
        request = object_at(parameters, 0)
        await self._run(request)
        return hex(_GAS_OF_A_TRANSACTION + _GAS_OF_A_CALL * len(_read_calls(request)))

    async def _run(self, request: dict[str, Any]) -> bytes:
        """Make a request's calls and return what the last one returned; nothing is written down."""
        sender = hex_at([request.get("from") or _NOBODY], 0, size=20)
        result = b""
        for to, data in _read_calls(request):
            try:
                result = await self._enter(to, data, sender)
            except CallReverted as reverted:
                reason = f": {reverted.reason}" if reverted.reason else ""
                raise RpcError(REVERTED, f"execution reverted{reason}", data="0x" + reverted.data.hex()) from None
        return result

    async def _enter(self, to: str, data: bytes, sender: str) -> bytes:
        if not to:
            inner = read_deployless(data)
            return b"" if inner is None else await self._contracts[MULTICALL](inner, sender)
        contract = self._contracts.get(to)
        return b"" if contract is None else await contract(data, sender)

    async def _block_at(self, parameters: Parameters, index: int) -> int:
        named = parameters[index] if len(parameters) > index else "latest"
        if named == "earliest":
            return 0
        return await self._ledger.height() if named in _NEWEST else _quantity(named)

    def _block_hash(self, number: int) -> str:
        return "0x" + (self._block_prefix + number.to_bytes(8)).hex()

    def _place(self, mined: Mined) -> dict[str, Any]:
        return {
            "transactionHash": mined.hash,
            "transactionIndex": "0x0",
            "blockNumber": hex(mined.block),
            "blockHash": self._block_hash(mined.block),
            "blockTimestamp": hex(mined.mined_at // 1000),
        }

    def _write_receipt(self, mined: Mined) -> dict[str, Any]:
        place = self._place(mined)
        logs = [
            {
                **place,
                "address": log.address,
                "topics": list(log.topics),
                "data": "0x" + log.data.hex(),
                "logIndex": hex(index),
                "removed": False,
            }
            for index, log in enumerate(mined.logs)
        ]
        return {
            **place,
            "status": "0x1" if mined.succeeded else "0x0",
            "from": mined.sender,
            "to": mined.to,
            "logs": logs,
            "type": mined.type,
            **_FREE,
            **mined.receipt,
        }

    def _write_transaction(self, mined: Mined) -> dict[str, Any]:
        place = self._place(mined)
        return {
            "hash": place.pop("transactionHash"),
            **place,
            "chainId": hex(self._ledger.chain_id),
            "type": mined.type,
            "nonce": hex(mined.nonce),
            "from": mined.sender,
            "to": mined.to,
            "value": "0x0",
            "gas": hex(_GAS_OF_A_TRANSACTION + _GAS_OF_A_CALL),
            "gasPrice": "0x0",
            "maxFeePerGas": "0x0",
            "maxPriorityFeePerGas": "0x0",
            "input": "0x",
            "accessList": [],
            **mined.more,
        }


_FREE = {
    "gasUsed": "0x0",
    "cumulativeGasUsed": "0x0",
    "effectiveGasPrice": "0x0",
    "contractAddress": None,
    "logsBloom": "0x" + "0" * 512,
}
_EMPTY_BLOCK = {
    "nonce": "0x" + "0" * 16,
    "sha3Uncles": _NO_UNCLES,
    "uncles": [],
    "logsBloom": "0x" + "0" * 512,
    "transactionsRoot": _NO_TRANSACTIONS,
    "stateRoot": _NO_TRANSACTIONS,
    "receiptsRoot": _NO_TRANSACTIONS,
    "miner": _NOBODY,
    "difficulty": "0x0",
    "totalDifficulty": "0x0",
    "extraData": "0x",
    "mixHash": _NO_HASH,
    "size": "0x0",
    "gasLimit": hex(_GAS_LIMIT),
    "gasUsed": "0x0",
    "baseFeePerGas": "0x0",
}


def _constant(value: Any) -> Method:
    async def method(_: Parameters) -> Any:
        return value

    return method


def _quantity(value: object) -> int:
    if not isinstance(value, str) or not _QUANTITY.fullmatch(value):
        raise RpcError(INVALID_PARAMS, "expected a block's name, or a number in hexadecimal")
    return int(value, 16)


def _read_calls(request: Mapping[str, Any]) -> list[tuple[str, bytes]]:
    """Return whom each call of a request is for, "" for a creation, and its data; several calls are Tempo's own form."""
    calls = request.get("calls") or [request]
    if not isinstance(calls, list) or len(calls) > _MOST_CALLS:
        raise RpcError(INVALID_PARAMS, f"calls are a list of at most {_MOST_CALLS}")
    return [_read_call(object_at(calls, index)) for index in range(len(calls))]


def _read_call(call: Mapping[str, Any]) -> tuple[str, bytes]:
    data = hex_at([call.get("data") or call.get("input") or "0x"], 0)
    to = call.get("to")
    return hex_at([to], 0, size=20) if to else "", bytes.fromhex(data[2:])
