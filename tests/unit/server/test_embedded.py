"""The faucet and the chains' JSON-RPC over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from pydantic_core import to_json
from starlette.routing import Route, Router

from stablestudio.sandbox.evm_rpc import LedgerRpc
from stablestudio.sandbox.ledger import LedgerChain
from stablestudio.sandbox.tempo_ledger import TempoLedger
from stablestudio.sandbox.tempo_rpc import TempoRpc
from stablestudio.server.embedded import EmbeddedRoutes, EvmFaucet, TempoFaucet
from stablestudio.store.database import Database
from tests.doubles import BUYER, USDC, ManualClock
from tests.unit.server.test_assets import edge

pytestmark = pytest.mark.anyio

EVM, TEMPO = "eip155:84532", "eip155:42431"
COIN = {"network", "asset", "amount", "balance", "transaction"}


class ShellFaucet:
    """A chain whose addresses begin otherwise."""

    def takes(self, address: str) -> bool:
        return address.startswith("shell")

    async def give(self, address: str) -> list[dict[str, Any]]:
        return [{"network": "beach", "asset": "shell", "amount": "1", "balance": "1", "transaction": "t"}]


@pytest.fixture
async def client(database: Database, clock: ManualClock) -> AsyncIterator[httpx2.AsyncClient]:
    evm, tempo = LedgerChain(database, domain=USDC, clock=clock), TempoLedger(database, clock=clock)
    routes = EmbeddedRoutes(
        {EVM: LedgerRpc(evm), TEMPO: TempoRpc(tempo)}, [EvmFaucet(evm), TempoFaucet(tempo), ShellFaucet()]
    )
    paths = [Route("/faucet", routes.faucet, methods=["POST"]), Route("/rpc/{network}", routes.rpc, methods=["POST"])]
    transport = httpx2.ASGITransport(app=edge(Router(routes=paths)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://studio.test") as opened:
        yield opened


async def test_an_address_gets_each_coin_of_each_of_its_chains(client: httpx2.AsyncClient) -> None:
    for times in (1, 2):
        told = (await client.post("/faucet", json={"address": BUYER.address})).json()
        coins = told["coins"]
        assert [coin["network"] for coin in coins] == [EVM, TEMPO, TEMPO]
        assert {coin["amount"] for coin in coins} == {"100000000"}
        assert {coin["balance"] for coin in coins} == {str(times * 100_000_000)}
        assert all(set(coin) == COIN for coin in coins)
    assert len({coin["asset"] for coin in coins}) == 3


async def test_the_first_coin_is_told_at_the_top_as_ever(client: httpx2.AsyncClient) -> None:
    told = (await client.post("/faucet", json={"address": BUYER.address})).json()
    assert {name: told[name] for name in COIN} == told["coins"][0]
    assert (told["success"], told["address"], told["asset"]) == (True, BUYER.address, USDC.contract)


async def test_a_faucet_gives_to_addresses_of_its_chain_alone(client: httpx2.AsyncClient) -> None:
    told = (await client.post("/faucet", json={"address": "shell-1"})).json()
    assert [coin["network"] for coin in told["coins"]] == ["beach"]


@pytest.mark.parametrize("body", [{}, [], None, 5, {"address": 5}, {"address": "0x12"}, {"address": None}])
async def test_what_is_no_address_gets_nothing(client: httpx2.AsyncClient, body: Any) -> None:
    told = await client.post("/faucet", content=to_json(body))
    assert told.status_code == 400
    assert told.json()["issues"][0]["path"] == ["address"]


@pytest.mark.parametrize(
    ("network", "chain"),
    [(EVM, "0x14a34"), ("base-sepolia", "0x14a34"), (TEMPO, "0xa5bf"), ("tempo", "0xa5bf")],
)
async def test_a_chain_answers_under_its_names(client: httpx2.AsyncClient, network: str, chain: str) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}
    told = await client.post(f"/rpc/{network}", json=call)
    assert told.json() == {"jsonrpc": "2.0", "id": 1, "result": chain}
    assert told.headers["access-control-allow-origin"] == "*"
    batch = (await client.post(f"/rpc/{network}", json=[call, {**call, "id": 2}])).json()
    assert [answer["id"] for answer in batch] == [1, 2]


async def test_a_network_that_is_not_embedded_is_not_found(client: httpx2.AsyncClient) -> None:
    for network in ("eip155:8453", "eip155:4217", "solana-devnet", "x" * 500):
        told = await client.post(f"/rpc/{network}", json={"id": 1, "method": "eth_chainId"})
        assert told.status_code == 404
        assert EVM in told.json()["error"]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"id":NaN}', b"[" * 2000])
async def test_what_is_no_json_is_refused(client: httpx2.AsyncClient, body: bytes) -> None:
    assert (await client.post("/rpc/tempo", content=body)).status_code == 400


@pytest.mark.parametrize("body", [b"5", b"null", b"[]", b'"a"', b"[5]"])
async def test_json_that_is_no_call_is_a_json_rpc_error(client: httpx2.AsyncClient, body: bytes) -> None:
    told = (await client.post("/rpc/tempo", content=body)).json()
    assert (told[0] if isinstance(told, list) else told)["error"]["code"] == -32600
