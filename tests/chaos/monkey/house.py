"""The house under test: its processes on one store, each started again by a supervisor whenever it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.zygote import ForkedService, Zygote
from tests.postgres import PostgresServer
from tests.service import Process

PUBLIC = "https://studio.example"
ROLES = {"sqlite": ("all",), "postgres": ("web", "web", "worker", "worker")}
LEASE_SECONDS = 5.0  # the shortest that is allowed: a freeze outlasts it
_READY_SECONDS = 120.0


class Seat(ForkedService):
    """One process of the house, with a clock of its own that can be set wrong."""

    def __init__(self, data: Path, *, zygote: Zygote, role: str, environment: Mapping[str, str]) -> None:
        super().__init__(data, zygote=zygote, environment={**environment, "STABLESTUDIO_ROLE": role})
        self.role = role
        self.due = 0.0
        self.failpoint: str | None = None  # where its next process freezes
        self._clock = data.parent / f"clock-{self.port}"
        self._clock.write_bytes(bytes(8))
        self.environment["CLOCK"] = str(self._clock)

    def shift_clock(self, seconds: float) -> None:
        """Let the process believe that it is so much later."""
        with self._clock.open("r+b") as file:
            file.write(struct.pack("q", int(seconds * 1000)))

    def signal(self, number: int) -> None:
        """Send a signal, also to a process that has just ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    @property
    def is_frozen(self) -> bool:
        """Whether it stands still at its failpoint, or was stopped."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        except (FileNotFoundError, ProcessLookupError):
            return False

    def exit_status(self) -> int | None:
        process: Process | None = self._process
        return None if process is None else process.poll()


@dataclass(kw_only=True)
class House:
    """All processes, and how often they were started anew after they had ended."""

    seats: list[Seat]
    server: PostgresServer | None
    ends: Counter[str] = field(default_factory=Counter)

    @property
    def doors(self) -> list[str]:
        """Where buyers may knock: every process answers."""
        return [seat.url for seat in self.seats]

    @property
    def any(self) -> Seat:
        return self.seats[0]

    async def supervise(self) -> None:
        """Start whatever has ended, until cancelled."""
        while True:
            for seat in self.seats:
                status = seat.exit_status()
                if status is not None and seat.due == 0.0:
                    self.ends[f"{seat.role} ended with {status}"] += 1
                    seat.due = time.monotonic() + 0.3
                elif status is not None and time.monotonic() > seat.due:
                    seat.due = 0.0
                    seat.start(wait=False, failpoint=seat.failpoint)
                    seat.failpoint = None
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def opened(
    folder: Path, environment: Mapping[str, str], *, store: str, server: PostgresServer | None
) -> AsyncIterator[House]:
    """Start a house on a new store and keep it running until the block ends."""
    zygote = Zygote()
    settings = {
        "HASTE": "1",
        "STABLESTUDIO_PUBLIC_URL": PUBLIC,
        "STABLESTUDIO_MIN_FREE_BYTES": "0",
        "STABLESTUDIO_LOG_LEVEL": "INFO",
        **environment,
    }
    if server is not None:
        settings["STABLESTUDIO_DATABASE"] = server.create_upgraded()
        settings["STABLESTUDIO_LEASE_SECONDS"] = str(LEASE_SECONDS)
    seats = [Seat(folder / "data", zygote=zygote, role=role, environment=settings) for role in ROLES[store]]
    house = House(seats=seats, server=server)
    try:
        for seat in seats:
            await asyncio.to_thread(seat.start)
        supervisor = asyncio.create_task(house.supervise())
        yield house
        supervisor.cancel()
    finally:
        for seat in seats:
            seat.kill()
        zygote.close()
