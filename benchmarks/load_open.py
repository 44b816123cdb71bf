"""An open-loop HTTP/1.1 load generator: requests leave when they are due, whatever the answers take."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

_LATEST_SECONDS = 60.0
_KEPT_SECONDS = 3.0  # a server closes connections that rest for five


@dataclass(slots=True, kw_only=True)
class _Line:
    """A connection, and when it was used last."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    used: float = 0.0


@dataclass(slots=True, kw_only=True)
class Flow:
    """One kind of request at an even pace, and what came of it; `latencies` are in seconds from the moment it was due."""

    name: str
    requests: Sequence[bytes]
    per_second: float
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    bodies: list[bytes] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        """Give the milliseconds that `share` of the answers stayed below."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000 if ordered else float("nan")


async def flow_all(port: int, flows: Sequence[Flow]) -> None:
    """Send several flows at the same time, each over as many connections as it needs."""
    await asyncio.gather(*(_flow(port, flow) for flow in flows))


async def _flow(port: int, flow: Flow) -> None:
    idle: list[_Line] = []
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number, request in enumerate(flow.requests):
            due = began + number / flow.per_second
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            group.create_task(_send(port, flow, request, idle, due=due))
    for line in idle:
        line.writer.close()


async def _send(
    port: int,
    flow: Flow,
    request: bytes,
    idle: list[_Line],
    *,
    due: float,
) -> None:
    async with asyncio.timeout(_LATEST_SECONDS):
        line = await _line(port, idle)
        line.writer.write(request)
        head = await line.reader.readuntil(b"\r\n\r\n")
        flow.bodies.append(head + await line.reader.readexactly(_length(head)))
    line.used = time.perf_counter()
    flow.latencies.append(line.used - due)
    flow.statuses[int(head[9:12])] += 1
    idle.append(line)


async def _line(port: int, idle: list[_Line]) -> _Line:
    while idle:
        line = idle.pop()
        if time.perf_counter() - line.used < _KEPT_SECONDS:
            return line
        line.writer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    return _Line(reader=reader, writer=writer)


def _length(head: bytes) -> int:
    start = head.lower().index(b"\r\ncontent-length:")
    return int(head[start + 17 :].split(b"\r\n", 1)[0])
