"""Files in and out: MB per second beside nginx, a bare socket and a copy on the same disk; memory; quotes meanwhile."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import servers, streams
from benchmarks.buyer import Wallet
from benchmarks.load import drive
from benchmarks.report import COPY, NGINX, OURS, SOCKET, Aim, Row, headings, table, verdict
from benchmarks.shop import Shop, only
from benchmarks.streams import Piece
from stablestudio.config import load_secret
from stablestudio.media.links import LinkSigner

_MB = 1_000_000
_LARGE, _SMALL = 200, 20  # MB
_QUOTE_EVERY_SECONDS = 0.005
_PLACES = 40  # more than are filled in a round
_SETTLED_SECONDS = 6.0  # until the service has loaded what it loads late
_OTHERS = (NGINX, SOCKET, COPY)
PUT, PARTS, GET, RANGES = "upload", "upload in parts", "download", "download in ranges"
_AIMS = {PUT: 0.6, PARTS: 0.25, GET: 0.4, RANGES: 0.4}  # of nginx
_MEMORY_AIM = 32  # MiB
_Act = Callable[[], Any]
_Contenders = dict[str, Callable[[], _Act]]  # each prepares what is then timed


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ours:
    """Our service as a buyer, and the keeper of its data folder, see it."""

    server: servers.Server
    shop: Shop

    def put(self, piece: Piece) -> _Act:
        """Pay for a place; gives the sending of a file to it."""
        place = self.shop.place()
        return lambda: place.put(piece)

    def put_parts(self, piece: Piece) -> _Act:
        """Pay for a place; gives the sending of a file to it in parts."""
        place = self.shop.place()
        return lambda: place.put_parts(piece)

    def link(self, piece: Piece) -> str:
        """Sign a link to an upload of this size, as the service does for the vendors that it hands uploads to."""
        assert self.server.data is not None
        with closing(sqlite3.connect(self.server.data / "stablestudio.db", timeout=30)) as database:
            (key,) = database.execute("SELECT key FROM uploads WHERE size = ?", (piece.size,)).fetchone()
        return LinkSigner(load_secret(self.server.data), "").url(key, now_ms=time.time_ns() // 1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileBench:
    """A run of the measure: `rounds` of each contender in turn, `seconds` of quotes beside each stream."""

    folder: Path
    rounds: int
    seconds: float
    say: Callable[[str], None]

    def run(self) -> str:
        """Take the measures; gives the report."""
        small, large = self._write(_SMALL), self._write(_LARGE)
        rows = [row.cells(_OTHERS) for row in self._speeds(large)]
        sizes = [f"{size} MB" for size in (_SMALL, _LARGE)]
        tables = [
            [headings(f"MB/s of {_LARGE} MB", _OTHERS), *rows],
            [["peak memory above idle, MiB", *sizes, "aim"], *self._memory(small, large)],
            [["quotes meanwhile, ms", "p50", "p99", "most", ""], *self._quotes(large)],
        ]
        return "\n\n".join(map(table, tables))

    def _write(self, size: int) -> Piece:
        file = self.folder / f"{size}.bin"
        with file.open("wb") as out:
            for _ in range(size):
                out.write(os.urandom(_MB))
        return Piece.whole(file)

    def _open(self, stack: ExitStack) -> _Ours:
        self.say("starting the service")
        server = stack.enter_context(servers.ours(self.folder))
        time.sleep(_SETTLED_SECONDS)
        return _Ours(server=server, shop=Shop(server=server, wallet=Wallet.generate(), is_ours=True))

    def _speeds(self, piece: Piece) -> list[Row]:
        with ExitStack() as stack:
            ours = self._open(stack)
            raw = stack.enter_context(streams.raw_peer(piece.file))
            to = self.folder / "copy"
            acts: dict[str, _Contenders] = {
                PUT: {
                    OURS: lambda: ours.put(piece),
                    SOCKET: lambda: lambda: streams.send_raw(raw, piece),
                    COPY: lambda: lambda: streams.copy(piece, to=to),
                },
                PARTS: {OURS: lambda: ours.put_parts(piece)},
                GET: {
                    OURS: lambda: _fetch(ours.server.port, ours.link(piece)),
                    SOCKET: lambda: lambda: streams.fetch_raw(raw, size=piece.size),
                },
                RANGES: {OURS: lambda: _fetch_ranges(ours.server.port, ours.link(piece), size=piece.size)},
            }
            if shutil.which("nginx") is None:
                self.say("no nginx: it is not installed")
            else:
                self._add_nginx(acts, piece, server=stack.enter_context(servers.nginx(self.folder)))
            rows = [self._rounds(name, contenders, size=piece.size) for name, contenders in acts.items()]
        # What knows no parts, or no ranges, is set beside them whole.
        rows[1].rates |= {name: rates for name, rates in rows[0].rates.items() if name != OURS}
        rows[3].rates[SOCKET] = rows[2].rates[SOCKET]
        return rows

    def _add_nginx(self, acts: dict[str, _Contenders], piece: Piece, *, server: servers.Server) -> None:
        served = self.folder / "served"
        os.link(piece.file, served / "file")
        acts[PUT][NGINX] = lambda: lambda: _put_nginx(server.port, piece, kept=served / "put")
        acts[GET][NGINX] = lambda: _fetch(server.port, "/file")
        acts[RANGES][NGINX] = lambda: _fetch_ranges(server.port, "/file", size=piece.size)

    def _rounds(self, name: str, contenders: _Contenders, *, size: int) -> Row:
        row = Row(name=name, aims=[Aim(other=NGINX, ratio=_AIMS[name])])
        for number in range(self.rounds + 1):  # the first one warms
            for contender, prepare in contenders.items():
                act = prepare()
                started = time.perf_counter()
                act()
                rate = size / _MB / (time.perf_counter() - started)
                if number:
                    row.add(contender, rate)
                    self.say(f"{name}: round {number} of {self.rounds}, {contender}: {rate:,.0f} MB/s")
        return row

    def _memory(self, *pieces: Piece) -> list[list[str]]:
        """Take peaks of a fresh service for each size, so that no stream profits from memory of another size's."""
        columns = [self._peaks(piece) for piece in pieces]
        return [
            [
                name,
                *(f"{column[name]:.1f}" for column in columns),
                f"< {_MEMORY_AIM}: {verdict(met=max(column[name] for column in columns) < _MEMORY_AIM)}",
            ]
            for name in columns[0]
        ]

    def _peaks(self, piece: Piece) -> dict[str, float]:
        with ExitStack() as stack:
            ours = self._open(stack)
            put, put_parts, idle = ours.put(piece), ours.put_parts(piece), ours.server.memory_mib()
            assert idle is not None
            port = ours.server.port
            acts: dict[str, _Act] = {
                PUT: put,
                PARTS: put_parts,
                GET: lambda: streams.fetch(port, ours.link(piece)),
                RANGES: lambda: streams.fetch_ranges(port, ours.link(piece), size=piece.size),
            }
            peaks = {}
            for name, act in acts.items():
                ours.server.forget_peak()
                act()
                peaks[name] = ours.server.peak_mib() - idle
        return peaks

    def _quotes(self, piece: Piece) -> list[list[str]]:
        with ExitStack() as stack:
            ours = self._open(stack)
            ours.put(piece)()
            port, link = ours.server.port, ours.link(piece)
            streamed: dict[str, list[_Act]] = {
                "nothing": [],
                PUT: [ours.put(piece) for _ in range(_PLACES)],
                PARTS: [ours.put_parts(piece) for _ in range(_PLACES)],
                GET: [_fetch(port, link)] * 1000,
            }
            return [[name, *self._quoted(ours.shop, acts), ""] for name, acts in streamed.items()]

    def _quoted(self, shop: Shop, acts: list[_Act]) -> list[str]:
        with streams.in_background(acts) if acts else nullcontext():
            run = drive(shop.port, requests=_paced(shop.quotes()), connections=1, seconds=self.seconds)
        only(run, status=402)
        return [f"{run.percentile(share):.1f}" for share in (0.5, 0.99, 1)]


def _fetch(port: int, path: str) -> _Act:
    return lambda: streams.fetch(port, path)


def _fetch_ranges(port: int, path: str, *, size: int) -> _Act:
    return lambda: streams.fetch_ranges(port, path, size=size)


def _put_nginx(port: int, piece: Piece, *, kept: Path) -> None:
    """Send a file and sync it, which nginx leaves to whoever wants it and our service does."""
    streams.send(port, "PUT", f"/{kept.name}", headers={}, piece=piece)
    with kept.open("rb") as file:
        os.fsync(file.fileno())


def _paced(requests: Iterator[bytes]) -> Iterator[bytes]:
    for each in requests:
        time.sleep(_QUOTE_EVERY_SECONDS)
        yield each
