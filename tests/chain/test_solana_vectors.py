"""Each vector through the real rail on the real token program: what is told, what moved, and that the fee payer is whole."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa

from stablestudio.protocols.solana_transaction import decode
from stablestudio.store.database import Database
from stablestudio.store.tables import ledger_solana_transactions
from tests.chain.solana_vectors import VECTORS, Vector
from tests.chain.solana_world import FEES, SolanaWorld
from tests.doubles import ManualClock

pytest.importorskip("solders")
pytestmark = pytest.mark.anyio
_PURSE = 50_000


@pytest.fixture
async def world(database: Database, clock: ManualClock) -> AsyncIterator[SolanaWorld]:
    opened = await SolanaWorld(database, clock).open()
    await opened.ledger.mint(FEES.address, _PURSE)
    yield opened
    await opened.chain.stop()


async def _landed(world: SolanaWorld) -> int:
    count = sa.select(sa.func.count()).select_from(ledger_solana_transactions)
    return await world.database.read(lambda connection: int(connection.execute(count).scalar_one()))


@pytest.mark.parametrize("vector", VECTORS, ids=str)
async def test_a_payment_ends_as_it_must(world: SolanaWorld, vector: Vector) -> None:
    for step in vector.before:
        await step(world)
    if vector.between is not None:
        step = vector.between
        world.wire.after["simulateTransaction"] = lambda: step(world)

    raw = vector.make(world)
    told = await world.sell(raw)

    assert told == vector.told
    assert await world.paid() == vector.paid
    assert await world.ledger.balance_of(FEES.address) == _PURSE
    assert await _landed(world) == vector.landed


@pytest.mark.parametrize("vector", [vector for vector in VECTORS if vector.would_run], ids=str)
async def test_nothing_but_the_rail_stands_in_its_way(world: SolanaWorld, vector: Vector) -> None:
    for step in vector.before:
        await step(world)
    transaction = decode(vector.make(world))
    signed = transaction.signed(0, FEES.sign(transaction.message.raw))
    holdings = await world.database.read(
        lambda connection: world.ledger._holdings(connection, transaction.message.keys)
    )

    run = world.ledger._machine.run(signed.raw(), signed.message, holdings)

    assert run.err is None
