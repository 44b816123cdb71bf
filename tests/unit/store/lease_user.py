"""A process that takes turns with others under one lease: python -m tests.unit.store.lease_user URL FOLDER NAME TURNS LASTS."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from stablestudio.clock import SystemClock
from stablestudio.payments.stored import StoredLease
from stablestudio.store.database import connect

WORK = 0.01  # seconds of each turn


async def work(url: str, folder: Path, name: str, turns: int, lasts: float) -> None:
    """Count up a number in a file, reading and writing it apart, so that a second writer would lose a count."""
    database = connect(url)
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


def main(url: str, folder: Path, name: str, turns: int, lasts: float) -> None:
    note(folder, f"{name} ready")
    while not (folder / "go").exists():
        time.sleep(0.005)
    asyncio.run(work(url, folder, name, turns, lasts))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), float(sys.argv[5]))
