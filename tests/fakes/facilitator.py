"""A facilitator on loopback that speaks the documented wire format, and misbehaves as it is told to."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from stablestudio.protocols.eip3009 import Authorization

NETWORK = "eip155:84532"
SUPPORTED = {
    "kinds": [
        {"x402Version": 1, "scheme": "exact", "network": "base-sepolia"},
        {"x402Version": 2, "scheme": "exact", "network": NETWORK},
        {
            "x402Version": 2,
            "scheme": "exact",
            "network": "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1",
            "extra": {"feePayer": "CKPKJWNdJEqa81x7CkZ14BVPiY6y16Sxs7owznqtWYp5"},
        },
    ],
    "extensions": [],
    "signers": {"eip155:*": ["0x209693Bc6afc0C5328bA36FaF03C514EF312287C"]},
}


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, kw_only=True)
class Line:
    """The connection that a call came by."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()


Behaviour = Callable[[Call, Line], Awaitable[None]]


def answer(status: int = 200, body: Any = b"", *headers: str) -> Behaviour:
    """Answer with a status and a body: bytes as they are, anything else as JSON."""

    async def behave(_call: Call, line: Line) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        await line.send(_head(status, f"Content-Length: {len(data)}", *headers) + data)

    return behave


def settled(transaction: str = "0x" + "7a" * 32) -> Behaviour:
    return answer(200, {"success": True, "transaction": transaction, "network": NETWORK})


def packed(body: Any, *, method: str = "gzip") -> Behaviour:
    return answer(200, gzip.compress(json.dumps(body).encode()), f"Content-Encoding: {method}")


async def silence(_call: Call, line: Line) -> None:
    """Say nothing until the other side hangs up."""
    await line.reader.read()


async def drip(_call: Call, line: Line) -> None:
    """Send an answer so slowly that no single wait is long."""
    await line.send(_head(200, "Content-Length: 100000"))
    for _ in range(1000):
        await line.send(b" ")
        await asyncio.sleep(0.02)


async def reset_after_reading(_call: Call, line: Line) -> None:
    line.reset()


async def reset_within_body(_call: Call, line: Line) -> None:
    await line.send(_head(200, "Content-Length: 200") + b'{"success": true, "transa')
    await asyncio.sleep(0.05)
    line.reset()


async def endless(_call: Call, line: Line) -> None:
    await line.send(_head(200))
    for _ in range(200):
        await line.send(b" " * 65536)


@dataclass(kw_only=True)
class FakeFacilitator:
    """A running fake: what was asked of it, and what it does, call by call; the last behaviour stays."""

    port: int = 0
    calls: list[Call] = field(default_factory=list)
    on_settle: Sequence[Behaviour] = field(default_factory=lambda: [settled()])
    on_verify: Sequence[Behaviour] = field(default_factory=lambda: [answer(200, {"isValid": True})])
    on_supported: Sequence[Behaviour] = field(default_factory=lambda: [answer(200, SUPPORTED)])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/x402"

    def asked(self, path: str = "/x402/settle") -> list[Call]:
        return [call for call in self.calls if call.path == path]

    @property
    def settles(self) -> int:
        return len(self.asked())

    async def serve(self, line: Line) -> None:
        head = (await line.reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines if each)}
        body = await line.reader.readexactly(int(headers.get("content-length", "0")))
        method, path, _ = first.split()
        self.calls.append(Call(method=method, path=path, headers=headers, body=body))
        scripts = {"settle": self.on_settle, "verify": self.on_verify, "supported": self.on_supported}
        script = scripts[path.rpartition("/")[2]]
        await script[min(len(self.asked(path)), len(script)) - 1](self.calls[-1], line)


@asynccontextmanager
async def facilitator(**scripts: Any) -> AsyncIterator[FakeFacilitator]:
    """Run a fake; `on_settle=[...]` and so on say what it does."""
    fake = FakeFacilitator(**scripts)
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await fake.serve(Line(reader=reader, writer=writer))
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        fake.port = server.sockets[0].getsockname()[1]
        yield fake
    await asyncio.wait_for(asyncio.gather(*serving), timeout=5)


def closed_port() -> int:
    """Return a port that refuses connections."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


def _head(status: int, *lines: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} Fake", "Connection: close", *lines, "", ""]).encode()


def authorized(body: Mapping[str, Any]) -> tuple[Authorization, bytes]:
    """Return what the payment in a settle request authorizes, and its signature."""
    payload = body["paymentPayload"]["payload"]
    signed = payload["authorization"]
    authorization = Authorization(
        sender=signed["from"].lower(),
        recipient=signed["to"].lower(),
        value=int(signed["value"]),
        valid_after=int(signed["validAfter"]),
        valid_before=int(signed["validBefore"]),
        nonce=bytes.fromhex(signed["nonce"][2:]),
    )
    return authorization, bytes.fromhex(payload["signature"][2:])
