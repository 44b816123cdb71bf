"""Loops go on after a fault, and tell of it once."""

from __future__ import annotations

import asyncio
import logging

import pytest

from stablestudio.loops import every
from tests.doubles import eventually

pytestmark = pytest.mark.anyio


async def test_faults_of_one_kind_in_a_row_are_told_once_and_so_is_their_end(caplog: pytest.LogCaptureFixture) -> None:
    rounds = 0

    async def work() -> None:
        nonlocal rounds
        rounds += 1
        if rounds <= 5:
            raise OSError(rounds)
        if rounds == 6:
            raise ValueError(rounds)

    with caplog.at_level(logging.WARNING):
        loop = asyncio.create_task(every(0.001, work, name="rounds"))
        await eventually(lambda: rounds > 8)
        loop.cancel()
    assert [record.message for record in caplog.records] == ["loop_faulted", "loop_faulted", "loop_recovered"]
