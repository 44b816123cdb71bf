"""The sale over HTTP: what a payment buys, once; what a key opens, once; and what an empty wallet is told."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stablestudio.catalog import OFFERINGS, Kind, Offering, PriceTable
from stablestudio.money import Money
from stablestudio.protocols import x402
from tests.acceptance.vendors import sample
from tests.chaos.audit import rows
from tests.service import Buyer, Service, settled_part
from tests.strategies import inputs

from .attacks import good_payment, lasting

PATH = "/api/generate/nano-banana/generate"
BODY = {"prompt": "a cat", "imageSize": "512"}
OTHER = {"prompt": "a dog", "imageSize": "512"}
FUNDS, PRICE = 100_000_000, 45_000
KEY = "my-order-0000000001"  # long enough for a payment identifier as well


def _job(answer: httpx2.Response) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.json()["jobId"])


def _receipt(answer: httpx2.Response) -> x402.SettleResponse:
    return x402.decode_response(answer.headers["PAYMENT-RESPONSE"])


def test_a_paid_answer_has_everything_a_buyer_needs(buyer: Buyer) -> None:
    answer = buyer.pay(PATH, BODY, buyer.sign(PATH, BODY))
    job_id = _job(answer)
    assert answer.json() == {
        "success": True,
        "jobId": job_id,
        "type": "nano-banana-generate",
        "status": "pending",
        "pollUrl": f"{buyer.url}/api/jobs/{job_id}",
        "pollAfter": 5,
    }
    assert answer.headers["cache-control"] == "private"
    receipt = _receipt(answer)
    assert (receipt.success, receipt.network, receipt.payer) == (True, "eip155:84532", buyer.key.address)
    payment = buyer.wait(job_id)["payment"]
    assert (payment["transaction"], payment["amountAtomic"]) == (receipt.transaction, str(PRICE))
    assert buyer.balance() == FUNDS - PRICE


def test_a_payment_buys_no_second_body(buyer: Buyer) -> None:
    payment = buyer.sign(PATH, BODY)
    job_id = _job(buyer.pay(PATH, BODY, payment))
    answer = buyer.pay(PATH, OTHER, payment)
    assert (answer.status_code, answer.json()["code"], answer.json()["charged"]) == (409, "payment_reused", False)
    assert _job(buyer.pay(PATH, BODY, payment)) == job_id
    assert buyer.balance() == FUNDS - PRICE


def test_a_payment_buys_nothing_on_a_second_route_of_the_same_price(buyer: Buyer) -> None:
    path, body = "/api/generate/gpt-image-2/generate", {"prompt": "a cat", "quality": "low"}
    other_path, other_body = "/api/generate/gpt-image-2/edit", body | {"images": ["data:image/png;base64,iVBORw0KGgo="]}
    one, other = (settled_part(buyer.challenge(*asked)) for asked in ((path, body), (other_path, other_body)))
    assert one.accepts == other.accepts
    payment = buyer.sign(path, body)
    _job(buyer.pay(path, body, payment))
    assert buyer.pay(other_path, other_body, payment).json()["code"] == "payment_reused"


def test_the_same_body_written_otherwise_is_the_same_request(buyer: Buyer) -> None:
    payment = buyer.sign(PATH, BODY)
    job_id = _job(buyer.pay(PATH, BODY, payment))
    spaced = b'{ "imageSize" : "512",\n"prompt":"\\u0061 cat" }'
    again = buyer.http.post(PATH, content=spaced, headers={"PAYMENT-SIGNATURE": payment})
    assert _job(again) == job_id


def _pay_with_header(buyer: Buyer, key: str, body: dict[str, Any] = BODY) -> httpx2.Response:
    return buyer.pay(PATH, body, buyer.sign(PATH, body), **{"Idempotency-Key": key})


def _pay_with_extension(buyer: Buyer, key: str, body: dict[str, Any] = BODY) -> httpx2.Response:
    return buyer.pay(PATH, body, buyer.sign(PATH, body, payment_id=key))


_WAYS = [_pay_with_header, _pay_with_extension]


@pytest.mark.parametrize("second", _WAYS)
@pytest.mark.parametrize("first", _WAYS)
def test_a_key_opens_one_order_and_the_second_payment_is_not_settled(buyer: Buyer, first: Any, second: Any) -> None:
    answer = first(buyer, KEY)
    job_id, receipt = _job(answer), answer.headers["PAYMENT-RESPONSE"]
    again = second(buyer, KEY)
    assert (_job(again), again.headers["PAYMENT-RESPONSE"]) == (job_id, receipt)
    assert buyer.balance() == FUNDS - PRICE


@pytest.mark.parametrize("way", _WAYS)
def test_a_key_with_another_body_is_a_conflict(buyer: Buyer, way: Any) -> None:
    _job(way(buyer, KEY))
    answer = way(buyer, KEY, OTHER)
    assert (answer.status_code, answer.json()["code"], answer.json()["charged"]) == (409, "idempotency_conflict", False)
    assert buyer.balance() == FUNDS - PRICE


def test_another_key_is_another_order(buyer: Buyer) -> None:
    assert _job(_pay_with_header(buyer, KEY)) != _job(_pay_with_header(buyer, KEY + "x"))
    assert buyer.balance() == FUNDS - 2 * PRICE


def test_a_key_belongs_to_its_wallet(buyer: Buyer, studio: Service) -> None:
    with Buyer(studio.url) as stranger:
        stranger.fund()
        assert _job(_pay_with_header(buyer, KEY)) != _job(_pay_with_header(stranger, KEY))
        assert stranger.balance() == FUNDS - PRICE


def test_a_rejected_payment_gives_its_key_back(pauper: Buyer) -> None:
    assert _pay_with_header(pauper, KEY).json()["code"] == "insufficient_funds"
    pauper.fund()
    other = _pay_with_header(pauper, KEY, OTHER)
    assert _job(other)
    assert _pay_with_header(pauper, KEY).json()["code"] == "idempotency_conflict"


@pytest.mark.parametrize("key", ["", "x" * 256, "two words", "tab\there", "é"])
def test_a_key_out_of_form_is_refused_before_the_money_moves(buyer: Buyer, key: str) -> None:
    payment = buyer.sign(PATH, BODY)
    headers = [(b"PAYMENT-SIGNATURE", payment.encode()), (b"Idempotency-Key", key.encode())]
    answer = buyer.http.post(PATH, json=BODY, headers=headers)
    assert (answer.status_code, answer.json()["issues"][0]["path"]) == (400, ["Idempotency-Key"])
    assert buyer.balance() == FUNDS


def test_two_keys_that_differ_are_refused_before_the_money_moves(buyer: Buyer) -> None:
    payment = buyer.sign(PATH, BODY, payment_id=KEY)
    answer = buyer.pay(PATH, BODY, payment, **{"Idempotency-Key": KEY + "x"})
    assert (answer.status_code, answer.json()["issues"][0]["code"]) == (400, "conflict")
    assert buyer.balance() == FUNDS


def test_an_empty_wallet_is_told_so_and_the_same_signature_works_once_it_is_filled(pauper: Buyer) -> None:
    payment = pauper.sign(PATH, BODY)
    answer = pauper.pay(PATH, BODY, payment)
    told = answer.json()
    assert (answer.status_code, told["code"], told["charged"]) == (402, "insufficient_funds", False)
    receipt = _receipt(answer)
    assert (receipt.success, receipt.transaction, receipt.error_reason) == (False, "", "insufficient_funds")
    assert receipt.payer == pauper.key.address
    offered = x402.decode_required(answer.headers["PAYMENT-REQUIRED"])
    assert settled_part(offered) == settled_part(pauper.challenge(PATH, BODY))
    assert pauper.jobs() == []
    pauper.fund()
    job_id = _job(pauper.pay(PATH, BODY, payment))
    assert [job["jobId"] for job in pauper.jobs()] == [job_id]
    assert pauper.balance() == FUNDS - PRICE


@pytest.mark.anyio
async def test_copies_of_a_rejected_payment_are_all_told_that_nothing_moved(pauper: Buyer) -> None:
    headers = {"PAYMENT-SIGNATURE": pauper.sign(PATH, BODY)}
    async with httpx2.AsyncClient(base_url=pauper.url, trust_env=False, timeout=30) as client:
        answers = await asyncio.gather(*(client.post(PATH, json=BODY, headers=headers) for _ in range(30)))
    assert {(answer.status_code, answer.json().get("code")) for answer in answers} == {(402, "insufficient_funds")}


def test_a_settled_payment_answers_after_its_signature_has_expired(buyer: Buyer) -> None:
    payment = lasting(good_payment(buyer, PATH, BODY), buyer.key, seconds=7)
    answer = buyer.pay(PATH, BODY, payment)
    job_id = _job(answer)
    time.sleep(2.1)  # too late by now for a new sale, which wants six seconds to settle in
    again = buyer.pay(PATH, BODY, payment)
    assert (_job(again), again.headers["PAYMENT-RESPONSE"]) == (job_id, answer.headers["PAYMENT-RESPONSE"])
    assert buyer.pay(PATH, OTHER, payment).json()["code"] == "payment_reused"
    unused = lasting(good_payment(buyer, PATH, BODY), buyer.key, seconds=5)
    assert buyer.pay(PATH, BODY, unused).json()["code"] == "payment_expired"
    assert buyer.balance() == FUNDS - PRICE


@pytest.mark.parametrize(
    ("mark", "code"), [("refuse", "moderation"), ("fail", "upstream_error"), ("reject", "upstream_error")]
)
def test_what_cannot_be_made_is_refunded_and_the_job_shows_it(buyer: Buyer, mark: str, code: str) -> None:
    job = buyer.wait(buyer.buy(PATH, BODY | {"prompt": f"a cat [sandbox:{mark}]"}))
    assert (job["status"], job["errorCode"], job["payment"]["state"]) == ("failed", code, "refunded")
    refund = job["payment"]["refund"]
    assert (refund["amountAtomic"], len(refund["transaction"])) == (str(PRICE), 66)
    assert refund["transaction"] != job["payment"]["transaction"]
    assert buyer.balance() == FUNDS


_SOLD = [offering for offering in OFFERINGS if offering.kind is not Kind.UPLOAD]


def _with_files(offering: Offering, body: dict[str, Any]) -> dict[str, Any]:
    """Put real files in the place of addresses, which lead nowhere, and of earlier jobs, which this buyer does not have."""
    for media in offering.read(json.dumps(body).encode()).media():
        place: Any = body
        for step in media.path[:-1]:
            place = place[step]
        place[media.path[-1]] = sample(media.kind)
    # A frame of its own size would be another file for each size.
    return body | ({"autoCrop": True} if "autoCrop" in body else {})


@settings(max_examples=40)
@given(data=st.data(), offering=st.sampled_from(_SOLD))
def test_quote_challenge_and_ledger_name_one_amount(studio: Service, data: st.DataObject, offering: Offering) -> None:
    body = _with_files(offering, data.draw(inputs(offering)))
    body = body | {"prompt": f"{body.get('prompt', '')} [sandbox:refuse]"}
    price = PriceTable(OFFERINGS).price(offering, offering.read(httpx2.Request("POST", "http://x", json=body).read()))
    with Buyer(studio.url) as buyer:
        offers = buyer.fund().challenge(offering.path, body).accepts
        receipt = _receipt(buyer.pay(offering.path, body, buyer.sign(offering.path, body)))
        job = buyer.jobs()[0]
    assert {Money(int(offer.amount)) for offer in offers} == {Money.parse(job["payment"]["amount"])} == {price}
    sql = """SELECT o.price_micros, p.amount, t.amount FROM orders o JOIN payments p ON p.order_id = o.id
             JOIN ledger_transactions t ON t.hash = p."transaction" WHERE o.id = ? AND t.hash = ?"""
    assert rows(studio.database, sql, job["jobId"], receipt.transaction) == [(price.micros,) * 3]
