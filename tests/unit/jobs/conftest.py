"""A bench for whoever tests the maker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from stablestudio.media.storage import Storage
from stablestudio.store.database import Database
from tests.doubles import INPUT, ManualClock, sell

from .bench import Bench


@pytest.fixture
async def make_bench(database: Database, clock: ManualClock, tmp_path: Any) -> Any:
    storage = Storage.at(str(tmp_path / "assets"))

    async def make(
        input_: str = INPUT,
        *,
        model: str = "nano-banana",
        second: dict[str, Sequence[Any]] | None = None,
        **answers: Sequence[Any],
    ) -> Bench:
        bench = Bench(database, storage, clock, answers, second)
        now = clock.now_ms()
        bench.job_id = await database.write(lambda c: sell(c, 1, now=now, input=input_, model=model))
        return bench

    return make
