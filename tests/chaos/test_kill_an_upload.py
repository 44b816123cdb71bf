"""`kill -9` in the sale of a place for a file: the same payment gets its one place, and the file may still come."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from tests.doubles import png
from tests.service import Buyer, Service

from .audit import audit, rows

_PATH, _WANTED = "/api/upload", {"filename": "cat.png", "contentType": "image/png"}


@pytest.mark.parametrize("place", ["sale.claimed", "sale.settled", "sale.committed", "sale.answered"])
def test_the_same_payment_after_a_kill_gets_its_one_place(data: Path, place: str) -> None:
    service = Service(data)
    service.start(failpoint=place)
    with Buyer(service.url) as buyer:
        buyer.fund()
        payment = buyer.sign(_PATH, _WANTED)
        with suppress(httpx2.TransportError):
            buyer.pay(_PATH, _WANTED, payment)
        assert service.wait_dead() == -signal.SIGKILL
        service.start()
        try:
            first, again = (buyer.pay(_PATH, _WANTED, payment) for _ in range(2))
            assert (first.status_code, first.content) == (200, again.content)
            ticket = first.json()
            headers = {"authorization": f"Bearer {ticket['clientToken']}"}
            sent = buyer.http.put(
                ticket["uploadUrl"], params={"pathname": ticket["pathname"]}, content=png(), headers=headers
            )
            assert sent.status_code == 200, sent.text
        finally:
            service.kill()
    assert audit(service.database) == []
    assert rows(service.database, "SELECT count(*) FROM uploads") == [(1,)]
    assert rows(service.database, "SELECT count(*) FROM ledger_transactions WHERE nonce IS NOT NULL") == [(1,)]


@pytest.mark.parametrize("action", ["put", "part", "cut"])
def test_no_bytes_outlive_a_kill_without_a_row(data: Path, action: str) -> None:
    service = Service(data)
    service.start(failpoint=None if action == "cut" else "upload.written")
    with Buyer(service.url) as buyer:
        ticket = buyer.fund().pay(_PATH, _WANTED, buyer.sign(_PATH, _WANTED)).json()
        if action == "cut":
            _send_half_and_kill(service, ticket)
        else:
            with suppress(httpx2.TransportError):
                _send(buyer, ticket, part=action == "part")
            assert service.wait_dead() == -signal.SIGKILL
        assert len(_files(service)) == 1, "the bytes are there, and nobody was told"
        service.start()
        try:
            _until(lambda: _files(service) == [])
            _until(lambda: rows(service.database, "SELECT key FROM upload_parts") == [])
            assert _send(buyer, ticket).status_code == 200, "it may be sent again"
        finally:
            service.kill()
    assert len(_files(service)) == 1


def _send(buyer: Buyer, ticket: dict[str, Any], *, part: bool = False) -> httpx2.Response:
    headers = {"authorization": f"Bearer {ticket['clientToken']}"}
    where = {"pathname": ticket["pathname"]}
    if not part:
        return buyer.http.put(ticket["uploadUrl"], params=where, content=png(), headers=headers)
    headers |= {"x-mpu-action": "upload", "x-mpu-key": quote(ticket["pathname"], safe="")}
    headers |= {"x-mpu-upload-id": "s1", "x-mpu-part-number": "1"}
    return buyer.http.post(f"{ticket['uploadUrl']}/mpu", params=where, content=png(), headers=headers)


def _send_half_and_kill(service: Service, ticket: dict[str, Any]) -> None:
    """Begin to send a file, and end the service when some of it is on the disk."""
    target = f"/api/blob?pathname={quote(ticket['pathname'])}"
    head = f"PUT {target} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ticket['clientToken']}\r\n"
    with socket.create_connection(("127.0.0.1", service.port)) as line:
        line.sendall(f"{head}content-length: 8000000\r\n\r\n".encode() + b"z" * 4_000_000)
        _until(lambda: any(path.stat().st_size for path in _files(service)))
        service.kill()


def _files(service: Service) -> list[Path]:
    return [path for path in (service.data / "assets").rglob("*") if path.is_file()]


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.05)
