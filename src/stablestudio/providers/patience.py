"""Pauses between repeated questions to a vendor, ever longer, and never two services in step."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass

from stablestudio.providers.answers import Unanswered


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Pauses that grow from `first` to `longest` seconds, with the vendor called `name`."""

    name: str
    first: float
    longest: float

    async def pause(self, attempt: int, *, ends: float, why: str, hint: float | None = None) -> None:
        """Wait before the next attempt, as long as the vendor's `hint` says or longer.

        Raise `Unanswered` where that would be after `ends`, which is of the monotonic clock.
        """
        backed_off = min(self.longest, self.first * 2 ** min(attempt, 16))
        seconds = max(backed_off * random.uniform(0.5, 1.0), hint or 0.0)  # noqa: S311 - spreads load, keeps no secret
        if time.monotonic() + seconds >= ends:
            raise Unanswered(f"{self.name} did not answer in time: {why}")
        await asyncio.sleep(seconds)
