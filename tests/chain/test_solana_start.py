"""What is made sure of before a Solana rail takes its first payment."""

from __future__ import annotations

import base64
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from stablestudio.payments.solana.chain import WrongSolanaChain
from stablestudio.payments.solana.rpc_chain import RpcSolanaChain
from stablestudio.protocols.solana import SolanaKey
from stablestudio.store.database import Database
from tests.chain.solana_world import DEVNET, FEES, REFUNDS, USDC, SolanaWorld, lost, rail_on
from tests.doubles import ManualClock

pytest.importorskip("solders")
pytestmark = pytest.mark.anyio
NOBODY = SolanaKey(b"\x63" * 32)


@pytest.fixture
async def world(database: Database, clock: ManualClock) -> AsyncIterator[SolanaWorld]:
    opened = await SolanaWorld(database, clock).open()
    yield opened
    await opened.chain.stop()


async def test_a_right_configuration_starts(world: SolanaWorld) -> None:
    await world.rail.start()


async def test_another_cluster_is_refused(world: SolanaWorld) -> None:
    chain = RpcSolanaChain(
        world.facts, network="solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", fee_payer=FEES, clock=world.clock
    )

    with pytest.raises(WrongSolanaChain, match=f"serves {DEVNET}, configured is solana:5eykt4"):
        await rail_on(chain, world.clock).start()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"decimals": 9}, "has 6 decimals, configured are 9"),
        ({"mint": NOBODY.address}, "no SPL token"),
        ({"pay_to": NOBODY.address}, "no usable token account"),
    ],
)
async def test_a_wrong_setting_is_named(world: SolanaWorld, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(WrongSolanaChain, match=told):
        await rail_on(world.chain, world.clock, **changes).start()


@pytest.mark.parametrize("changes", [{"mint": "0x036CbD53842c5426634e7929541eC2318f3dCF7e"}, {"pay_to": "me"}])
async def test_what_is_no_address_is_refused_at_once(world: SolanaWorld, changes: dict[str, Any]) -> None:
    with pytest.raises(WrongSolanaChain, match="base58"):
        rail_on(world.chain, world.clock, **changes)


async def test_an_account_that_belongs_to_somebody_else_is_refused(world: SolanaWorld) -> None:
    def stolen(told: dict[str, Any]) -> dict[str, Any]:
        value = told["value"]
        if value["space"] != 165:
            return told
        data = bytearray(base64.b64decode(value["data"][0]))
        data[32:64] = b"\x05" * 32
        return told | {"value": value | {"data": [base64.b64encode(bytes(data)).decode(), "base64"]}}

    world.wire.results["getAccountInfo"] = stolen

    with pytest.raises(WrongSolanaChain, match="no usable token account"):
        await world.rail.start()


async def test_a_fee_payer_without_sol_is_refused(world: SolanaWorld) -> None:
    world.wire.results["getBalance"] = lambda told: told | {"value": 9_999}

    with pytest.raises(WrongSolanaChain, match=f"{FEES.address} holds 9999 lamports"):
        await world.rail.start()


async def test_a_fee_payer_with_little_sol_is_a_warning(world: SolanaWorld, caplog: pytest.LogCaptureFixture) -> None:
    world.wire.results["getBalance"] = lambda told: told | {"value": 10_000}
    with caplog.at_level(logging.WARNING):
        await world.rail.start()

    assert "solana_fee_payer_low" in caplog.messages


async def test_a_refund_wallet_without_an_account_is_a_warning(
    world: SolanaWorld, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        await rail_on(world.chain, world.clock, refund_key=NOBODY).start()

    assert "solana_refunds_unfunded" in caplog.messages


@pytest.mark.parametrize("method", ["getGenesisHash", "getBalance"])
async def test_a_node_that_is_away_is_told(world: SolanaWorld, method: str) -> None:
    world.wire.before[method] = lost

    with pytest.raises(WrongSolanaChain, match="cannot serve payments"):
        await world.rail.start()


async def test_a_rail_has_its_name_and_accounts(world: SolanaWorld) -> None:
    assert world.rail.name == f"x402:{DEVNET}:{USDC}"
    assert world.rail.fee_payer == FEES.address
    assert world.rail.refund_address == REFUNDS.address
