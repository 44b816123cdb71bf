"""The embedded Solana's JSON-RPC on a port of the loopback, for clients in other processes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stablestudio.sandbox.rpc import Rpc


@asynccontextmanager
async def serve(rpc: Rpc) -> AsyncIterator[str]:
    """Answer POST requests until the end of the block; yield the URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length:")[2].split("\r\n")[0])
            question = json.loads(await reader.readexactly(length))
            body = json.dumps(await rpc.answer(question)).encode()
            lines = ("HTTP/1.1 200 OK", "Content-Type: application/json", f"Content-Length: {len(body)}")
            writer.write("\r\n".join((*lines, "Connection: close", "\r\n")).encode() + body)
            await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield "http://{}:{}".format(*server.sockets[0].getsockname())
    finally:
        server.close()
