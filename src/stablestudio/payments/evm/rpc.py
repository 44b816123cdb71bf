"""A thin client of an Ethereum node's JSON-RPC: the few methods that payments need, with typed answers and faults."""

from __future__ import annotations

from itertools import count
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

import httpx2
from pydantic import BaseModel, BeforeValidator, ConfigDict, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import from_json

from stablestudio.protocols.eip3009_calls import revert_reason

T = TypeVar("T")
_NEVER_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.InvalidURL,
    httpx2.PoolTimeout,
    httpx2.UnsupportedProtocol,
)
_TOLD = 200  # characters of a node's words that are kept
_REVERTED = 3  # the error code of geth and all that follow it
_CONTRACT_FAULTS = ("revert", "out of gas", "invalid opcode", "evm error")
_HEAD_ONLY = False  # a block without its transactions


class RpcUnreachable(Exception):
    """The node gave no usable answer. `sent` tells whether the question may have arrived all the same."""

    def __init__(self, message: str, *, sent: bool = True) -> None:
        self.sent = sent
        super().__init__(message)


class RpcError(Exception):
    """The node answered with an error: `code`, `message` and, for a revert, the contract's `data`."""

    def __init__(self, code: int, message: str, data: object = None) -> None:
        self.code = code
        self.message = message[:_TOLD]
        self.data = data
        super().__init__(f"{code}: {self.message}")

    @property
    def reverted(self) -> bool:
        """Tell whether the contract's run ended in failure, and not the node."""
        return self.code == _REVERTED or any(fault in self.message.lower() for fault in _CONTRACT_FAULTS)

    @property
    def reason(self) -> str:
        """Return the contract's own words, or the node's where the contract gave none."""
        data = self.data.get("data") if isinstance(self.data, dict) else self.data
        if isinstance(data, str) and data.startswith("0x"):
            try:
                told = revert_reason(bytes.fromhex(data[2:]))
            except ValueError:
                told = None
            if told:
                return told[:_TOLD]
        # Some nodes put the text into their message only.
        return self.message.partition("execution reverted: ")[2] or self.message


def _number(value: object) -> int:
    if not isinstance(value, str) or not value.startswith("0x"):
        raise ValueError("a quantity is 0x and hexadecimal digits")
    return int(value, 16)


def _bytes(value: object) -> bytes:
    if not isinstance(value, str) or not value.startswith("0x"):
        raise ValueError("data is 0x and hexadecimal digits")
    return bytes.fromhex(value[2:])


Number = Annotated[int, BeforeValidator(_number)]
Data = Annotated[bytes, BeforeValidator(_bytes)]


class _Answer(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="ignore")


class Block(_Answer):
    """A block's head; `timestamp` in Unix seconds, `base_fee_per_gas` in wei (None before EIP-1559)."""

    number: Number
    hash: str
    timestamp: Number
    base_fee_per_gas: Number | None = None


class Log(_Answer):
    """An event that a contract emitted."""

    address: str
    topics: tuple[str, ...]
    data: Data
    log_index: Number
    transaction_hash: str
    removed: bool = False


class Receipt(_Answer):
    """What a mined transaction did; `status` 1 is success."""

    status: Number
    block_number: Number
    block_hash: str
    logs: tuple[Log, ...]


_NUMBER: TypeAdapter[int] = TypeAdapter(Number)
_DATA: TypeAdapter[bytes] = TypeAdapter(Data)
_TEXT: TypeAdapter[str] = TypeAdapter(str)
_BLOCK: TypeAdapter[Block] = TypeAdapter(Block)
_RECEIPT: TypeAdapter[Receipt | None] = TypeAdapter(Receipt | None)
_LOGS: TypeAdapter[tuple[Log, ...]] = TypeAdapter(tuple[Log, ...])


class EvmRpc:
    """One node at one URL. Each method raises `RpcUnreachable` or `RpcError`; none is tried twice here.

    The URL may hold a secret, so no message repeats more than its host.
    """

    def __init__(self, url: str, *, http: httpx2.AsyncClient | None = None, timeout: float = 5.0) -> None:
        self._url = url
        self.host = urlsplit(url).hostname or ""
        self._own = http is None
        self._http = http or httpx2.AsyncClient(trust_env=False)
        self._timeout = timeout  # seconds, for each of connecting, sending and receiving
        self._ids = count(1)

    async def close(self) -> None:
        """Close the HTTP client, unless it was given."""
        if self._own:
            await self._http.aclose()

    async def chain_id(self) -> int:
        return await self._ask(_NUMBER, "eth_chainId")

    async def code(self, address: str, *, at: str | None = None) -> bytes:
        """Return the contract code at an address, after the block with the hash `at` or now; empty for a plain account."""
        return await self._ask(_DATA, "eth_getCode", address, _state(at))

    async def block(self, number: int | None = None) -> Block:
        """Return a block's head, the newest if no number is given."""
        return await self._ask(_BLOCK, "eth_getBlockByNumber", "latest" if number is None else hex(number), _HEAD_ONLY)

    async def call(
        self, to: str | None, data: bytes, *, at: str | None = None, sender: str | None = None, gas: int | None = None
    ) -> bytes:
        """Run a call after the block with the hash `at` (EIP-1898), so that two answers are of one state; else now.

        Without an address the data is creation code, which runs, answers and is forgotten.
        """
        return await self._ask(_DATA, "eth_call", _call(to, data, sender=sender, gas=gas), _state(at))

    async def estimate_gas(self, to: str, data: bytes, *, sender: str) -> int:
        return await self._ask(_NUMBER, "eth_estimateGas", _call(to, data, sender=sender))

    async def priority_fee(self) -> int:
        """Return the tip that the node advises, in wei per unit of gas."""
        return await self._ask(_NUMBER, "eth_maxPriorityFeePerGas")

    async def transaction_count(self, address: str, *, pending: bool) -> int:
        """Return how many transactions an account has sent: mined ones, or those waiting too."""
        return await self._ask(_NUMBER, "eth_getTransactionCount", address, "pending" if pending else "latest")

    async def send_raw_transaction(self, raw: bytes) -> str:
        """Hand in a signed transaction; return its hash. Unreachable with `sent` means: it may be on its way."""
        return await self._ask(_TEXT, "eth_sendRawTransaction", "0x" + raw.hex())

    async def send_raw_transaction_sync(self, raw: bytes) -> Receipt | None:
        """Hand in a signed transaction and wait for its receipt as long as the node does (EIP-7966)."""
        return await self._ask(_RECEIPT, "eth_sendRawTransactionSync", "0x" + raw.hex())

    async def receipt(self, transaction: str) -> Receipt | None:
        """Return a transaction's receipt, or None while it is not mined."""
        return await self._ask(_RECEIPT, "eth_getTransactionReceipt", transaction)

    async def logs(self, address: str, topics: list[Any], *, first: int, last: int) -> tuple[Log, ...]:
        """Return a contract's events in the blocks `first` to `last`, both included."""
        wanted = {"address": address, "topics": topics, "fromBlock": hex(first), "toBlock": hex(last)}
        return await self._ask(_LOGS, "eth_getLogs", wanted)

    async def _ask(self, answer: TypeAdapter[T], method: str, *parameters: object) -> T:
        question = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": parameters}
        try:
            response = await self._http.post(self._url, json=question, timeout=self._timeout)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            sent = not isinstance(error, _NEVER_SENT)
            raise RpcUnreachable(f"{self.host}: {method}: {type(error).__name__}", sent=sent) from None
        result = self._read(response, method)
        try:
            return answer.validate_python(result)
        except ValidationError:
            raise RpcUnreachable(f"{self.host}: {method}: not the answer that the method has") from None

    def _read(self, response: httpx2.Response, method: str) -> object:
        try:
            body = from_json(response.content)
        except ValueError:
            body = None
        match body:
            case {"error": {"code": int(code), "message": str(message), **more}}:
                raise RpcError(code, message, more.get("data"))
            case {"result": result} if response.is_success:
                return result
        raise RpcUnreachable(f"{self.host}: {method}: HTTP {response.status_code} without an answer")


def _state(at: str | None) -> str | dict[str, str]:
    return "latest" if at is None else {"blockHash": at}


def _call(to: str | None, data: bytes, *, sender: str | None, gas: int | None = None) -> dict[str, str]:
    call = {"data": "0x" + data.hex()}
    if to is not None:
        call["to"] = to
    if sender is not None:
        call["from"] = sender
    if gas is not None:
        call["gas"] = hex(gas)
    return call
