"""A client of large bodies that costs next to nothing: files go out by sendfile, what comes in is counted and dropped."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from benchmarks.servers import SERVER_CORE, core

PART = 8 * 1024 * 1024  # what Vercel's own clients send
AT_ONCE = 4
_BUFFER = 1024 * 1024
_STALLED_SECONDS = 120.0
_LONGEST_HEAD = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Bytes of a file, from `start` on."""

    file: Path
    start: int
    size: int

    @classmethod
    def whole(cls, file: Path) -> Piece:
        return cls(file=file, start=0, size=file.stat().st_size)

    def parts(self) -> list[Piece]:
        """Give the parts of `PART` bytes; the last may be shorter."""
        ends = range(self.start, self.start + self.size, PART)
        return [Piece(file=self.file, start=at, size=min(PART, self.start + self.size - at)) for at in ends]


def send(port: int, method: str, path: str, *, headers: dict[str, str], piece: Piece) -> bytes:
    """Send a request whose body is a piece of a file; gives the answer's body, raises `RuntimeError` for a refusal."""
    with _connect(port) as connection:
        connection.sendall(_head(port, method, path, headers | {"Content-Length": str(piece.size)}))
        _send_file(connection, piece)
        length, body = _begin(connection)
        while len(body) < length:
            body += connection.recv(_BUFFER)
        return body


def fetch(port: int, path: str, *, headers: dict[str, str] | None = None) -> int:
    """Ask for a file and drop it; gives the bytes of its body."""
    with _connect(port) as connection:
        connection.sendall(_head(port, "GET", path, headers or {}))
        length, body = _begin(connection)
        _drop(connection, length - len(body))
        return length


def fetch_ranges(port: int, path: str, *, size: int) -> int:
    """Ask for a file in ranges of `PART` bytes, `AT_ONCE` at a time."""
    starts = range(0, size, PART)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        ranges = ({"Range": f"bytes={start}-{min(start + PART, size) - 1}"} for start in starts)
        return sum(pool.map(lambda header: fetch(port, path, headers=header), ranges))


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A paid place for one file, at our service."""

    port: int
    url: str
    pathname: str
    token: str

    def put(self, piece: Piece) -> None:
        """Send the file in one request."""
        send(self.port, "PUT", self._path(), headers=self._headers(), piece=piece)

    def put_parts(self, piece: Piece) -> None:
        """Send the file as Vercel's clients do: in parts, several at once, then the word that this is all."""
        session = json.loads(self._multipart("create", Piece(file=piece.file, start=0, size=0)))
        names = {"x-mpu-upload-id": session["uploadId"], "x-mpu-key": quote(session["key"], safe="")}

        def put_part(numbered: tuple[int, Piece]) -> dict[str, Any]:
            number, part = numbered
            answer = self._multipart("upload", part, **names, **{"x-mpu-part-number": str(number)})
            return {"partNumber": number, "etag": json.loads(answer)["etag"]}

        with ThreadPoolExecutor(AT_ONCE) as pool:
            named = list(pool.map(put_part, enumerate(piece.parts(), start=1)))
        listed = piece.file.with_suffix(".parts")
        listed.write_text(json.dumps(named))
        self._multipart("complete", Piece.whole(listed), **names)

    def _multipart(self, action: str, piece: Piece, **headers: str) -> bytes:
        headers |= self._headers() | {"x-mpu-action": action}
        return send(self.port, "POST", self._path("/mpu"), headers=headers, piece=piece)

    def _path(self, more: str = "") -> str:
        return f"{urlsplit(self.url).path}{more}?pathname={quote(self.pathname, safe='')}"

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}", "x-content-type": "video/mp4", "x-api-version": "12"}


def copy(piece: Piece, *, to: Path) -> None:
    """Copy a file on its disk as `cp` does, and see to it that it is there after a power cut."""
    with piece.file.open("rb") as source, to.open("wb", buffering=0) as target:
        shutil.copyfileobj(source, target, _BUFFER)
        os.fsync(target.fileno())


@contextmanager
def raw_peer(file: Path) -> Iterator[int]:
    """Run a process on the server's core that takes what it is sent, or sends the file; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        with core(SERVER_CORE):
            child = _fork(lambda: _serve_raw(listener, file))
    with _ending(child):
        yield port


@contextmanager
def in_background(acts: Iterable[Callable[[], object]]) -> Iterator[None]:
    """Do one after the other in a process of its own for as long as the block lasts."""
    with _ending(_fork(lambda: [act() for act in acts])):
        yield


def _fork(target: Callable[[], object]) -> BaseProcess:
    child = multiprocessing.get_context("fork").Process(target=target, daemon=True)
    child.start()
    return child


@contextmanager
def _ending(child: BaseProcess) -> Iterator[None]:
    try:
        yield
    finally:
        child.kill()
        child.join()


def send_raw(port: int, piece: Piece) -> None:
    """Send a file over a bare connection and wait until it is all there."""
    with _connect(port) as connection:
        connection.sendall(piece.size.to_bytes(8, "big"))
        _send_file(connection, piece)
        connection.recv(1)


def fetch_raw(port: int, *, size: int) -> None:
    """Have the file sent over a bare connection."""
    with _connect(port) as connection:
        connection.sendall(bytes(8))
        _drop(connection, size)


def _serve_raw(listener: socket.socket, file: Path) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            coming = int.from_bytes(connection.recv(8), "big")
            if coming:
                _drop(connection, coming)
                connection.sendall(b".")
            else:
                _send_file(connection, Piece.whole(file))


def _connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=_STALLED_SECONDS)


def _head(port: int, method: str, path: str, headers: dict[str, str]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Connection: close"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode()


def _send_file(connection: socket.socket, piece: Piece) -> None:
    if piece.size:
        with piece.file.open("rb") as source:
            connection.sendfile(source, offset=piece.start, count=piece.size)


def _begin(connection: socket.socket) -> tuple[int, bytes]:
    """Read an answer's head; gives the length of the body and what has come of it."""
    head = b""
    while b"\r\n\r\n" not in head and len(head) < _LONGEST_HEAD:
        came = connection.recv(_LONGEST_HEAD)
        if not came:
            break
        head += came
    head, _, body = head.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 2"):
        raise RuntimeError(f"refused: {head.decode('latin-1')}\n{body[:500]!r}")
    length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0")
    return int(length.partition(b":")[2]), body


def _drop(connection: socket.socket, count: int) -> None:
    buffer = bytearray(_BUFFER)
    while count > 0:
        got = connection.recv_into(buffer, min(len(buffer), count))
        if not got:
            raise RuntimeError(f"{count} bytes of an answer never came")
        count -= got
