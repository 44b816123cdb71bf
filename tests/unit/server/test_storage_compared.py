"""Processes that share a database keep files in one place; one that is down at a start is compared when it is back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from stablestudio.media.storage import Storage, StorageRefused, StorageUnavailable
from stablestudio.server.storage import check, compare_later
from stablestudio.store.database import Database

pytestmark = pytest.mark.anyio


class Flaky(Storage):
    """A real folder that does not answer while it is away."""

    is_away = True
    is_refused = False

    async def check(self) -> None:
        self._require()
        if self.is_refused:
            raise StorageRefused("The bucket cannot be used: AccessDenied.")
        await super().check()

    async def read(self, key: str) -> bytes:
        self._require()
        return await super().read(key)

    def _require(self) -> None:
        if self.is_away:
            raise StorageUnavailable


@pytest.mark.parametrize(("folder", "reasons"), [("shared", 0), ("elsewhere", 1)])
async def test_a_storage_that_was_down_at_the_start_is_compared_when_it_is_back(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, reasons: int
) -> None:
    monkeypatch.setattr("stablestudio.server.storage._AGAIN_SECONDS", 0.01)
    assert await check(Storage.at(str(tmp_path / "shared")), database)
    flaky = Flaky.at(str(tmp_path / folder))
    assert isinstance(flaky, Flaky)
    assert not await check(flaky, database)
    told: list[str] = []
    later = asyncio.create_task(compare_later(flaky, database, give_up=told.append))
    await asyncio.sleep(0.1)
    assert (later.done(), told) == (False, [])
    flaky.is_away = False
    await asyncio.wait_for(later, 30)
    assert ["The storage differs" in reason for reason in told] == [True] * reasons


async def test_a_storage_that_comes_back_and_refuses_ends_the_process_and_is_logged(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("stablestudio.server.storage._AGAIN_SECONDS", 0.01)
    flaky = Flaky.at(str(tmp_path / "shared"))
    assert isinstance(flaky, Flaky)
    assert not await check(flaky, database)
    caplog.clear()
    told: list[str] = []
    flaky.is_away, flaky.is_refused = False, True
    await asyncio.wait_for(compare_later(flaky, database, give_up=told.append), 30)
    assert told == ["storage: The bucket cannot be used: AccessDenied."]
    assert [(each.getMessage(), each.levelname) for each in caplog.records] == [("storage_refused", "ERROR")]
