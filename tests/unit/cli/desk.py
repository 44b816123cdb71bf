"""A seller in memory behind a real socket, and the command line as a person or a program calls it."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
from click.testing import CliRunner, Result

from stablestudio.cli import main
from stablestudio.client.fakes import FakeSeller, HandClock
from stablestudio.client.steps import Call

KEY = "0x" + "11" * 32


@contextlib.contextmanager
def serving(seller: FakeSeller) -> Iterator[str]:
    """Serve a seller on loopback; an answer that is None closes the connection."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = httpx2.Headers(list(self.headers.items()))
            reply = seller.answer(Call(method=self.command, url=seller.origin + self.path, headers=headers, body=body))
            self.close_connection = True
            if reply is None:
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(reply.body)))
            self.send_header("connection", "close")
            self.end_headers()
            self.wfile.write(reply.body)

        do_GET = do_POST = do_DELETE = answer  # noqa: N815 - http.server's names

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass(frozen=True)
class Shell:
    """A shell with a home of its own."""

    home: Path
    url: str = "http://127.0.0.1:9"
    key: str = KEY

    def run(self, *arguments: str, **environ: str) -> Result:
        settings = {
            "STABLESTUDIO_HOME": str(self.home),
            "STABLESTUDIO_URL": self.url,
            "STABLESTUDIO_PRIVATE_KEY": self.key,
        }
        return CliRunner().invoke(main, list(arguments), env=settings | environ, catch_exceptions=False)

    def json(self, *arguments: str, code: int = 0, **environ: str) -> dict[str, Any]:
        """Run a command and read its standard output as one JSON document."""
        result = self.run(*arguments, **environ)
        assert result.exit_code == code, result.output
        document: dict[str, Any] = json.loads(result.stdout)
        return document


def seller_of_now(**options: Any) -> FakeSeller:
    """Return a seller with the time of day, whose jobs are complete at the first look."""
    return FakeSeller(clock=HandClock(ms=time.time_ns() // 1_000_000), **({"states": ("complete",)} | options))


@contextlib.contextmanager
def shop(home: Path, **options: Any) -> Iterator[tuple[FakeSeller, Shell]]:
    """A seller that is being served, and a shell that knows its address."""
    seller = seller_of_now(**options)
    with serving(seller) as url:
        seller.origin = url
        yield seller, Shell(home=home / "home", url=url)
