"""Event streams: a connection that has nothing to hear hears a heartbeat, however often its job's rows change."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any, cast

import pytest

from stablestudio.jobs.changes import Changes
from stablestudio.server import events
from stablestudio.server.events import EventStreams
from stablestudio.server.http import answer
from stablestudio.server.job_pages import JobPages
from stablestudio.store import payments, views
from stablestudio.store.database import Database
from tests.doubles import order, payment

pytestmark = pytest.mark.anyio


class _Pages:
    async def page(self, *_: object, **__: object) -> Any:
        return answer(200, b"{}", [])


async def test_heartbeats_come_although_changes_without_news_do(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.5)
    await database.write(lambda connection: payments.claim(connection, order=order(1), payment=payment(1)))
    changes = Changes(database)
    changes.start()
    heard: list[bytes] = []
    beats = asyncio.Event()

    async def send(message: MutableMapping[str, Any]) -> None:
        heard.append(message.get("body", b""))
        if sum(b"heartbeat" in each for each in heard) >= 2:
            beats.set()

    async def receive() -> MutableMapping[str, Any]:
        await beats.wait()
        return {"type": "http.disconnect"}

    async def touch() -> None:
        while True:
            await database.write(lambda connection: payments.touch(connection, order(1).id))
            await asyncio.sleep(0.1)

    touching = asyncio.create_task(touch())
    seen = await views.find(database, order(1).id)
    assert seen is not None
    scope: dict[str, Any] = {"headers": []}
    stream = EventStreams(changes, pages=cast("JobPages", _Pages()))
    await asyncio.wait_for(stream.serve(scope, receive, send, order=seen), 60)
    touching.cancel()
    await asyncio.gather(touching, return_exceptions=True)
    assert sum(b"event: state" in each for each in heard) == 1
