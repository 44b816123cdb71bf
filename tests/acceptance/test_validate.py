"""`stablestudio validate`: this very service passes, spends nothing, and a wrong address of it is found out."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any

import pytest

from stablestudio.catalog import OFFERINGS
from stablestudio.client.conformance import AREAS, survey
from stablestudio.client.conformance.survey import MOST_ROUTES
from stablestudio.client.errors import ServiceUnreachable
from tests.service import Service

SURVEY = sys.modules[survey.__module__]  # the package has a function of its name


def validate(url: str, *, code: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "stablestudio", "validate", url, "--json"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == code, ran.stdout + ran.stderr
    document: dict[str, Any] = json.loads(ran.stdout)
    return document


def test_this_service_keeps_every_rule_and_nothing_is_sold_meanwhile(studio: Service) -> None:
    before = _rows(studio)
    told = validate(studio.url, code=0)
    assert told["findings"] == []
    assert told["areas"] == list(AREAS)
    assert told["routes"] == {"selling": len(OFFERINGS), "asked": min(len(OFFERINGS), MOST_ROUTES)}
    assert told["requests"] <= 3 * MOST_ROUTES + 15
    assert _rows(studio) == before


def test_a_service_behind_an_address_that_it_does_not_know_is_found_out(data: Path) -> None:
    with Service(data, environment={"STABLESTUDIO_PUBLIC_URL": "https://studio.example"}) as service:
        told = validate(service.url, code=6)
    broken = {finding["rule"] for finding in told["findings"]}
    assert broken == {"document_foreign_server", "resource_foreign", "sign_in_domain", "challenge_realm"}
    assert (told["errors"], told["warnings"]) == (3, 1)
    assert all(finding["mend"] and finding["source"] for finding in told["findings"])


def test_a_seller_that_hangs_up_is_told_of_and_only_its_own_origin_is_asked() -> None:
    shop = {"openapi": "3.1.0", "info": {"title": "a", "version": "1"}, "servers": [{"url": "http://10.0.0.7"}]}
    sale = {"x-payment-info": {"price": {"amount": "1"}}, "responses": {"402": {}}}
    document = json.dumps(shop | {"paths": {"//10.0.0.7/a": {"post": sale}, "/b": {"post": sale}}})
    with _hanging_up(document) as (url, asked):
        report = survey(url)
    assert {finding.rule.code for finding in report.findings} >= {"no_answer", "document_foreign_server"}
    assert {"//10.0.0.7/a", "/b"} <= set(asked)
    assert len(asked) == report.requests


def test_halves_of_characters_and_escapes_of_a_seller_are_told_as_text() -> None:
    sale = {"x-payment-info": {"price": {"amount": "1"}}, "responses": {"402": {}}}
    shop = {"openapi": "3.1.0", "info": {"title": "a", "version": "1"}}
    document = json.dumps(shop | {"paths": {"/\ud800x": {"post": sale}, "/\x9b2J": {"post": sale}}})
    with _hanging_up(document) as (url, _):
        told = validate(url, code=6)
    assert {"POST /\ud800x (empty body)", "POST /\x9b2J (empty body)"} <= {
        each["where"] for each in told["findings"] if each["rule"] == "no_answer"
    }


@pytest.mark.parametrize("drip", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n"])
def test_a_seller_that_sends_byte_by_byte_is_left_after_a_while(drip: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SURVEY, "_PATIENCE", 3.0)
    with _dripping(drip) as url, pytest.raises(ServiceUnreachable, match="no whole answer in time"):
        survey(url)


def test_a_survey_ends_whatever_the_seller_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SURVEY, "_WHOLE_PATIENCE", 10.0)
    sale = {"x-payment-info": {"price": {"amount": "1"}}, "responses": {"402": {}}}
    shop = {"openapi": "3.1.0", "info": {"title": "a", "version": "1"}}
    document = json.dumps(shop | {"paths": {f"/{number}": {"post": sale} for number in range(30)}}).encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(document), document)
    began = time.monotonic()
    with _dripping(b"HTTP/1.1 200 OK\r\nX: ", first=answer) as url:
        report = survey(url)
    assert time.monotonic() - began < 60
    assert sum(finding.rule.code == "no_answer" for finding in report.findings) == report.requests - 1


@pytest.mark.parametrize(("url", "code", "name"), [("http://127.0.0.1:1", 6, "service_unreachable"), ("seller", 2, "invalid_address")])  # fmt: skip
def test_what_cannot_be_asked_is_said(url: str, code: int, name: str) -> None:
    assert validate(url, code=code)["code"] == name


def _rows(service: Service) -> int:
    import sqlite3

    with sqlite3.connect(service.database) as books:
        return sum(books.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("orders", "payments"))


@contextmanager
def _dripping(beginning: bytes, *, first: bytes = b"") -> Iterator[str]:
    """A seller that gives the `first` answer whole, and begins all others, to go on with a byte now and then."""
    ended = threading.Event()
    answers = [first] if first else []

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                self.request.recv(65_536)
                if answers:
                    self.request.sendall(answers.pop())
                    return
                self.request.sendall(beginning)
                while not ended.wait(0.2):
                    self.request.sendall(b" ")

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            ended.set()
            server.shutdown()
            thread.join()


@contextmanager
def _hanging_up(document: str) -> Iterator[tuple[str, list[str]]]:
    """A seller that answers with its document, and with nothing else at all."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.requestline.split()[1])  # as it was sent
            if self.path == "/openapi.json":
                self.send_response(200)
                self.end_headers()
                self.wfile.write(document.encode())

        do_POST = do_HEAD = do_OPTIONS = do_GET  # noqa: N815 - http.server's names

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
            thread.join()
