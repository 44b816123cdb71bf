"""A process that takes turns with others under one lease: python -m tests.unit.store.lease_user FOLDER NAME TURNS LASTS."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from stablestudio.clock import SystemClock
from stablestudio.payments.stored import StoredLease
from stablestudio.store.database import Database

WORK = 0.01  # seconds of each turn


async def work(folder: Path, name: str, turns: int, lasts: float) -> None:
    """Count up a number in a file, reading and writing it apart, so that a second writer would lose a count."""
    database = Database(folder / "test.db")
    lease = StoredLease(database, "gas", name, SystemClock(), lasts=lasts)
    for _ in range(turns):
        async with lease.hold() as holds:
            note(folder, f"{name} in")
            count = int((folder / "count").read_text())
            await asyncio.sleep(WORK if turns > 1 else 60)
            assert holds()
            (folder / "count").write_text(str(count + 1))
            note(folder, f"{name} out")
    database.close()


def note(folder: Path, line: str) -> None:
    with (folder / "log").open("a") as log:
        os.write(log.fileno(), f"{line}\n".encode())


def main(folder: Path, name: str, turns: int, lasts: float) -> None:
    note(folder, f"{name} ready")
    while not (folder / "go").exists():
        time.sleep(0.005)
    asyncio.run(work(folder, name, turns, lasts))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
