"""The measurements: who is asked what, in which order, and what is expected of the figures."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks import servers, waits
from benchmarks.bare import record
from benchmarks.buyer import Wallet
from benchmarks.files import FileBench
from benchmarks.load import Answer, Run, ask, drive
from benchmarks.purge import PurgeBench
from benchmarks.report import BARE, OURS, PEER, SINGLE, Aim, Row, headings, table, verdict
from benchmarks.shop import BODY, PATH, Shop, only

_CONNECTIONS = 16
_JOBS = 16
_OTHER_FILES = 200
# V8 needs about this long until the peer is at its best.
_WARM_SECONDS = 6.0
_SATURATED = 0.95
_ONE_RAIL = '{"base": {"kind": "x402-evm", "network": "eip155:84532", "chain": "ledger"}}'
_Requests = Callable[[float], Iterable[bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contender:
    """Who is measured, on which server, and what it is sent in so many seconds."""

    name: str
    shop: Shop
    requests: _Requests
    status: int


@dataclass(slots=True, kw_only=True)
class Bench:
    """A run of the benchmarks: `seconds` a round, `rounds` of each contender in turn."""

    folder: Path
    seconds: float
    rounds: int
    with_peer: bool
    say: Callable[[str], None]
    _generator_busy: float = 0.0
    _facts: list[str] = field(default_factory=list)

    def run(self, measures: Sequence[str]) -> str:
        """Take the measures; gives the report."""
        steps = {"quotes": self._quotes, "polls": self._polls, "accepts": self._accepts}
        rows = [row for name, step in steps.items() if name in measures for row in step()]
        others = (BARE, PEER)
        parts = [table([headings("per second", others), *(row.cells(others) for row in rows)])] if rows else []
        self._facts += [row.cost() for row in rows if row.costs]
        if "files" in measures:
            parts.append(FileBench(folder=self.folder, rounds=self.rounds, seconds=self.seconds, say=self.say).run())
        if "purge" in measures:
            self._facts.append(PurgeBench(folder=self.folder, say=self.say).run())
        if "cli" in measures:
            self._cli()
        if "waits" in measures:
            self._waits()
        if self._generator_busy:
            share = f"the load generator was busy for {self._generator_busy:.0%} of its core at most"
            warning = ": it may have been the limit" if self._generator_busy > _SATURATED else ""
            self._facts.append(share + warning)
        return "\n\n".join([*parts, "\n".join(self._facts)]).strip()

    def _quotes(self) -> list[Row]:
        aims = [Aim(other=BARE, ratio=0.5), Aim(other=PEER, ratio=10), Aim(other=SINGLE, ratio=0.8)]
        row = Row(name="quotes", aims=aims)
        with ExitStack() as stack:
            shop = self._open_ours(stack)
            single = self._open_ours(stack, STABLESTUDIO_RAILS=_ONE_RAIL)
            bare = self._open_bare(stack, answer=ask(shop.port, "POST", PATH, body=BODY))
            contenders = [
                _Contender(name=OURS, shop=shop, requests=lambda _: shop.quotes(), status=402),
                _Contender(name=SINGLE, shop=single, requests=lambda _: single.quotes(), status=402),
                _Contender(name=BARE, shop=bare, requests=lambda _: bare.quotes(), status=402),
            ]
            if self.with_peer:
                peer = self._open_peer(stack)
                self._facts.append(f"an unpaid order is offered: ours {shop.protocols()}; peer {peer.protocols()}")
                contenders.append(_Contender(name=PEER, shop=peer, requests=lambda _: peer.quotes(), status=402))
            self._rounds(row, contenders)
            shares = f"{median(row.rates[SINGLE]):,.0f}/s, ours/{SINGLE} {row.ratio(SINGLE):.2f}"
            self._facts.append(f"quotes with {SINGLE}: {shares}")
        return [row]

    def _polls(self) -> list[Row]:
        held = Row(name="polls, one proof a job", aims=[Aim(other=BARE, ratio=0.6), Aim(other=PEER, ratio=10)])
        fresh = Row(name="polls, a fresh proof each")
        with ExitStack() as stack:
            shop = self._open_ours(stack)
            self.say(f"buying {_JOBS} pictures to poll")
            jobs = shop.buy(_JOBS)
            recorded = drive(shop.port, requests=[next(iter(shop.polls(jobs)))], connections=1, keep=True).kept[0]
            bare = self._open_bare(stack, answer=recorded)
            ours = _Contender(name=OURS, shop=shop, requests=lambda _: shop.polls(jobs), status=200)
            replay = _Contender(name=BARE, shop=bare, requests=lambda _: shop.polls(jobs), status=200)
            proven = _Contender(name=OURS, shop=shop, requests=_proofs(shop, jobs, rate=4000), status=200)
            others = []
            if self.with_peer:
                peer = self._open_peer(stack)
                owned = peer.buy(_JOBS)
                others = [_Contender(name=PEER, shop=peer, requests=_proofs(peer, owned, rate=1000), status=200)]
            self._rounds(held, [ours, replay, *others])
            self._rounds(fresh, [proven])
            fresh.rates |= {PEER: held.rates[PEER]} if self.with_peer else {}
            fresh.rates |= {BARE: held.rates[BARE]}
        return [held, fresh]

    def _accepts(self) -> list[Row]:
        equal = Row(name="accepts", aims=[Aim(other=PEER, ratio=4)])
        spared = Row(name="accepts, peer's facilitator free and blind")
        with ExitStack() as stack:
            # Neither side makes the pictures here: the peer has no maker at all.
            shop = self._open_ours(stack, STABLESTUDIO_JOBS_AT_ONCE="0")
            ours = _buyer(OURS, shop, rate=1500)
            peer = [_buyer(PEER, self._open_peer(stack), rate=500)] if self.with_peer else []
            self._rounds(equal, [ours, *peer])
        if self.with_peer:
            with ExitStack() as stack:
                blind = self._open_peer(stack, checks=False)
                self._rounds(spared, [_buyer(PEER, blind, rate=1500)])
            spared.rates[OURS] = equal.rates[OURS]
        return [equal, spared] if self.with_peer else [equal]

    def _cli(self) -> None:
        program = str(Path(sys.executable).parent / "stablestudio")
        helped = median(_timed([program, "--help"]) for _ in range(max(5, self.rounds)))
        self._facts.append(f"stablestudio --help: {helped:.2f} s (aim < 0.3 s: {verdict(met=helped < 0.3)})")
        started, resident = [], []
        for _ in range(self.rounds):
            with servers.ours(self.folder) as server:
                started.append(server.ready_seconds)
                time.sleep(2)
                resident.append(server.memory_mib())
        ready = median(started)
        self._facts.append(f"serve, until its first answer: {ready:.2f} s (aim < 3 s: {verdict(met=ready < 3)})")
        known = [size for size in resident if size is not None]
        if known:
            self._facts.append(f"memory when idle: {median(known):.0f} MiB resident")

    def _waits(self) -> None:
        connections = min(waits.CONNECTIONS, waits.raise_limit() - _OTHER_FILES)
        for way in (waits.STREAMS, waits.HELD):
            with servers.ours(self.folder) as server:
                shop = Shop(server=server, wallet=Wallet.generate(), is_ours=True)
                measured = waits.measure(server, shop, way, connections=connections, say=self.say)
                self._facts.append(measured.line())

    def _open_ours(self, stack: ExitStack, **environment: str) -> Shop:
        self.say("starting the service")
        server = stack.enter_context(servers.ours(self.folder, **environment))
        return Shop(server=server, wallet=Wallet.generate(), is_ours=True)

    def _open_bare(self, stack: ExitStack, *, answer: Answer) -> Shop:
        path = self.folder / "answer.json"
        record(answer, to=path)
        server = stack.enter_context(servers.bare(self.folder, answer=path))
        return Shop(server=server, wallet=Wallet.generate(), is_ours=False)

    def _open_peer(self, stack: ExitStack, *, checks: bool = True) -> Shop:
        self.say("starting the peer")
        server = stack.enter_context(servers.peer(self.folder, checks=checks))
        return Shop(server=server, wallet=Wallet.generate(), is_ours=False)

    def _rounds(self, row: Row, contenders: Sequence[_Contender]) -> None:
        for contender in contenders:
            self._drive(contender, seconds=_WARM_SECONDS)
        for number in range(1, self.rounds + 1):
            for contender in contenders:
                before = contender.shop.server.cpu_seconds()
                run = self._drive(contender, seconds=self.seconds)
                after = contender.shop.server.cpu_seconds()
                row.add(contender.name, run.rate)
                if before is not None and after is not None:
                    row.costs.setdefault(contender.name, []).append((after - before) / len(run.latencies))
                self.say(
                    f"{row.name}: round {number} of {self.rounds}, {contender.name}: {run.rate:,.0f}/s, "
                    f"p50 {run.percentile(0.5):.1f} ms, p99 {run.percentile(0.99):.1f} ms"
                )

    def _drive(self, contender: _Contender, *, seconds: float) -> Run:
        requests = contender.requests(seconds)
        before = time.process_time()
        run = drive(contender.shop.port, requests=requests, connections=_CONNECTIONS, seconds=seconds)
        self._generator_busy = max(self._generator_busy, (time.process_time() - before) / run.seconds)
        return only(run, status=contender.status)


def _proofs(shop: Shop, jobs: list[str], *, rate: int) -> _Requests:
    return lambda seconds: shop.fresh_polls(jobs, count=int(seconds * rate))


def _buyer(name: str, shop: Shop, *, rate: int) -> _Contender:
    return _Contender(name=name, shop=shop, requests=lambda seconds: shop.purchases(int(seconds * rate)), status=200)


def _timed(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ)
    return time.perf_counter() - started
