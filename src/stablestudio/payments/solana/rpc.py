"""A thin client of a Solana node's JSON-RPC: the few methods that payments need, with typed answers and faults.

Methods and their answers: https://solana.com/docs/rpc/http.
"""

from __future__ import annotations

import base64
from itertools import count
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import httpx2
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from stablestudio.payments.solana.answers import (
    AccountAnswer,
    AccountState,
    BalanceAnswer,
    Blockhash,
    BlockhashAnswer,
    Commitment,
    Entry,
    FlagAnswer,
    Head,
    LamportsAnswer,
    Landed,
    Simulation,
    SimulationAnswer,
    Statuses,
)

T = TypeVar("T")
_TOLD = 200  # characters of a node's words that are kept
_NO_ACCOUNT = "could not find account"


class NodeUnreachable(Exception):
    """The node gave no usable answer; the question may have arrived all the same."""


class NodeRefused(Exception):
    """The node answered with an error: `code`, `message` and whatever came with it."""

    def __init__(self, code: int, message: str, data: object = None) -> None:
        self.code = code
        self.message = message[:_TOLD]
        self.data = data
        super().__init__(f"{code}: {self.message}")


class Wire(Protocol):
    """The way to a node."""

    @property
    def host(self) -> str:
        """Return the node's name, without secrets."""
        ...

    async def exchange(self, question: dict[str, Any]) -> object:
        """Send one question and return the decoded answer; raise `NodeUnreachable`."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


class HttpWire:
    """A node at a URL, which may hold a secret: no message repeats more than its host."""

    def __init__(self, url: str, *, http: httpx2.AsyncClient | None = None, timeout: float = 5.0) -> None:
        self._url = url
        self.host = urlsplit(url).hostname or ""
        self._own = http is None
        self._http = http or httpx2.AsyncClient(trust_env=False)
        self._timeout = timeout  # seconds, for each of connecting, sending and receiving

    async def exchange(self, question: dict[str, Any]) -> object:
        try:
            response = await self._http.post(self._url, json=question, timeout=self._timeout)
            answer: object = from_json(response.content)
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as fault:
            raise NodeUnreachable(f"{self.host}: {type(fault).__name__}") from None
        return answer

    async def close(self) -> None:
        """Close the HTTP client, unless it was given."""
        if self._own:
            await self._http.aclose()


_TEXT: TypeAdapter[str] = TypeAdapter(str)
_NUMBER: TypeAdapter[int] = TypeAdapter(int)
_TIME: TypeAdapter[int | None] = TypeAdapter(int | None)
_HEAD: TypeAdapter[Head] = TypeAdapter(Head)
_ACCOUNT: TypeAdapter[AccountAnswer] = TypeAdapter(AccountAnswer)
_BALANCE: TypeAdapter[BalanceAnswer] = TypeAdapter(BalanceAnswer)
_BLOCKHASH: TypeAdapter[BlockhashAnswer] = TypeAdapter(BlockhashAnswer)
_FLAG: TypeAdapter[FlagAnswer] = TypeAdapter(FlagAnswer)
_LAMPORTS: TypeAdapter[LamportsAnswer] = TypeAdapter(LamportsAnswer)
_SIMULATION: TypeAdapter[SimulationAnswer] = TypeAdapter(SimulationAnswer)
_STATUSES: TypeAdapter[Statuses] = TypeAdapter(Statuses)
_HISTORY: TypeAdapter[list[Entry]] = TypeAdapter(list[Entry])
_LANDED: TypeAdapter[Landed | None] = TypeAdapter(Landed | None)


class SolanaRpc:
    """One node. Each method raises `NodeUnreachable` or `NodeRefused`; none is tried twice here."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._ids = count(1)

    @property
    def host(self) -> str:
        return self._wire.host

    async def close(self) -> None:
        await self._wire.close()

    async def genesis_hash(self) -> str:
        return await self._ask(_TEXT, "getGenesisHash")

    async def health(self) -> None:
        """Return if the node keeps up with its cluster; raise `NodeRefused` if it lags."""
        await self._ask(_TEXT, "getHealth")

    async def head(self, commitment: Commitment) -> Head:
        return await self._ask(_HEAD, "getEpochInfo", {"commitment": commitment})

    async def first_block(self) -> int:
        """Return the lowest slot that the node still has."""
        return await self._ask(_NUMBER, "getFirstAvailableBlock")

    async def block_time(self, slot: int) -> int | None:
        """Return a block's estimated time in Unix seconds."""
        return await self._ask(_TIME, "getBlockTime", slot)

    async def latest_blockhash(self, commitment: Commitment) -> Blockhash:
        return (await self._ask(_BLOCKHASH, "getLatestBlockhash", {"commitment": commitment})).value

    async def is_blockhash_valid(self, blockhash: str, *, min_slot: int = 0) -> bool:
        """Tell whether the next block could take a transaction with this blockhash, seen from slot `min_slot` or later."""
        terms = {"commitment": "processed", "minContextSlot": min_slot}
        return (await self._ask(_FLAG, "isBlockhashValid", blockhash, terms)).value

    async def account(self, address: str, *, commitment: Commitment) -> AccountState | None:
        terms = {"encoding": "base64", "commitment": commitment}
        return (await self._ask(_ACCOUNT, "getAccountInfo", address, terms)).value

    async def lamports(self, address: str) -> int:
        return (await self._ask(_LAMPORTS, "getBalance", address, {"commitment": "confirmed"})).value

    async def token_balance(self, address: str) -> int:
        """Return what a token account holds in base units; 0 where there is none."""
        try:
            answer = await self._ask(_BALANCE, "getTokenAccountBalance", address, {"commitment": "processed"})
        except NodeRefused as refusal:
            if _NO_ACCOUNT in refusal.message:
                return 0
            raise
        return answer.value.amount

    async def simulate(self, raw: bytes) -> Simulation:
        """Run a signed transaction on the newest state without keeping anything."""
        terms = {"encoding": "base64", "sigVerify": True, "commitment": "processed"}
        return (await self._ask(_SIMULATION, "simulateTransaction", base64.b64encode(raw).decode(), terms)).value

    async def send(self, raw: bytes) -> str:
        """Hand in a signed transaction as it is; return its signature. Any fault but a refused form leaves it in doubt."""
        terms = {"encoding": "base64", "skipPreflight": True}
        return await self._ask(_TEXT, "sendTransaction", base64.b64encode(raw).decode(), terms)

    async def status(self, signature: str) -> Statuses:
        """Look a transaction up in the newest blocks and in all that the node has kept."""
        terms = {"searchTransactionHistory": True}
        answer = await self._ask(_STATUSES, "getSignatureStatuses", [signature], terms)
        if len(answer.value) != 1:
            raise NodeUnreachable(f"{self.host}: getSignatureStatuses: not one answer for one question")
        return answer

    async def history(
        self, address: str, *, commitment: Commitment, limit: int, before: str | None = None, min_slot: int = 0
    ) -> list[Entry]:
        """Return the transactions that named an account, the newest first, from before a signature or from now on back."""
        terms: dict[str, Any] = {"commitment": commitment, "limit": limit, "minContextSlot": min_slot}
        if before is not None:
            terms["before"] = before
        return await self._ask(_HISTORY, "getSignaturesForAddress", address, terms)

    async def transaction(self, signature: str, *, commitment: Commitment) -> Landed | None:
        terms = {"encoding": "base64", "commitment": commitment, "maxSupportedTransactionVersion": 0}
        return await self._ask(_LANDED, "getTransaction", signature, terms)

    async def _ask(self, answer: TypeAdapter[T], method: str, *parameters: object) -> T:
        question = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": list(parameters)}
        match await self._wire.exchange(question):
            case {"error": {"code": int(code), "message": str(message), **more}}:
                raise NodeRefused(code, message, more.get("data"))
            case {"result": result}:
                pass
            case _:
                raise NodeUnreachable(f"{self.host}: {method}: no answer of JSON-RPC")
        try:
            return answer.validate_python(result)
        except ValidationError:
            raise NodeUnreachable(f"{self.host}: {method}: not the answer that the method has") from None
