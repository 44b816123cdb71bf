"""A node that misbehaves: it stands before a real one and spoils the answers of chosen methods."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

import httpx2


class Fault(StrEnum):
    """What happens to one request; those in `ARRIVES` reach the node all the same."""

    DROP_ANSWER = "the answer is lost"
    RESET_AFTER = "the connection is reset after the node got it"
    ERROR_AFTER = "a gateway answers 502 after the node got it"
    NONSENSE_AFTER = "the answer is not JSON"
    DELAY = "the answer comes after the time-out"
    RESET_BEFORE = "the connection is reset before the node got it"
    ERROR_BEFORE = "the gateway answers 503 itself"
    REFUSED = "the node is out of order and says so in JSON"


ARRIVES = tuple(fault for fault in Fault if fault not in (Fault.RESET_BEFORE, Fault.ERROR_BEFORE, Fault.REFUSED))
TIMEOUT = 0.25  # seconds that a client of this proxy should wait


def plain_http() -> httpx2.AsyncClient:
    """Return a client for the loopback, which need not read the world's certificates first."""
    return httpx2.AsyncClient(trust_env=False, verify=False)


@dataclass(slots=True)
class Proxy:
    """Start with `async with`; `faults` names the methods to spoil, each list from its first call on."""

    node: str
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    url: str = ""
    _server: asyncio.Server | None = None
    _http: httpx2.AsyncClient = field(default_factory=plain_http)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = "http://{}:{}".format(*self._server.sockets[0].getsockname())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._http.aclose()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length:")[2].split("\r\n")[0])
            await self._answer(await reader.readexactly(length), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, question: bytes, writer: asyncio.StreamWriter) -> None:
        method = json.loads(question)["method"]
        self.seen.append(method)
        queue = self.faults.get(method)
        fault = queue.pop(0) if queue else None
        status, body = 200, b""
        if fault is None or fault in ARRIVES:
            answer = await self._http.post(self.node, content=question, headers={"Content-Type": "application/json"})
            body = answer.content
        match fault:
            case Fault.DROP_ANSWER:
                return
            case Fault.RESET_AFTER | Fault.RESET_BEFORE:
                writer.transport.abort()
                return
            case Fault.ERROR_AFTER | Fault.ERROR_BEFORE:
                status, body = 502, b"<html>Bad gateway</html>"
            case Fault.NONSENSE_AFTER:
                body = b'{"jsonrpc"'
            case Fault.REFUSED:
                body = b'{"jsonrpc":"2.0","id":1,"error":{"code":-32005,"message":"limit exceeded"}}'
            case Fault.DELAY:
                await asyncio.sleep(2 * TIMEOUT)
        writer.write(b"HTTP/1.1 %d Answer\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (status, len(body)))
        writer.write(body)
        await writer.drain()
