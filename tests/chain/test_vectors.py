"""The ledger chain and a real EVM say the same of every authorization; so does the chain's own client on a second look."""

from __future__ import annotations

import pytest

from stablestudio.payments.evm.rpc import EvmRpc
from stablestudio.payments.rail import Outcome, Settled
from stablestudio.sandbox.ledger import LedgerChain
from stablestudio.store.database import Database
from tests.chain.anvil import Anvil
from tests.chain.signing import FUNDS
from tests.chain.vectors import SETTLED, VECTORS, Vector
from tests.chain.worlds import AnvilWorld, LedgerWorld, World
from tests.doubles import BUYER, PAY_TO, USDC, ManualClock

pytestmark = [pytest.mark.anyio, pytest.mark.npm]
each_vector = pytest.mark.parametrize("vector", VECTORS, ids=str)


def test_there_are_forty_vectors_of_different_names() -> None:
    assert len({vector.name for vector in VECTORS}) == len(VECTORS) >= 40


@each_vector
async def test_the_ledger_judges_as_the_table_says(vector: Vector, database: Database, clock: ManualClock) -> None:
    await _judge(vector, LedgerWorld(LedgerChain(database, domain=USDC, clock=clock), clock))


@each_vector
async def test_a_real_chain_judges_as_the_table_says(vector: Vector, anvil: Anvil, rpc: EvmRpc) -> None:
    await _judge(vector, AnvilWorld(anvil, rpc))
    assert anvil.failures() == 0, "gas was paid for a transaction that the simulation should have stopped"


async def _judge(vector: Vector, world: World) -> None:
    await world.fund(BUYER.address, FUNDS)
    for step in vector.before:
        await step(world)
    told = await world.chain.submit(*vector.call)
    for step in vector.then:
        await step(world)
    found = await world.chain.find(vector.call[0])
    assert (_word(told), _word(found), await world.balance(PAY_TO)) == (vector.told, vector.found, vector.paid)
    if isinstance(told, Settled):
        assert found == told == await world.chain.submit(*vector.call)
        assert await world.balance(PAY_TO) == vector.paid


def _word(outcome: Outcome) -> str:
    return SETTLED if isinstance(outcome, Settled) else outcome.reason
