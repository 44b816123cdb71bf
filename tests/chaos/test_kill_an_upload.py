"""`kill -9` in the sale of a place for a file: the same payment gets its one place, and the file may still come."""

from __future__ import annotations

import signal
from contextlib import suppress
from pathlib import Path

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
