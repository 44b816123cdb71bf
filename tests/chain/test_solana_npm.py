"""The unmodified npm clients of today and of last year pay on the embedded Solana, by its JSON-RPC."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from stablestudio.payments.rail import Settled
from stablestudio.payments.solana.rail import MemoMismatch
from stablestudio.protocols import x402
from stablestudio.protocols.solana import b58decode
from stablestudio.store.database import Database
from tests.chain.solana_node import serve
from tests.chain.solana_world import BUYER, PRICE, SolanaWorld, rail_on
from tests.doubles import ManualClock
from tests.npm import install

pytest.importorskip("solders")
pytestmark = [pytest.mark.anyio, pytest.mark.npm, pytest.mark.timeout(900)]
NPM = Path(__file__).parents[1] / "acceptance" / "npm"


@pytest.fixture(scope="session")
def _packages() -> Path:
    install(NPM)
    return NPM


@pytest.fixture
async def world(database: Database, clock: ManualClock, _packages: Path) -> SolanaWorld:
    return await SolanaWorld(database, clock).open()


async def _pay(world: SolanaWorld, offer: x402.PaymentRequirements, *, client: str) -> x402.SolanaPayload:
    """Let a client pay an offer; return what it sent."""
    resource = x402.Resource(url="https://seller.example/api")
    required = x402.encode_required(x402.PaymentRequired(accepts=[offer], resource=resource))
    async with serve(world.node) as url:
        given = {"RPC": url, "REQUIRED": required, "CLIENT": client, "SECRET": b58decode(BUYER.base58()).hex()}
        node = await asyncio.create_subprocess_exec(
            "node", "pay_solana.mjs", cwd=NPM, env={**os.environ, **given},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(node.communicate(), 60)
    assert node.returncode == 0, err.decode()
    told = json.loads(out)
    assert (told["status"], len(told["sent"])) == (200, 1)
    payment = x402.decode_payment(told["sent"][0])
    assert isinstance(payment, x402.SolanaPayload)
    return payment


async def test_a_stock_client_pays(world: SolanaWorld) -> None:
    payment = await _pay(world, world.offer(), client="today")

    assert world.rail.takes(payment)
    credential = world.rail.identify(payment)
    world.rail.check(payment, world.asked)
    assert await world.rail.admit(credential) is None
    assert isinstance(await world.rail.settle(credential.saved), Settled)
    assert str(credential.wallet) == f"solana:{BUYER.address}"
    assert await world.paid() == PRICE


async def test_a_client_of_last_year_pays_where_unbound_memos_are_taken(world: SolanaWorld) -> None:
    lenient = rail_on(world.chain, world.clock, unbound_memos=True)
    payment = await _pay(world, lenient.offer(world.asked), client="older")

    with pytest.raises(MemoMismatch):
        world.rail.check(payment, world.asked)
    lenient.check(payment, world.asked)
    assert isinstance(await lenient.settle(lenient.identify(payment).saved), Settled)
    assert await world.paid() == PRICE
