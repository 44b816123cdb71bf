"""The client of Python's buyers, unmodified, signs against the embedded chain, and the chain mines what it signed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from mpp import Challenge
from mpp.methods.tempo.account import TempoAccount
from mpp.methods.tempo.client import TempoMethod

from stablestudio.clock import SystemClock
from stablestudio.protocols import tempo
from stablestudio.sandbox.tempo_ledger import PATH_USD, USDC_E, TempoLedger
from stablestudio.sandbox.tempo_rpc import TempoRpc
from stablestudio.store.database import Database
from tests.doubles import BUYER, PAY_TO

pytestmark = pytest.mark.anyio


class Loopback:
    """The JSON-RPC on a port, and what was asked."""

    def __init__(self, ledger: TempoLedger) -> None:
        self.ledger = ledger
        self._rpc = TempoRpc(ledger)
        self.url = ""
        self.asked: list[str] = []
        self.faults: list[Any] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length:")[2].split("\r\n")[0])
        question = json.loads(await reader.readexactly(length))
        answer = await self._rpc.answer(question)
        assert isinstance(answer, dict)
        self.asked.append(question["method"])
        self.faults += [answer["error"]] if "error" in answer else []
        body = json.dumps(answer).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()


@pytest.fixture
async def chain(database: Database) -> AsyncIterator[Loopback]:
    loopback = Loopback(TempoLedger(database, clock=SystemClock()))
    server = await asyncio.start_server(loopback.serve, "127.0.0.1", 0)
    loopback.url = "http://{}:{}".format(*server.sockets[0].getsockname())
    yield loopback
    server.close()


def charge(token: str) -> Challenge:
    return Challenge(
        id="challenge-1",
        method="tempo",
        intent="charge",
        request={
            "amount": "134000",
            "currency": token,
            "recipient": PAY_TO,
            "methodDetails": {"chainId": 42431},
        },
        realm="studio.test",
        request_b64="e30",
        expires=(datetime.now(UTC) + timedelta(minutes=5)).isoformat(),
    )


@pytest.mark.parametrize("token", [USDC_E.address, PATH_USD.address])
async def test_what_the_client_signs_is_mined_as_it_was_signed(chain: Loopback, token: str) -> None:
    await chain.ledger.mint(token, BUYER.address, 134_000)
    account = TempoAccount.from_key("0x" + "4c" * 32)
    method = TempoMethod(account=account, rpc_url=chain.url, chain_id=42431)

    credential = await method.create_credential(charge(token))
    raw = bytes.fromhex(credential.payload["signature"][2:])
    assert await chain.ledger.send(raw) == tempo.decode(raw).hash

    entry = await chain.ledger.find(tempo.decode(raw).hash)
    assert entry is not None
    assert (entry.token, entry.recipient, entry.amount) == (token, PAY_TO.lower(), 134_000)
    assert entry.memo is not None
    assert await chain.ledger.balance_of(token, BUYER.address) == 0
    assert {"eth_chainId", "eth_gasPrice", "eth_estimateGas"} <= set(chain.asked)
    assert chain.faults == []
