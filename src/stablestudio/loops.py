"""Background loops: the same work again and again, which one fault does not end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)


async def every(
    seconds: float, work: Callable[[], Awaitable[object]], *, name: str, wake: asyncio.Event | None = None
) -> None:
    """Do `work` now, then whenever `seconds` have passed or `wake` is set, until cancelled; faults are logged."""
    wake = wake or asyncio.Event()
    while True:
        wake.clear()
        try:
            await work()
        except Exception:
            log.exception("loop_faulted", extra={"loop": name})
        try:
            await asyncio.wait_for(wake.wait(), seconds)
        except TimeoutError:
            continue
