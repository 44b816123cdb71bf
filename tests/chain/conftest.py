"""A real chain for each worker, forgotten after each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from stablestudio.payments.evm.rpc import EvmRpc
from stablestudio.store.database import Database
from tests.chain.anvil import Anvil
from tests.chain.proxy import plain_http
from tests.doubles import ManualClock, open_database


@pytest.fixture(scope="session")
def _running() -> Iterator[Anvil]:
    with Anvil() as anvil:
        yield anvil


@pytest.fixture
def anvil(_running: Anvil) -> Iterator[Anvil]:
    with _running.undone():
        yield _running


@pytest.fixture
async def rpc(anvil: Anvil) -> AsyncIterator[EvmRpc]:
    async with plain_http() as http:
        yield EvmRpc(anvil.url, http=http)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(tmp_path)
    yield opened
    opened.close()
