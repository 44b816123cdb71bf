"""A bucket's bad days: a relay before S3 that cuts, delays or answers 503 for a while."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable

from .lots import Lots

_MOODS = ("cuts connections", "is slow", "is busy (503)")
_BUSY = b"HTTP/1.1 503 Slow Down\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Relay:
    """Passes bytes on to a port, as it is told to."""

    def __init__(self, port: int, *, seed: int) -> None:
        self.port = 0
        self._behind = port
        self._mood = ""
        self._lots = Lots(seed, "bucket")
        self._lines: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Relay until the block ends."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for line in list(self._lines):
                line.cancel()
            await asyncio.gather(*self._lines, return_exceptions=True)

    @property
    def faults(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """Name what can go wrong for some seconds."""
        return {f"S3 {mood}": functools.partial(self._suffer, mood) for mood in _MOODS}

    async def _suffer(self, mood: str) -> None:
        self._mood = mood
        await asyncio.sleep(self._lots.between(1, 4))
        self._mood = ""

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = asyncio.current_task()
        assert line is not None
        self._lines.add(line)
        try:
            from_bucket, to_bucket = await asyncio.open_connection("127.0.0.1", self._behind)
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._pass(from_bucket, writer))
                    both.create_task(self._pass(reader, to_bucket, back=writer))
            finally:
                to_bucket.close()
        except (OSError, ExceptionGroup, asyncio.CancelledError):
            pass  # either end hung up, or the day was bad
        finally:
            writer.close()
            self._lines.discard(line)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, back: asyncio.StreamWriter | None = None
    ) -> None:
        """Pass one direction on; `back` is where a request is turned away to in a busy time."""
        while data := await reader.read(2**16):
            if self._mood == "is slow":
                await asyncio.sleep(self._lots.between(0.2, 1.5))
            if self._mood == "is busy (503)" and back is not None:
                back.write(_BUSY)
                await back.drain()
                raise ConnectionAbortedError
            if self._mood == "cuts connections":
                raise ConnectionResetError
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError  # one end is done: so is the other
