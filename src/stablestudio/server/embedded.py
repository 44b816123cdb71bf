"""Routes of the embedded world alone: the faucet, and the ledger chain's JSON-RPC for wallets."""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import Response

from stablestudio.errors import InvalidInput, Issue
from stablestudio.protocols.evm import is_address
from stablestudio.sandbox.ledger import LedgerChain
from stablestudio.sandbox.rpc import LedgerRpc
from stablestudio.server.answers import answer
from stablestudio.server.http import read_body

FAUCET_UNITS = 100_000_000  # 100 test dollars
_MAX_BODY = 1_000_000


class EmbeddedRoutes:
    """`POST /faucet` and `POST /rpc/{network}`."""

    def __init__(self, ledger: LedgerChain) -> None:
        self._ledger = ledger
        self._rpc = LedgerRpc(ledger)

    async def faucet(self, request: Request) -> Response:
        """Give test dollars to an address."""
        body = await _read_object(request)
        address = body.get("address")
        if not isinstance(address, str) or not is_address(address):
            issue = Issue(("address",), "invalid", "address is 0x and 40 hexadecimal digits")
            raise InvalidInput("The faucet needs an address.", issues=[issue])
        transaction = await self._ledger.mint(address, FAUCET_UNITS)
        balance = await self._ledger.balance_of(address)
        return answer(
            {
                "success": True,
                "address": address,
                "amount": str(FAUCET_UNITS),
                "balance": str(balance),
                "asset": self._ledger.domain.contract,
                "network": f"eip155:{self._ledger.domain.chain_id}",
                "transaction": transaction,
            }
        )

    async def rpc(self, request: Request) -> Response:
        """Answer JSON-RPC 2.0."""
        return answer(await self._rpc.answer(await _read_object(request)))


async def _read_object(request: Request) -> dict[str, Any]:
    body = await read_body(request.receive, limit=_MAX_BODY)
    try:
        read = from_json(body, allow_inf_nan=False)
    except ValueError:
        raise InvalidInput("The body is not JSON.") from None
    if not isinstance(read, dict):
        raise InvalidInput("The body is not a JSON object.")
    return read
