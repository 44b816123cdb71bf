"""Nothing is sold where nothing could be kept, each change is told once, and it goes on by itself."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from stablestudio.media.room import NoRoom, Room

pytestmark = pytest.mark.anyio


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_a_folder_with_space_has_room_and_keeps_no_trace(tmp_path: Path) -> None:
    room = Room([tmp_path], min_free_bytes=1)
    await room.look()
    room.require()
    assert names(tmp_path) == []


async def test_below_the_reserve_nothing_is_sold(tmp_path: Path) -> None:
    room = Room([tmp_path], min_free_bytes=1 << 62)
    await room.look()
    with pytest.raises(NoRoom) as caught:
        room.require()
    assert (caught.value.status, caught.value.charged, caught.value.retryable) == (503, False, True)
    assert "min_free_bytes" in (room.problem or "")


async def test_each_change_is_told_once_and_a_folder_that_is_back_sells_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folders = [tmp_path / "data", tmp_path / "files"]
    for folder in folders:
        folder.mkdir()
    room = Room(folders, min_free_bytes=0)
    shutil.rmtree(folders[1])
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            await room.look()
        folders[1].mkdir()
        for _ in range(3):
            await room.look()
    room.require()
    assert [record.message for record in caplog.records] == ["no_room", "room_again"]
