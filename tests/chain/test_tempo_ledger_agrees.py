"""The Tempo ledger and a real Tempo EVM say the same of every raw transaction: mined, mined as failed, or not taken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import pytest

from stablestudio.protocols import tempo
from stablestudio.protocols.evm import EvmKey
from stablestudio.sandbox.tempo_ledger import Refused, Reverted, TempoLedger
from stablestudio.store.database import Database
from tests.chain.anvil import NOW
from tests.chain.tempo_node import Node
from tests.chain.tempo_vectors import (
    DIFFERENCES,
    FAILED,
    FUNDS,
    MINED,
    NOBODY,
    OTHER,
    POOR_SECRET,
    REFUSED,
    TOKEN,
    VECTORS,
    WINDOW,
    Difference,
    Vector,
)
from tests.doubles import BUYER, PAY_TO, ManualClock

pytestmark = pytest.mark.anyio


class World(Protocol):
    """A chain with the token, on which the buyer holds a dollar."""

    async def send(self, raw: bytes) -> str:
        """Hand a transaction in and say what came of it."""

    async def balance(self, address: str) -> int: ...

    async def move_to(self, timestamp: int) -> None: ...


class LedgerWorld:
    """The embedded ledger."""

    def __init__(self, ledger: TempoLedger, clock: ManualClock) -> None:
        self._ledger = ledger
        self._clock = clock

    async def send(self, raw: bytes) -> str:
        try:
            transaction = await self._ledger.send(raw)
        except Refused:
            return REFUSED
        except Reverted as reverted:
            transaction = reverted.transaction
        found = await self._ledger.find(transaction)
        assert found is not None
        return FAILED if found.failure else MINED

    async def balance(self, address: str) -> int:
        return await self._ledger.balance_of(TOKEN, address)

    async def move_to(self, timestamp: int) -> None:
        self._clock.advance(timestamp - self._clock.now_s)


class NodeWorld:
    """The same on a real Tempo EVM."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def send(self, raw: bytes) -> str:
        return self._node.send(raw)

    async def balance(self, address: str) -> int:
        return self._node.balance(address)

    async def move_to(self, timestamp: int) -> None:
        self._node.move_to(timestamp)


@pytest.fixture(scope="session")
def _tempo_node() -> Iterator[Node]:
    with Node() as node:
        yield node


@pytest.fixture
def node(_tempo_node: Node) -> Iterator[Node]:
    with _tempo_node.undone():
        yield _tempo_node


each_vector = pytest.mark.parametrize("vector", VECTORS, ids=str)


@pytest.fixture
async def ledger(database: Database, clock: ManualClock) -> LedgerWorld:
    ledger = TempoLedger(database, clock=clock, window_s=WINDOW)
    await ledger.mint(TOKEN, BUYER.address, FUNDS)
    return LedgerWorld(ledger, clock)


def test_there_are_sixty_vectors_of_different_names() -> None:
    assert len({vector.name for vector in VECTORS}) == len(VECTORS) >= 60


@each_vector
async def test_the_ledger_judges_as_the_table_says(vector: Vector, ledger: LedgerWorld) -> None:
    await _judge(vector, ledger)


@pytest.mark.npm
@each_vector
async def test_a_real_chain_judges_as_the_table_says(vector: Vector, node: Node) -> None:
    await _judge(vector, NodeWorld(node))


@pytest.mark.npm
@pytest.mark.parametrize("vector", DIFFERENCES, ids=str)
async def test_the_ledger_does_less_than_a_chain_where_it_says_so(
    vector: Difference, ledger: LedgerWorld, node: Node
) -> None:
    await _prepare(vector, ledger)
    await _prepare(vector, NodeWorld(node))
    had = await ledger.balance(BUYER.address)

    assert await ledger.send(vector.raw()) == vector.ledger
    assert await ledger.balance(BUYER.address) == had
    assert node.send(vector.raw()) == vector.told


async def _prepare(vector: Vector, world: World) -> None:
    for made in vector.before:
        await world.send(made())
    if vector.later:
        await world.move_to(NOW + vector.later)


async def _judge(vector: Vector, world: World) -> None:
    await _prepare(vector, world)
    raw = vector.raw()
    holders = [BUYER.address, PAY_TO, OTHER, NOBODY, EvmKey.from_hex(POOR_SECRET).address]
    had = [await world.balance(holder) for holder in holders]

    assert await world.send(raw) == vector.told

    have = [await world.balance(holder) for holder in holders]
    moved = _amount(raw) if vector.told == MINED and not vector.name.startswith("copied") else 0
    assert have == [had[0] - moved, had[1] + moved, *had[2:]]


def _amount(raw: bytes) -> int:
    """What a mined transaction of the table takes from the buyer to the merchant."""
    call = tempo.decode(raw).calls[0]
    recipient = "0x" + call.data[16:36].hex()
    return int.from_bytes(call.data[36:68]) if recipient == PAY_TO.lower() else 0
