"""An empty database for whoever needs one, in each of the two stores."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stablestudio.store.database import Database, connect
from tests.doubles import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def database(store_url: str) -> Iterator[Database]:
    opened = connect(store_url)
    yield opened
    opened.close()
