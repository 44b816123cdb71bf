"""The town outside: a chain that outlives the house, its node, and two facilitators that settle on it, fail and lie by lot."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from stablestudio.clock import SystemClock
from stablestudio.sandbox.eth_rpc import EthMethods
from stablestudio.sandbox.evm_rpc import _EvmLedger
from stablestudio.sandbox.ledger import LedgerChain, Reverted
from stablestudio.sandbox.rpc import Parameters, Rpc, object_at
from tests.doubles import PAY_TO, REFUNDS, USDC, open_database
from tests.fakes.facilitator import NETWORK, SUPPORTED, authorized
from tests.providers.loopback import Answer, Request, Silence, serving

from .crowd import FUNDS
from .lots import Lots

_FINE = "fine"
_SETTLE = {
    _FINE: 140,
    "facilitator: slow": 8,
    "facilitator: busy (429)": 4,
    "facilitator: reset before settling": 3,
    "facilitator: reset after settling": 3,
    "facilitator: 503 before settling": 3,
    "facilitator: 500 after settling": 3,
    "facilitator: garbage after settling": 2,
    "facilitator: lies that it settled": 1,
    "facilitator: lies that it failed": 2,
    "facilitator: names another transaction": 2,
}
_NODE = {_FINE: 200, "node: 500": 4, "node: reset": 3, "node: slow": 3}
_NOWHERE = "0x" + "5e" * 32
_Turn = Answer | Silence


class Town:
    """A ledger in books of its own, reached by JSON-RPC and by facilitators alone."""

    def __init__(self, folder: Path, *, seed: int) -> None:
        self.lots = Lots(seed, "town", _SETTLE, _NODE, usual=_FINE)
        self._database = open_database(folder)
        self._ledger = LedgerChain(self._database, domain=USDC, clock=SystemClock())
        self._methods = EthMethods(_EvmLedger(self._ledger, clock=SystemClock()))
        self._node = Rpc({**self._methods.table(), "eth_getLogs": self._logs})

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Mapping[str, str]]:
        """Serve node and facilitators; give the settings of a rail that is paid on this chain."""
        await self._ledger.mint(REFUNDS.address, 10 * FUNDS)
        async with (
            serving(self._ask_node) as node,
            serving(self._facilitate) as first,
            serving(self._facilitate) as second,
        ):
            rail = {
                "kind": "x402-evm",
                "network": NETWORK,
                "rpc": node.url,
                "pay_to": PAY_TO,
                "refund_key": f"0x{'7e' * 32}",
                "refund_daily_cap": "1000",
                "facilitators": [{"url": f"{each.url}/x402"} for each in (first, second)],
            }
            tempo = {"kind": "mpp-tempo", "chain": "ledger", "network": "eip155:42431"}
            yield {"STABLESTUDIO_RAILS": json.dumps({"base": rail, "tempo": tempo})}
        self._database.close()

    async def fund(self, address: str) -> None:
        await self._ledger.mint(address, FUNDS)

    def balances(self) -> list[tuple[Any, ...]]:
        """Return what each address holds: owner, number of coins, units."""
        sql = "SELECT owner, count(*), sum(amount) FROM ledger_balances GROUP BY owner"
        with self._database.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(sql))]

    async def _ask_node(self, request: Request) -> _Turn:
        lot = self.lots.draw(_NODE, usual=_FINE)
        if lot == "node: slow":
            await asyncio.sleep(self.lots.between(0.3, 2))
        troubles: dict[str, _Turn] = {"node: 500": Answer(status=500), "node: reset": Silence.RESET}
        return troubles.get(lot) or Answer(json=await self._node.answer(request.json))

    async def _logs(self, parameters: Parameters) -> list[dict[str, Any]]:
        """Return the events of one authorization: the service asks for no others."""
        wanted = object_at(parameters, 0)
        _, sender, nonce = wanted["topics"]
        found = await self._ledger.find_authorization("0x" + sender[-40:], bytes.fromhex(nonce[2:]))
        if found is None or not int(wanted["fromBlock"], 16) <= found.block <= int(wanted["toBlock"], 16):
            return []
        receipt = await self._methods.receipt_of(found.hash)
        assert receipt is not None
        return [log for log in receipt["logs"] if log["topics"][0] in wanted["topics"][0]]

    async def _facilitate(self, request: Request) -> _Turn:
        if request.path.endswith("/supported"):
            return Answer(json=SUPPORTED)
        lot = self.lots.draw(_SETTLE, usual=_FINE)
        if lot == "facilitator: slow":
            await asyncio.sleep(self.lots.between(0.5, 3))
        if lot in _NOT_SETTLED:
            return _NOT_SETTLED[lot]
        try:
            transaction = await self._ledger.transfer_with_authorization(*authorized(request.json))
        except Reverted as reverted:
            word = "insufficient_funds" if "balance" in reverted.reason else "transaction_failed"
            return Answer(status=400, json={"success": False, "errorReason": word, "transaction": ""})
        return _ILL_TOLD.get(lot) or Answer(json=_receipt(transaction))


def _receipt(transaction: str) -> dict[str, Any]:
    return {"success": True, "transaction": transaction, "network": NETWORK}


_NOT_SETTLED: Mapping[str, _Turn] = {
    "facilitator: busy (429)": Answer(status=429, json={"error": "slow down"}),
    "facilitator: reset before settling": Silence.RESET,
    "facilitator: 503 before settling": Answer(status=503, json={"error": "overloaded"}),
    "facilitator: lies that it settled": Answer(json=_receipt(_NOWHERE)),
}
_ILL_TOLD: Mapping[str, _Turn] = {
    "facilitator: reset after settling": Silence.RESET,
    "facilitator: 500 after settling": Answer(status=500, json={"error": "oops"}),
    "facilitator: garbage after settling": Answer(body=b"<html>It works!</html>"),
    "facilitator: lies that it failed": Answer(json={"success": False, "errorReason": "unexpected_settle_error"}),
    "facilitator: names another transaction": Answer(json=_receipt(_NOWHERE)),
}
