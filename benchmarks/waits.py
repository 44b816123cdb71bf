"""Thousands of connections that wait at one process: what each costs in memory, all in CPU, and how soon they are told."""

from __future__ import annotations

import json
import os
import re
import resource
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from benchmarks.load import drive, request
from benchmarks.servers import Server
from benchmarks.shop import Shop, only

CONNECTIONS = 5_000
JOBS = 50
DELAY_SECONDS = 40  # that the sandbox works; all connections are open by then, and no held answer's time is over
_SETTLE_SECONDS = 10.0  # the last of the requests are answered, or held, some seconds after their connections are open
_IDLE_SECONDS = 5.0
_LATEST_SECONDS = 120.0
_TICK = os.sysconf("SC_CLK_TCK")
_FINISHED = re.compile(rb'"finishedAt":"([^"]+)"')
_BODY = json.dumps({"prompt": f"a lighthouse [sandbox:delay={DELAY_SECONDS}]", "imageSize": "512"}).encode()


class Way(NamedTuple):
    """One way to wait: its name, what follows the job's path, further headers, and how its answer ends."""

    name: str
    below: str
    headers: dict[str, str]
    end: bytes


STREAMS = Way("event streams", "/events", {}, b"event: end")
HELD = Way("held answers", "", {"Prefer": "wait=60"}, b'"finishedAt"')


@dataclass(slots=True, kw_only=True)
class Waits:
    """What a run measured."""

    way: str
    connections: int
    opened_seconds: float = 0.0
    kib_each: float | None = None
    idle_cpu: float = 0.0  # share of a core while nothing but progress changes
    told_cpu: float = 0.0  # seconds of CPU from the first job that ended to the last that was told
    latencies: list[float] = field(default_factory=list)  # seconds from a job's end to each connection that heard of it

    def percentile(self, share: float) -> float:
        """Give the milliseconds within which `share` of the connections were told."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000

    def line(self) -> str:
        memory = "unknown" if self.kib_each is None else f"{self.kib_each:.1f} KiB"
        return (
            f"{self.connections:,} {self.way} for {JOBS} jobs: open in {self.opened_seconds:.1f} s, {memory} each, "
            f"{self.idle_cpu:.0%} of a core while they wait; told after p50 {self.percentile(0.5):.0f} ms, "
            f"p99 {self.percentile(0.99):.0f} ms, {self.told_cpu:.2f} s of CPU for all"
        )


def raise_limit() -> int:
    """Allow this process and those that it starts as many open files as it may; gives that number."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def measure(server: Server, shop: Shop, way: Way, *, connections: int, say: Callable[[str], None]) -> Waits:
    """Buy slow pictures, wait for them over so many connections, and measure until the last one is told."""
    waits = Waits(way=way.name, connections=connections)
    before = server.memory_mib()
    asked = _requests(shop, way)
    started = time.perf_counter()
    opened = [_open(shop.port, asked[number % len(asked)]) for number in range(connections)]
    try:
        waits.opened_seconds = time.perf_counter() - started
        say(f"{connections:,} {way.name} are open")
        time.sleep(_SETTLE_SECONDS)
        cpu, began = _cpu(server.pid), time.perf_counter()
        time.sleep(_IDLE_SECONDS)
        waits.idle_cpu = (_cpu(server.pid) - cpu) / (time.perf_counter() - began)
        after = server.memory_mib()
        if before is not None and after is not None:
            waits.kib_each = (after - before) * 1024 / connections
        _listen(server, opened, way, waits)
    finally:
        for line in opened:
            line.close()
    return waits


def _requests(shop: Shop, way: Way) -> list[bytes]:
    """Buy the jobs; gives what is asked for each, with the token that came with its purchase."""
    answers = only(drive(shop.port, requests=shop.purchases(JOBS, body=_BODY), connections=4, keep=True), status=200)
    return [
        request(
            "GET",
            f"/api/jobs/{json.loads(answer.body)['jobId']}{way.below}",
            port=shop.port,
            headers={"Authorization": f"Bearer {answer.header('poll-token')}"} | way.headers,
        )
        for answer in answers.kept
    ]


def _open(port: int, asked: bytes) -> socket.socket:
    line = socket.create_connection(("127.0.0.1", port), timeout=_LATEST_SECONDS)
    line.sendall(asked)
    line.settimeout(0)
    return line


def _listen(server: Server, opened: list[socket.socket], way: Way, waits: Waits) -> None:
    """Hear all of them to their end."""
    heard = dict.fromkeys(opened, b"")
    deadline = time.perf_counter() + _LATEST_SECONDS
    cpu: float | None = None
    with selectors.DefaultSelector() as selector:
        for each in opened:
            selector.register(each, selectors.EVENT_READ, each)
        while len(waits.latencies) < len(opened):
            if time.perf_counter() > deadline:
                raise ConnectionError(f"{len(waits.latencies)} of {len(opened)} were told")
            for key, _ in selector.select(1.0):
                line: socket.socket = key.data
                heard[line] += (data := line.recv(65_536))
                if way.end in heard[line]:
                    cpu = _cpu(server.pid) if cpu is None else cpu
                    waits.latencies.append(time.time() - _finished(heard[line]))
                    selector.unregister(line)
                elif not data:
                    raise ConnectionError(f"a connection ended after {heard[line][-200:]!r}")
    waits.told_cpu = _cpu(server.pid) - (cpu or 0.0)


def _finished(answer: bytes) -> float:
    match = _FINISHED.search(answer)
    assert match is not None, answer[-500:]
    return datetime.fromisoformat(match[1].decode()).timestamp()


def _cpu(pid: int) -> float:
    """Give the seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK
