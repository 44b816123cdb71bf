"""A shop of its own for every test of the sale."""

from __future__ import annotations

import pytest

from stablestudio.store.database import Database
from tests.doubles import ManualClock

from .shop import Shop


@pytest.fixture
def shop(database: Database, clock: ManualClock) -> Shop:
    return Shop(database=database, clock=clock)
