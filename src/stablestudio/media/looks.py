"""Looks at files that buyers want confirmed: few at once, one for each wallet, and one for all who ask about the same file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Generic, TypeVar

from stablestudio.errors import StudioError
from stablestudio.media.turns import Turns

T = TypeVar("T")
# There are at least two decoders: orders and deliveries have the others. A bucket's file is held in memory meanwhile.
_AT_ONCE = 1
_PATIENCE = 30.0  # seconds until who has no turn is sent away
_RETRY_SECONDS = 30


class UploadsBusy(StudioError):
    """Too many uploads are on their way, or looked at, just now."""

    status = 503
    retryable = True
    hint = (
        "Send the request again in half a minute, a confirmation with a new proof; what arrived is kept and stays paid."
    )

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message, headers={"Retry-After": str(_RETRY_SECONDS)})


class Looks(Generic[T]):
    """Runs looks in turn, and gives all who want the same one its one answer, whichever of them goes away."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Task[T]] = {}
        self._wallets = Turns(1)
        self._all = asyncio.Semaphore(_AT_ONCE)

    async def share(self, key: str, look: Callable[[], Awaitable[T]], *, wallet: str) -> T:
        """Return what the look at this file says; raise what it raises, or `UploadsBusy` where no turn came."""
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(self._take_turn(look, wallet))
            task.add_done_callback(lambda _: self._running.pop(key))
        return await asyncio.shield(task)

    async def _take_turn(self, look: Callable[[], Awaitable[T]], wallet: str) -> T:
        async with self._turn(wallet):
            return await look()

    @asynccontextmanager
    async def _turn(self, wallet: str) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(_PATIENCE):
                    await stack.enter_async_context(self._wallets.of(wallet))
                    await stack.enter_async_context(self._all)
            except TimeoutError:
                raise UploadsBusy from None
            yield
