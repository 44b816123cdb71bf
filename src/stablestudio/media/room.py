"""Room for what is sold: looks whether its folders can be written to and have space left, so that nothing is sold that cannot be kept."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import anyio.to_thread

from stablestudio.errors import StudioError
from stablestudio.loops import every

log = logging.getLogger(__name__)
_INTERVAL = 2.0
_PROBE = ".room.part"  # swept away as a draft where a stop left it
_PROBE_BYTES = bytes(4096)


class NoRoom(StudioError):
    """The service has no room to keep anything at the moment, so it sells nothing."""

    status = 503
    retryable = True
    hint = "Send the same request again in some minutes; nothing was charged for it. Orders paid before are not lost."


class Room:
    """Knows whether there is room, as of some seconds ago. A log line tells each change, once."""

    def __init__(self, folders: Sequence[Path], *, min_free_bytes: int) -> None:
        self._folders = tuple(folders)
        self._min_free_bytes = min_free_bytes
        self.problem: str | None = None

    def require(self) -> None:
        """Raise `NoRoom` where nothing may be sold."""
        if self.problem is not None:
            raise NoRoom

    async def run(self) -> None:
        """Look until cancelled."""
        await every(_INTERVAL, self.look, name="room")

    async def look(self) -> None:
        """Look once."""
        problem = await anyio.to_thread.run_sync(self._look)
        if problem is not None and self.problem is None:
            log.error("no_room", extra={"problem": problem})
        elif problem is None and self.problem is not None:
            log.warning("room_again")
        self.problem = problem

    def _look(self) -> str | None:
        return next((problem for folder in self._folders if (problem := self._look_at(folder)) is not None), None)

    def _look_at(self, folder: Path) -> str | None:
        probe = folder / _PROBE
        try:
            space = os.statvfs(folder)
            free = space.f_bavail * space.f_frsize
            if free < self._min_free_bytes:
                return f"{folder} has {free:,} bytes left, less than min_free_bytes"
            probe.write_bytes(_PROBE_BYTES)
        except OSError as error:
            return f"{folder} cannot be written to: {error.strerror}"
        finally:
            with suppress(OSError):
                probe.unlink(missing_ok=True)
        return None
