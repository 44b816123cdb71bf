"""Every refused payment is told why, costs nothing, takes nothing away, and leaves the honest one good."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx2
import pytest

from stablestudio.protocols import x402
from tests.service import Buyer, settled_part

from .attacks import ATTACKS, Attack, good_payment, signed_anew

PATH = "/api/generate/nano-banana/generate"
BODY = {"prompt": "a cat", "imageSize": "512"}
DEARER = {"prompt": "a cat", "imageSize": "4K"}
FUNDS, PRICE = 100_000_000, 45_000


def expect_refusal(buyer: Buyer, answer: httpx2.Response, *, code: str, body: dict[str, Any]) -> None:
    """Expect a 402 with a fresh challenge for this body and an error that says that nothing was charged."""
    told = answer.json()
    assert (answer.status_code, told["code"]) == (402, code), answer.text
    assert (told["status"], told["success"], told["charged"]) == (402, False, False)
    assert told["error"]
    assert told["hint"]
    assert told["docs"].endswith(f"/docs/errors#{code}")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "application/json"
    offered = x402.decode_required(answer.headers["PAYMENT-REQUIRED"])
    assert settled_part(offered) == settled_part(buyer.challenge(PATH, body))


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_an_attack_is_refused_and_the_honest_payment_stays_good(buyer: Buyer, attack: Attack) -> None:
    payment = good_payment(buyer, PATH, BODY)
    expect_refusal(buyer, buyer.pay(PATH, BODY, attack.make(payment, buyer.key)), code=attack.code, body=BODY)
    assert buyer.balance() == FUNDS
    assert buyer.pay(PATH, BODY, x402.encode_payment(payment)).status_code == 200
    assert buyer.balance() == FUNDS - PRICE


def test_a_cheaper_quote_buys_no_dearer_body(buyer: Buyer) -> None:
    payment = buyer.sign(PATH, BODY)
    expect_refusal(buyer, buyer.pay(PATH, DEARER, payment), code="payment_terms_mismatch", body=DEARER)
    assert buyer.balance() == FUNDS


def test_a_dearer_quote_buys_no_cheaper_body_either(buyer: Buyer) -> None:
    payment = buyer.sign(PATH, DEARER)
    expect_refusal(buyer, buyer.pay(PATH, BODY, payment), code="payment_terms_mismatch", body=BODY)
    assert buyer.balance() == FUNDS


def test_the_right_price_in_the_buyers_copy_of_the_offer_helps_no_cheaper_authorization(buyer: Buyer) -> None:
    cheap, dear = good_payment(buyer, PATH, BODY), good_payment(buyer, PATH, DEARER)
    wire = {**cheap.wire(), "accepted": dear.accepted.wire()}
    header = base64.b64encode(json.dumps(wire).encode()).decode()
    expect_refusal(buyer, buyer.pay(PATH, DEARER, header), code="payment_terms_mismatch", body=DEARER)
    assert buyer.balance() == FUNDS


def test_somebody_elses_signature_cannot_squat_on_a_nonce(buyer: Buyer, studio: Any) -> None:
    payment = good_payment(buyer, PATH, BODY)
    with Buyer(studio.url) as thief:
        forged = signed_anew(payment, thief.key)
        expect_refusal(buyer, thief.pay(PATH, BODY, forged), code="payment_sender_mismatch", body=BODY)
    assert buyer.pay(PATH, BODY, x402.encode_payment(payment)).status_code == 200


def test_two_payment_headers_are_refused_whole(buyer: Buyer) -> None:
    payments = [("PAYMENT-SIGNATURE", buyer.sign(PATH, BODY)) for _ in range(2)]
    answer = buyer.http.post(PATH, json=BODY, headers=payments)
    assert (answer.status_code, answer.json()["code"], answer.json()["charged"]) == (400, "repeated_header", False)
    assert buyer.balance() == FUNDS


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b'{"imageSize": "512"}', "missing"),
        (b'{"prompt": "a cat", "imageSize": "8K"}', None),
        (b'{"prompt": "a cat", "imagesize": "512"}', None),
        (b'{"prompt": "a cat"', "invalid_json"),
        (b"[]", "not_an_object"),
        (b"", None),
    ],
)
def test_a_wrong_body_with_a_good_payment_is_a_400_and_the_payment_stays_good(
    buyer: Buyer, content: bytes, code: str | None
) -> None:
    payment = buyer.sign(PATH, BODY)
    answer = buyer.http.post(PATH, content=content, headers={"PAYMENT-SIGNATURE": payment})
    told = answer.json()
    assert (answer.status_code, told["code"], told["charged"]) == (400, "invalid_input", False)
    assert told["issues"]
    assert code in (None, told["issues"][0]["code"])
    assert buyer.balance() == FUNDS
    assert buyer.pay(PATH, BODY, payment).status_code == 200


@pytest.mark.parametrize(
    "path", [PATH + "/", PATH.upper(), PATH.replace("/generate", "%2Fgenerate"), "/" + PATH, PATH + "/..;/x"]
)
def test_a_path_spelled_otherwise_is_no_way_around_the_till(buyer: Buyer, path: str) -> None:
    unpaid = buyer.http.post(buyer.url + path, json=BODY)
    paid = buyer.http.post(buyer.url + path, json=BODY, headers={"PAYMENT-SIGNATURE": buyer.sign(PATH, BODY)})
    charged = FUNDS - buyer.balance()
    assert (unpaid.status_code, paid.status_code, charged) in ((404, 404, 0), (402, 200, PRICE))
