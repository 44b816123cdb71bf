"""`make bench-load`: thousands of jobs in flight and a million stored: accepts, polls, telling, memory, CPU, rows and bytes."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks import load_books
from benchmarks.buyer import Wallet
from benchmarks.load import drive, request
from benchmarks.load_open import Flow, flow_all
from benchmarks.report import table
from benchmarks.servers import LOAD_CORE, Server, core, free_port, process, wait_ready
from benchmarks.shop import Shop, only
from stablestudio.store.database import Database, connect, is_file
from tests.postgres import PostgresServer, require_binaries

_CLIP = ("/api/generate/grok-video/generate", {"duration": "3", "resolution": "480p", "aspect_ratio": "1:1"})
_PICTURE = ("/api/generate/nano-banana/generate", {"imageSize": "512", "aspectRatio": "1:1"})
_PICTURES = 40  # finished before the run, to know what a job takes on the disk
_TOLD = 10  # pictures that are waited for; all are bought, and their buyers listen, before the first is done
_TOLD_DELAY = 5
# Accepts and polls a second. On PostgreSQL three processes share the one core, and an accept is thirty queries of theirs.
_PACES = {"sqlite": (50, 1_000), "postgres": (10, 200)}
_IDLE_SECONDS = 10.0
_LATEST_SECONDS = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One run: in which store, so many jobs in flight, so many more stored."""

    store: str
    in_flight: int
    stored: int

    @property
    def title(self) -> str:
        return f"{self.store}, {self.in_flight:,} in flight, {self.stored:,} stored"


# Those that come beside them make it ten thousand, which is the most that one process takes.
FULL = {
    "sqlite": [(1_000, 10_000), (8_900, 10_000), (8_900, 1_000_000)],
    "postgres": [(1_000, 10_000), (8_900, 10_000), (1_000, 1_000_000)],
}
SHORT = [(1_000, 10_000)]


class Run:
    """The service on one store: one process with its file, or one that sells and two that make on PostgreSQL."""

    def __init__(self, case: Case, folder: Path, *, url: str, seconds: float) -> None:
        self._case = case
        self._folder = folder
        self._url = url
        self._seconds = seconds
        self.figures: dict[str, str] = {}

    def run(self) -> dict[str, str]:
        """Measure all; figures by their names."""
        with self._service() as servers:
            like = self._measure_size(self._shop(servers))
        with closing(connect(self._url)) as database:
            now = int(time.time() * 1000)
            load_books.fill(database, jobs=self._case.stored, due=0, now=now)
            load_books.fill_engine(database, jobs=self._case.stored, like=like)
        with self._service() as servers:
            self._measure(servers, self._shop(servers))
        return self.figures

    def _shop(self, servers: Sequence[Server]) -> Shop:
        return Shop(server=servers[0], wallet=Wallet.generate(), is_ours=True)

    @contextmanager
    def _service(self) -> Iterator[list[Server]]:
        roles = ["all"] if is_file(self._url) else ["web", "worker", "worker"]
        with ExitStack() as stack:
            yield [stack.enter_context(self._process(role, number)) for number, role in enumerate(roles)]

    @contextmanager
    def _process(self, role: str, number: int) -> Iterator[Server]:
        port, log = free_port(), self._folder / f"{role}-{number}.log"
        command = [sys.executable, "-m", "stablestudio", "serve", "--port", str(port), "--role", role]
        command += ["--data", str(self._folder / "data")]
        environment = {
            "STABLESTUDIO_JOBS_AT_ONCE": "10000",
            "STABLESTUDIO_SANDBOX_DELAY": "0",
            "STABLESTUDIO_PUBLIC_URL": f"http://127.0.0.1:{port}",
        }
        if not is_file(self._url):
            environment["STABLESTUDIO_DATABASE"] = self._url
        with process(command, environment=environment, log=log, cwd=self._folder) as child:
            ready = wait_ready(child, port=port, path="/health", log=log)
            yield Server(port=port, pid=child.pid, ready_seconds=ready)

    def _measure_size(self, shop: Shop) -> str:
        """Make some pictures, and tell what a finished job takes; return one of them."""
        with closing(connect(self._url)) as database:
            shop.buy(1)
            self._await_rest(database)
            rows, bytes_ = load_books.size(database)
            shop.buy(_PICTURES)
            self._await_rest(database)
            more_rows, more_bytes = load_books.size(database)
            self.figures["rows a picture"] = f"{(more_rows - rows) / _PICTURES:.1f}"
            self.figures["KiB a picture in the books"] = f"{(more_bytes - bytes_) / _PICTURES / 1024:.1f}"
            return _ask(database, "SELECT max(id) FROM jobs")

    def _measure(self, servers: list[Server], shop: Shop) -> None:
        before = [server.memory_mib() or 0.0 for server in servers]
        began = time.perf_counter()
        answers = self._fill(shop)
        self.figures["filling, accepts a second"] = f"{self._case.in_flight / (time.perf_counter() - began):,.0f}"
        with closing(connect(self._url)) as database:
            began = time.perf_counter()
            _await(database, "SELECT count(*) FROM jobs WHERE state = 'pending'")
            self.figures["s until all are with the vendor"] = f"{time.perf_counter() - began:.1f}"
            after = [server.memory_mib() or 0.0 for server in servers]
            each = (sum(after) - sum(before)) * 1024 / self._case.in_flight
            self.figures["KiB of memory a job in flight"] = f"{each:.1f}"
            self._measure_idle(servers, database)
            self._measure_flows(servers, shop, answers)
            self._measure_telling(shop, database)

    def _fill(self, shop: Shop) -> list[tuple[str, str]]:
        """Buy clips that take longer than the run; gives the path and the token of each."""
        bought = drive(
            shop.port, requests=_purchases(shop, self._case.in_flight, delay=3600), connections=32, keep=True
        )
        return [_job(answer.head + b"\r\n\r\n" + answer.body) for answer in only(bought, status=200).kept]

    def _measure_idle(self, servers: list[Server], database: Database) -> None:
        """What the making alone costs, while nobody asks: the vendor is polled at the clips' pace."""
        rows, bytes_ = load_books.size(database)
        cpu, began = _cpu(servers), time.perf_counter()
        time.sleep(_IDLE_SECONDS)
        seconds = time.perf_counter() - began
        self.figures["cores, only making"] = f"{(_cpu(servers) - cpu) / seconds:.2f}"
        more_rows, more_bytes = load_books.size(database)
        share = seconds / 60 * self._case.in_flight
        self.figures["rows a job and minute in flight"] = f"{(more_rows - rows) / share:.1f}"
        self.figures["KiB a job and minute in flight"] = f"{(more_bytes - bytes_) / 1024 / share:.1f}"

    def _measure_flows(self, servers: list[Server], shop: Shop, answers: list[tuple[str, str]]) -> None:
        accepted, polled = _PACES[self._case.store]
        accepts = Flow(
            name="accept",
            requests=_purchases(shop, int(self._seconds * accepted), delay=3600),
            per_second=accepted,
        )
        asked = [
            request("GET", path, port=shop.port, headers={"Authorization": f"Bearer {token}"})
            for path, token in answers
        ]
        count = int(self._seconds * polled)
        polls = Flow(name="poll", requests=[asked[each % len(asked)] for each in range(count)], per_second=polled)
        cpu = _cpu(servers)
        asyncio.run(flow_all(shop.port, [accepts, polls]))
        self.figures["cores, accepts and polls"] = f"{(_cpu(servers) - cpu) / self._seconds:.2f}"
        for flow, aim in ((accepts, 100), (polls, 25)):
            if set(flow.statuses) != {200}:
                raise RuntimeError(f"{flow.name}: {dict(flow.statuses)} {flow.bodies[-1][:500]!r}")
            name = f"{flow.name} at {flow.per_second:,}/s, ms p50 / p99 (aim p99 < {aim})"
            self.figures[name] = f"{flow.percentile(0.5):.1f} / {flow.percentile(0.99):.1f}"

    def _measure_telling(self, shop: Shop, database: Database) -> None:
        """How long after the vendor is done a buyer who waits has heard of it."""
        flow = Flow(name="told", requests=_purchases(shop, _TOLD, delay=_TOLD_DELAY, ware=_PICTURE), per_second=10)
        asyncio.run(flow_all(shop.port, [flow]))
        told = asyncio.run(_hear(shop.port, [_job(answer) for answer in flow.bodies]))
        ids = "', '".join(path.rpartition("/")[2] for path in told)
        ready: dict[str, int] = dict(
            _rows(database, f"SELECT job_id, ready_at FROM sandbox_tasks WHERE job_id IN ('{ids}')")
        )
        waits = sorted(at - ready[path.rpartition("/")[2]] / 1000 for path, at in told.items())
        name = "vendor done to buyer told, s p50 / p99"
        self.figures[name] = f"{waits[len(waits) // 2]:.1f} / {waits[int(len(waits) * 0.99)]:.1f}"

    def _await_rest(self, database: Database) -> None:
        _await(database, "SELECT count(*) FROM jobs WHERE state IN ('pending', 'loading')")


def _purchases(shop: Shop, count: int, *, delay: int, ware: tuple[str, dict[str, str]] = _CLIP) -> list[bytes]:
    path, terms = ware
    body = json.dumps(terms | {"prompt": f"a paper boat [sandbox:delay={delay}]"}).encode()
    challenge = shop.quote(path, body)
    shop.fund(count * int(challenge["accepts"][0]["amount"]))
    return [
        request("POST", path, port=shop.port, headers={"PAYMENT-SIGNATURE": shop.wallet.payment(challenge)}, body=body)
        for _ in range(count)
    ]


def _job(answer: bytes) -> tuple[str, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    token = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"poll-token:"))
    return f"/api/jobs/{json.loads(body)['jobId']}", token.partition(b":")[2].strip().decode()


async def _hear(port: int, jobs: list[tuple[str, str]]) -> dict[str, float]:
    """Listen to the events of these jobs; give when (Unix seconds) each was told to have ended."""

    async def hear(path: str, token: str) -> tuple[str, float]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request("GET", f"{path}/events", port=port, headers={"Authorization": f"Bearer {token}"}))
        async with asyncio.timeout(_LATEST_SECONDS):
            await reader.readuntil(b"event: end")
        at = time.time()
        writer.close()
        return path, at

    return dict(await asyncio.gather(*(hear(*job) for job in jobs)))


def _rows(database: Database, statement: str) -> list[Any]:
    with database.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(statement))]


def _ask(database: Database, statement: str) -> str:
    return str(_rows(database, statement)[0][0])


def _await(database: Database, statement: str) -> None:
    deadline = time.monotonic() + _LATEST_SECONDS
    while (left := _ask(database, statement)) != "0":
        if time.monotonic() > deadline:
            raise RuntimeError(f"{left} are left after {_LATEST_SECONDS:.0f} s: {statement}")
        time.sleep(0.25)


def _cpu(servers: Sequence[Server]) -> float:
    return sum(server.cpu_seconds() or 0.0 for server in servers)


def _run(case: Case, *, seconds: float) -> dict[str, str]:
    with tempfile.TemporaryDirectory(prefix="stablestudio-load-") as name, ExitStack() as stack:
        folder = Path(name)
        if case.store == "postgres":
            url = stack.enter_context(PostgresServer(require_binaries())).create_upgraded()
        else:
            url = f"sqlite:///{folder / 'data' / 'stablestudio.db'}"
        run = Run(case, folder, url=url, seconds=seconds)
        try:
            return run.run()
        except (RuntimeError, TimeoutError, ConnectionError, ExceptionGroup):
            print(f"ended early; measured so far: {run.figures}", file=sys.stderr)
            for log in sorted(folder.glob("*.log")):
                print(f"{log.name} ends with:\n{log.read_text()[-2000:]}", file=sys.stderr)
            raise


def main() -> int:
    """Measure each case; 0 if everything ran, whatever the figures."""
    parser = argparse.ArgumentParser(prog="make bench-load", description=__doc__)
    parser.add_argument("--short", action="store_true", help="1,000 in flight and 10,000 stored only")
    parser.add_argument("--store", choices=["sqlite", "postgres"], help="one of the stores only")
    parser.add_argument("--seconds", type=float, default=20.0, help="of accepts and polls (default: %(default)s)")
    wanted = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever ends it ends the servers as well
    stores = [wanted.store] if wanted.store else ["sqlite", "postgres"]
    load = os.getloadavg()[0]
    with core(LOAD_CORE):
        for store in stores:
            done: list[tuple[Case, dict[str, str]]] = []
            for in_flight, stored in SHORT if wanted.short else FULL[store]:
                case = Case(store=store, in_flight=in_flight, stored=stored)
                print(f"running: {case.title}", file=sys.stderr, flush=True)
                done.append((case, _run(case, seconds=wanted.seconds)))
            titles = [f"{case.in_flight:,} / {case.stored:,}" for case, _ in done]
            rows = [[name, *(figures.get(name, "-") for _, figures in done), ""] for name in done[0][1]]
            print(table([[f"{store}: in flight / stored", *titles, ""], *rows]), flush=True)
    if load > 0.7:
        print(f"other work was running when this began (load {load:.1f}): trust what grows, repeat the rest")
    return 0


if __name__ == "__main__":
    sys.exit(main())
