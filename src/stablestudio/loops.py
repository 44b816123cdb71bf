"""Background loops: the same work again and again, which one fault does not end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)


async def every(
    seconds: float, work: Callable[[], Awaitable[object]], *, name: str, wake: asyncio.Event | None = None
) -> None:
    """Do `work` now, then whenever `seconds` have passed or `wake` is set, until cancelled.

    The first fault of a kind in a row is logged, and that it is over: an outage of an hour would fill the log.
    """
    wake = wake or asyncio.Event()
    faulted: type[Exception] | None = None
    while True:
        wake.clear()
        try:
            await work()
        except Exception as fault:
            if type(fault) is not faulted:
                log.exception("loop_faulted", extra={"loop": name})
            faulted = type(fault)
        else:
            if faulted is not None:
                log.warning("loop_recovered", extra={"loop": name})
            faulted = None
        try:
            await asyncio.wait_for(wake.wait(), seconds)
        except TimeoutError:
            continue
