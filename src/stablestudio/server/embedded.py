"""Routes of the embedded world alone: the faucet, and the ledger chains' JSON-RPC for wallets and clients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import Response

from stablestudio.errors import InvalidInput, Issue, StudioError
from stablestudio.protocols.evm import is_address
from stablestudio.protocols.solana import is_address as is_solana_address
from stablestudio.sandbox.ledger import LedgerChain
from stablestudio.sandbox.solana_ledger import SolanaLedger
from stablestudio.sandbox.tempo_ledger import TempoLedger
from stablestudio.server.answers import answer
from stablestudio.server.http import read_body

FAUCET_UNITS = 100_000_000  # 100 test dollars
_MAX_BODY = 100_000
_ALIASES = {
    "base-sepolia": "eip155:84532",
    "tempo": "eip155:42431",
    "solana-devnet": "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1",
}


class UnknownNetwork(StudioError):
    """There is no embedded chain of this name."""

    status = 404
    hint = "GET /api/models names the networks that are paid on."


class Rpc(Protocol):
    """A chain's JSON-RPC: answers whatever was read from a body's JSON, and never raises for it."""

    async def answer(self, question: object, /) -> Any: ...


class Faucet(Protocol):
    """Whoever gives test coins of a chain."""

    def takes(self, address: str, /) -> bool:
        """Tell whether the text is an address of the chain."""
        ...

    async def give(self, address: str, /) -> list[dict[str, Any]]:
        """Give some of each coin; return network, asset, amount, balance and transaction of each, all of them text."""
        ...


class EvmFaucet:
    """Gives the dollar token of the EVM ledger."""

    def __init__(self, ledger: LedgerChain) -> None:
        self._ledger = ledger

    def takes(self, address: str) -> bool:
        return is_address(address)

    async def give(self, address: str) -> list[dict[str, Any]]:
        transaction = await self._ledger.mint(address, FAUCET_UNITS)
        balance = await self._ledger.balance_of(address)
        domain = self._ledger.domain
        return [_coin(domain.chain_id, domain.contract, balance=balance, transaction=transaction)]


class TempoFaucet:
    """Gives each token of the Tempo ledger."""

    def __init__(self, ledger: TempoLedger) -> None:
        self._ledger = ledger

    def takes(self, address: str) -> bool:
        return is_address(address)

    async def give(self, address: str) -> list[dict[str, Any]]:
        return [await self._give(token, address) for token in self._ledger.tokens]

    async def _give(self, token: str, address: str) -> dict[str, Any]:
        transaction = await self._ledger.mint(token, address, FAUCET_UNITS)
        balance = await self._ledger.balance_of(token, address)
        return _coin(self._ledger.chain_id, token, balance=balance, transaction=transaction)


class SolanaFaucet:
    """Gives the token of the Solana ledger, and with the account some SOL."""

    def __init__(self, ledger: SolanaLedger, *, network: str) -> None:
        self._ledger = ledger
        self._network = network

    def takes(self, address: str) -> bool:
        return is_solana_address(address)

    async def give(self, address: str) -> list[dict[str, Any]]:
        account = await self._ledger.mint(address, FAUCET_UNITS)
        balance = await self._ledger.balance_of(address)
        return [
            {
                "network": self._network,
                "asset": self._ledger.token,
                "amount": str(FAUCET_UNITS),
                "balance": str(balance),
                "transaction": account,
            }
        ]


class EmbeddedRoutes:
    """`POST /faucet`, and `POST /rpc/{network}` for each chain by its CAIP-2 id or short name."""

    def __init__(self, rpcs: Mapping[str, Rpc], faucets: Sequence[Faucet]) -> None:
        self._rpcs = dict(rpcs)
        self._faucets = tuple(faucets)

    async def faucet(self, request: Request) -> Response:
        """Give test dollars to an address, on each chain that has such addresses; the first coin is told twice."""
        body = await _read(request)
        address = body.get("address") if isinstance(body, dict) else None
        takers = [faucet for faucet in self._faucets if isinstance(address, str) and faucet.takes(address)]
        if not isinstance(address, str) or not takers:
            text = "address is 0x and 40 hexadecimal digits, or a Solana address where that chain is embedded"
            issue = Issue(("address",), "invalid", text)
            raise InvalidInput("The faucet needs an address.", issues=[issue])
        coins = [coin for faucet in takers for coin in await faucet.give(address)]
        return answer({"success": True, "address": address, **coins[0], "coins": coins})

    async def rpc(self, request: Request) -> Response:
        """Answer JSON-RPC 2.0, one call or a batch."""
        network = request.path_params["network"]
        rpc = self._rpcs.get(_ALIASES.get(network, network))
        if rpc is None:
            raise UnknownNetwork(f"There is no embedded chain {network[:64]!r}: it is one of {', '.join(self._rpcs)}.")
        return answer(await rpc.answer(await _read(request)))


def _coin(chain_id: int, asset: str, *, balance: int, transaction: str) -> dict[str, Any]:
    return {
        "network": f"eip155:{chain_id}",
        "asset": asset,
        "amount": str(FAUCET_UNITS),
        "balance": str(balance),
        "transaction": transaction,
    }


async def _read(request: Request) -> Any:
    body = await read_body(request.receive, limit=_MAX_BODY)
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError:
        raise InvalidInput("The body is not JSON.") from None
