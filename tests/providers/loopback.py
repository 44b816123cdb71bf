"""A vendor's server on the loopback: real sockets, answers by a handler, and every way of not answering."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit


class Silence(Enum):
    """Ways of not answering a request that was read to its end."""

    RESET = "reset"
    HANG = "hang"
    CUT = "cut"  # half an answer
    TRICKLE = "trickle"  # a byte now and then, for ever


@dataclass(frozen=True, kw_only=True)
class Request:
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]  # lower case
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int = 200
    json: Any = None
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    def written(self) -> bytes:
        body = self.body or (b"" if self.json is None else json.dumps(self.json).encode())
        kind = {} if self.json is None else {"content-type": "application/json"}
        head = [f"HTTP/1.1 {self.status} x"]
        head += [f"{name}: {value}" for name, value in {**kind, **self.headers}.items()]
        return "\r\n".join([*head, f"content-length: {len(body)}", "", ""]).encode() + body


Handler = Callable[[Request], Answer | Silence | Awaitable[Answer | Silence]]


@dataclass
class Loopback:
    """A running server; `asked` is every request it read."""

    port: int = 0
    asked: list[Request] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def submits(self, method: str = "POST") -> int:
        return sum(request.method == method for request in self.asked)


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[Loopback]:
    """Serve until the block ends."""
    state = Loopback()
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        state.connections += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            while await _exchange(state, handler, reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=2**26)
    state.port = server.sockets[0].getsockname()[1]
    try:
        yield state
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _exchange(
    state: Loopback, handler: Handler, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    """Read a request and answer it; return whether the connection stays."""
    request = await _request(reader)
    state.asked.append(request)
    told = handler(request)
    answer = told if isinstance(told, Answer | Silence) else await told
    match answer:
        case Silence.RESET:
            writer.transport.abort()
            return False
        case Silence.HANG:
            await asyncio.sleep(60)
        case Silence.CUT:
            writer.write(b'HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{"half":')
            await writer.drain()
            return False
        case Silence.TRICKLE:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)
        case Answer():
            writer.write(answer.written())
            await writer.drain()
    return True


async def _request(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    split = urlsplit(target)
    return Request(
        method=method, path=unquote(split.path), query=dict(parse_qsl(split.query)), headers=headers, body=body
    )
