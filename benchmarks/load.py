"""A closed-loop HTTP/1.1 load generator on loopback: prebuilt requests, keep-alive, one outstanding request a connection."""

from __future__ import annotations

import selectors
import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

_HEAD_END = b"\r\n\r\n"
_CHUNKS_END = b"0\r\n\r\n"
_STALLED_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One HTTP answer: status, header block and body as they came."""

    status: int
    head: bytes
    body: bytes

    def header(self, name: str) -> str:
        """Give the first header of this name, or raise `KeyError`."""
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.strip().lower() == name.lower().encode():
                return value.strip().decode()
        raise KeyError(name)


@dataclass(slots=True, kw_only=True)
class Run:
    """What a run measured; `latencies` are in seconds."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    kept: list[Answer] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Answers per second."""
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    def percentile(self, share: float) -> float:
        """Give the latency in milliseconds that `share` of the answers stayed below."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000 if ordered else 0.0


class _Connection:
    """One keep-alive connection with at most one request under way."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=_STALLED_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(0)
        self._buffer = b""
        self._total = 0
        self._sent_at = 0.0

    def send(self, request: bytes) -> None:
        self._buffer, self._total = b"", 0
        self._sent_at = time.perf_counter()
        if self.socket.send(request) != len(request):
            raise ConnectionError(f"a request of {len(request)} bytes did not fit into the socket")

    def receive(self) -> Answer | None:
        """Take what has come; an answer once it is whole."""
        data = self.socket.recv(262_144)
        if not data:
            raise ConnectionError("the server closed a connection")
        self._buffer = data if not self._buffer else self._buffer + data
        if self._total:
            return self._answer() if len(self._buffer) >= self._total else None
        return self._begin()

    @property
    def waited(self) -> float:
        return time.perf_counter() - self._sent_at

    def _begin(self) -> Answer | None:
        end = self._buffer.find(_HEAD_END)
        if end < 0:
            return None
        length = _content_length(self._buffer[:end].lower())
        if length is None:
            if self._buffer.endswith(_CHUNKS_END):
                return self._answer()
            return None
        self._total = end + len(_HEAD_END) + length
        return self._answer() if len(self._buffer) >= self._total else None

    def _answer(self) -> Answer:
        head, _, body = self._buffer.partition(_HEAD_END)
        return Answer(status=int(self._buffer[9:12]), head=head, body=body)


def _content_length(head: bytes) -> int | None:
    start = head.find(b"\r\ncontent-length:")
    if start < 0:
        return None
    return int(head[start + 17 :].split(b"\r\n", 1)[0])


def drive(
    port: int,
    *,
    requests: Iterable[bytes],
    connections: int = 16,
    seconds: float | None = None,
    keep: bool = False,
) -> Run:
    """Send the requests over so many connections until they or the seconds run out; raises `ConnectionError`."""
    run = Run()
    supply = iter(requests)
    opened = [_Connection(port) for _ in range(connections)]
    try:
        with selectors.DefaultSelector() as selector:
            for connection in opened:
                selector.register(connection.socket, selectors.EVENT_READ, connection)
            _loop(selector, supply=supply, opened=opened, run=run, seconds=seconds, keep=keep)
    finally:
        for connection in opened:
            connection.socket.close()
    return run


def _loop(
    selector: selectors.BaseSelector,
    *,
    supply: Iterator[bytes],
    opened: list[_Connection],
    run: Run,
    seconds: float | None,
    keep: bool,
) -> None:
    started = time.perf_counter()
    ends = started + seconds if seconds is not None else float("inf")
    busy = sum(_next(connection, supply=supply) for connection in opened)
    while busy:
        events = selector.select(_STALLED_SECONDS)
        if not events:
            raise ConnectionError(f"no answer within {_STALLED_SECONDS:.0f} s")
        for key, _mask in events:
            connection: _Connection = key.data
            answer = connection.receive()
            if answer is None:
                continue
            run.latencies.append(connection.waited)
            run.statuses[answer.status] += 1
            if keep:
                run.kept.append(answer)
            if time.perf_counter() >= ends or not _next(connection, supply=supply):
                busy -= 1
    run.seconds = time.perf_counter() - started


def _next(connection: _Connection, *, supply: Iterator[bytes]) -> bool:
    request = next(supply, None)
    if request is None:
        return False
    connection.send(request)
    return True


def request(
    method: str, path: str, *, port: int, headers: dict[str, str] | None = None, body: bytes | None = None
) -> bytes:
    """Build the bytes of one HTTP/1.1 request."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Accept: */*"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def ask(
    port: int, method: str, path: str, *, headers: dict[str, str] | None = None, body: bytes | None = None
) -> Answer:
    """Send one request and give its answer."""
    wanted = request(method, path, port=port, headers=headers, body=body)
    return drive(port, requests=[wanted], connections=1, keep=True).kept[0]
