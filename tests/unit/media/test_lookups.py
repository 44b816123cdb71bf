"""Looking names up: name servers that never answer cost their own names time, and nobody else."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from stablestudio.media.addresses import FetchFailed
from stablestudio.media.lookups import LookUps

pytestmark = pytest.mark.anyio
ANSWER = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.7", 0))]


class NameServers:
    """The system's resolver: names of `dead` domains hang until the test ends."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.begun = threading.Semaphore(0)
        self.ended = threading.Event()

    async def hang(self, count: int) -> None:
        """Wait until so many look-ups hang."""
        for _ in range(count):
            assert await asyncio.to_thread(self.begun.acquire, timeout=30)

    def __call__(self, host: str, *_: Any, **__: Any) -> list[Any]:
        self.asked.append(host)
        if "dead" in host:
            self.begun.release()
            assert self.ended.wait(60)
        return ANSWER


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServers]:
    servers = NameServers()
    monkeypatch.setattr(socket, "getaddrinfo", servers)
    yield servers
    servers.ended.set()


async def test_a_domain_whose_name_servers_hang_holds_two_threads_and_others_are_answered(servers: NameServers) -> None:
    look_up = LookUps(patience=60)
    hanging = [asyncio.create_task(look_up(f"n{number}.dead.com")) for number in range(40)]
    await servers.hang(2)
    assert await asyncio.wait_for(look_up("www.example.com"), 30) == ["192.0.2.7"]
    assert sum("dead" in host for host in servers.asked) == 2
    servers.ended.set()
    assert await asyncio.wait_for(asyncio.gather(*hanging), 30) == [["192.0.2.7"]] * 40


async def test_a_name_that_nobody_answered_for_is_not_asked_for_again_at_once(servers: NameServers) -> None:
    look_up = LookUps(patience=3.0)
    for _ in range(3):
        with pytest.raises(FetchFailed, match=r"No name server answers for a\.dead\.com"):
            await look_up("a.dead.com")
    assert servers.asked == ["a.dead.com"]


async def test_a_name_that_never_got_its_turn_is_asked_for_later(
    servers: NameServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up = LookUps(patience=3.0)
    names = ["a.dead.com", "b.dead.com", "c.dead.com"]
    await asyncio.gather(*map(look_up, names), return_exceptions=True)
    assert sorted(servers.asked) == names[:2]
    servers.ended.set()
    monkeypatch.setattr(look_up, "_patience", 60.0)
    assert await asyncio.wait_for(look_up("c.dead.com"), 30) == ["192.0.2.7"]


async def test_each_purpose_has_threads_of_its_own(servers: NameServers) -> None:
    posts, fetches = LookUps(patience=60), LookUps(patience=60)
    hanging = [asyncio.create_task(posts(f"n.dead{number}.com")) for number in range(40)]
    await servers.hang(16)
    assert await asyncio.wait_for(fetches("www.example.com"), 30) == ["192.0.2.7"]
    servers.ended.set()
    await asyncio.wait_for(asyncio.gather(*hanging), 30)
