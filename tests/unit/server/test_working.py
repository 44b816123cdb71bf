"""The end of a process' work: its duties are another's while it still waits for vendors."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from stablestudio.server.working import Working
from stablestudio.store.database import Database
from stablestudio.store.place import Place
from tests.doubles import eventually, only_postgres

pytestmark = [pytest.mark.anyio, only_postgres]


class Parts:
    """Engine, maker, sweep and duties in one: the duty runs until it is cancelled, a vendor answers when it is told to."""

    def __init__(self) -> None:
        self.on_duty = False
        self.answered = asyncio.Event()
        self.asking = self

    async def start(self, _: object) -> None:
        return None

    async def stop(self) -> None:
        return None

    async def drain(self, _: float) -> None:
        await self.answered.wait()

    async def begin(self, *, alone: bool) -> list[Coroutine[Any, Any, None]]:
        assert not alone
        return [self._duty()]

    async def _duty(self) -> None:
        self.on_duty = True
        try:
            await asyncio.Event().wait()
        finally:
            self.on_duty = False


async def test_who_drains_has_left_its_duties_to_others(database: Database) -> None:
    parts: Any = Parts()
    ours, theirs = (Place(database.url, "worker") for _ in range(2))
    options: dict[str, Any] = {
        "engine": parts,
        "maker": parts,
        "sweep": parts,
        "duties": parts,
        "lease": None,
        "give_up": pytest.fail,
    }
    working = Working(database, place=ours, drain_seconds=60, **options)
    await working.start(makes_jobs=False)
    await eventually(lambda: parts.on_duty)
    assert not theirs.take()
    stopping = asyncio.create_task(working.stop())
    await eventually(theirs.take)
    assert not parts.on_duty
    assert not stopping.done(), "the vendor has not answered yet"
    parts.answered.set()
    await stopping
    theirs.give_back()
