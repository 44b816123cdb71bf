"""How long things take: what the last finished jobs took, and the catalog's word where there are too few."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

from stablestudio.catalog import OFFERINGS, Offering
from stablestudio.clock import Clock
from stablestudio.loops import every
from stablestudio.store import history
from stablestudio.store.database import Database

FRESH_SECONDS = 60
_LAST = 100
_ENOUGH = 5
# Who reads a job ten times while it is made hears of its end a tenth late at most, on average a twentieth.
_READS = 10
_LONGEST_PAUSE = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Eta:
    """Seconds from payment to result: the median, and what nine of ten stay below; `jobs` is 0 where the catalog says so."""

    seconds: float
    p90_seconds: float
    jobs: int = 0

    def body(self) -> dict[str, Any]:
        basis = "history" if self.jobs else "catalog"
        return {"seconds": self.seconds, "p90Seconds": self.p90_seconds, "basis": basis, "jobs": self.jobs}


def estimate(offering: Offering, milliseconds: Sequence[int]) -> Eta:
    """Return what to expect of an offering whose last jobs took so long."""
    if len(milliseconds) < _ENOUGH:
        shortest, longest = offering.typical_seconds
        return Eta(seconds=(shortest + longest) / 2, p90_seconds=float(longest))
    ninth = quantiles(milliseconds, n=10, method="inclusive")[-1]
    return Eta(seconds=_seconds(median(milliseconds)), p90_seconds=_seconds(ninth), jobs=len(milliseconds))


def poll_after(offering: Offering, eta: Eta | None) -> int:
    """Return the pause in seconds that suits readers of a job: by what such jobs took here, or the catalog's where that is unknown."""
    if eta is None or not eta.jobs:
        return offering.poll_after
    return min(max(round(eta.seconds / _READS), 1), _LONGEST_PAUSE)


def _seconds(milliseconds: float) -> float:
    return round(milliseconds / 1000, 1)


class Etas:
    """Estimates for all offerings, made anew from the history once a minute at most."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._made: Mapping[str, Eta] = {}
        self._stale_at = 0
        self._lock = asyncio.Lock()

    async def now(self) -> Mapping[str, Eta]:
        """Return the estimates by the offering's key."""
        async with self._lock:
            if self._clock.now_ms() >= self._stale_at:
                types = [offering.type for offering in OFFERINGS]
                took = await self._database.read(lambda connection: history.durations(connection, types, last=_LAST))
                self._made = {offering.key: estimate(offering, took[offering.type]) for offering in OFFERINGS}
                self._stale_at = self._clock.now_ms() + FRESH_SECONDS * 1000
            return self._made

    async def run(self) -> None:
        """Keep the estimates fresh for `poll_after`, until cancelled."""
        await every(FRESH_SECONDS, self.now, name="etas")

    def poll_after(self, offering: Offering) -> int:
        """Return the pause in seconds between two reads of a job."""
        return poll_after(offering, self._made.get(offering.key))
