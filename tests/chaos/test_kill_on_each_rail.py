"""`kill -9` between claim, settlement and commit, and in the refund, on every rail and for payments held until the work is done."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from stablestudio.protocols import mpp, x402
from stablestudio.protocols.solana import SolanaKey
from stablestudio.protocols.x402.exact_svm import sign_exact_svm
from tests.service import Buyer
from tests.unit.payments.tempo_buyer import pay as answer_challenge

from .audit import audit_files, rows
from .conftest import CLIP, DOOMED, FUNDS, PICTURE, Template, Ware
from .zygote import ForkedService, Zygote

_SECONDS = 40.0
SOLANA_KEY = SolanaKey(b"\x09" * 32)
_COMPLETE = {"STABLESTUDIO_SETTLE": '{"default": "complete"}'}
CLAIM_TO_COMMIT = ["sale.claimed", "sale.settled", "sale.committed"]
REFUND = ["refund.signed", "refund.sent"]


def _by_x402(buyer: Buyer, asked: httpx2.Response) -> str:
    required = x402.decode_required(asked.headers["PAYMENT-REQUIRED"])
    payment = x402.sign_exact(required, required.accepts[0], buyer.key, now_s=int(time.time()))
    return x402.encode_payment(payment)


def _by_mpp(buyer: Buyer, asked: httpx2.Response) -> str:
    line = asked.headers.get_list("WWW-Authenticate")[0]
    return mpp.encode_credential(answer_challenge(line, key=buyer.key, valid_before=int(time.time()) + 25))


def _by_solana(buyer: Buyer, asked: httpx2.Response) -> str:
    required = x402.decode_required(asked.headers["PAYMENT-REQUIRED"])
    (offer,) = [offer for offer in required.accepts if offer.network.startswith("solana:")]
    question = {"jsonrpc": "2.0", "id": 1, "method": "getLatestBlockhash", "params": []}
    blockhash = buyer.http.post("/rpc/solana-devnet", json=question).json()["result"]["value"]["blockhash"]
    return x402.encode_payment(sign_exact_svm(required, offer, SOLANA_KEY, blockhash=blockhash, decimals=6))


RAILS: dict[str, Callable[[Buyer, httpx2.Response], str]] = {
    "x402 on Base": _by_x402,
    "MPP on Tempo": _by_mpp,
    "x402 on Solana": _by_solana,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    service: ForkedService
    buyer: Buyer

    def sign(self, ware: Ware, pay: Callable[[Buyer, httpx2.Response], str]) -> str:
        """Get a quote and sign it, and stop the service again."""
        self.service.start()
        asked = self.buyer.http.post(ware.path, json=ware.body)
        payment = pay(self.buyer, asked)
        self.service.kill()
        return payment

    def die(self, place: str, ware: Ware, payment: str) -> None:
        self.service.start(failpoint=place)
        with suppress(httpx2.TransportError):
            self.buyer.pay(ware.path, ware.body, payment)
        assert self.service.wait_dead(_SECONDS) == -signal.SIGKILL


@pytest.fixture
def shop(zygote: Zygote, template: Template, data: Path) -> Iterator[Shop]:
    service = ForkedService(data, zygote=zygote, environment={"STABLESTUDIO_SANDBOX_DELAY": "0.05"})
    with Buyer(service.url, key=template.key) as buyer:
        service.start()
        buyer.fund()
        buyer.http.post("/faucet", json={"address": SOLANA_KEY.address}).raise_for_status()
        service.kill()
        yield Shop(service=service, buyer=buyer)
    service.kill()


@pytest.mark.parametrize("comes_back", [True, False], ids=["buyer comes back", "buyer stays away"])
@pytest.mark.parametrize("place", CLAIM_TO_COMMIT)
@pytest.mark.parametrize("rail", RAILS)
def test_a_sale_that_was_claimed_ends_delivered_and_charged_once(
    shop: Shop, rail: str, place: str, *, comes_back: bool
) -> None:
    payment = shop.sign(PICTURE, RAILS[rail])
    shop.die(place, PICTURE, payment)
    shop.service.start()
    if comes_back:
        answers = [shop.buyer.pay(PICTURE.path, PICTURE.body, payment) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 200], answers[0].text
        assert len({answer.content for answer in answers}) == 1
    _expect_one_sale(shop, PICTURE)


@pytest.mark.parametrize("place", REFUND)
@pytest.mark.parametrize("rail", RAILS)
def test_a_refund_is_paid_once(shop: Shop, rail: str, place: str) -> None:
    payment = shop.sign(DOOMED, RAILS[rail])
    shop.die(place, DOOMED, payment)
    shop.service.start()
    _expect_one_sale(shop, DOOMED)


@pytest.mark.parametrize("place", ["sale.claimed", "make.kept", "charge.claimed", "sale.settled", "sale.committed"])
def test_a_held_payment_is_charged_once_and_before_delivery(shop: Shop, place: str) -> None:
    shop.service.environment |= _COMPLETE
    payment = shop.sign(CLIP, _by_x402)
    shop.die(place, CLIP, payment)
    shop.service.start()
    _expect_one_sale(shop, CLIP)
    assert rows(shop.service.database, "SELECT policy FROM payments") == [("complete",)]


@pytest.mark.parametrize("place", ["sale.claimed", "make.asked", "close.failed"])
def test_a_held_payment_of_work_that_failed_is_never_charged(shop: Shop, place: str) -> None:
    shop.service.environment |= _COMPLETE
    payment = shop.sign(DOOMED, _by_x402)
    shop.die(place, DOOMED, payment)
    shop.service.start()
    (job,) = shop.buyer.jobs()
    deadline = time.monotonic() + _SECONDS
    while (job := shop.buyer.job(job["jobId"]))["status"] != "failed":
        assert time.monotonic() < deadline, job
        time.sleep(0.1)
    assert job["payment"]["state"] == "released"
    shop.service.wait_for_rest()
    assert _transfers(shop, "sender") == _transfers(shop, "recipient") == []


def _expect_one_sale(shop: Shop, ware: Ware) -> None:
    ended = [("complete", "settled", None)] if ware.delivered else [("failed", "settled", "refunded")]
    sql = """SELECT j.state, p.state, r.state FROM payments p LEFT JOIN jobs j ON j.id = p.order_id
             LEFT JOIN refunds r ON r.order_id = p.order_id"""
    deadline = time.monotonic() + _SECONDS
    while (found := rows(shop.service.database, sql)) != ended:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    shop.service.wait_for_rest()
    assert audit_files(shop.service.data) == []
    assert rows(shop.service.database, "SELECT count(*) FROM jobs") == [(1,)]
    assert rows(shop.service.database, "SELECT count(*) FROM sandbox_tasks") == [(1,)]
    assert _spent(shop) == (ware.price if ware.delivered else 0)


def _spent(shop: Shop) -> int:
    """Return what left the buyer's wallets for good, over all tokens."""
    owners = (shop.buyer.key.address.lower(), SOLANA_KEY.address)
    sql = "SELECT count(*), sum(amount) FROM ledger_balances WHERE owner IN (?, ?)"
    ((tokens, held),) = rows(shop.service.database, sql, *owners)
    assert isinstance(tokens, int)
    assert isinstance(held, int)
    return tokens * FUNDS - held


def _transfers(shop: Shop, end: str) -> list[tuple[object, ...]]:
    sql = f"SELECT amount FROM ledger_transactions WHERE nonce IS NOT NULL AND failure IS NULL AND {end} = ?"
    return rows(shop.service.database, sql, shop.buyer.key.address.lower())
