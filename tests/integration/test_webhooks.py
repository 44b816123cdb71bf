"""Webhooks of the whole service: who asks for them, who hears them, and what their owner can see and do."""

from __future__ import annotations

import base64
import hmac
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from nacl.signing import VerifyKey

from stablestudio.protocols import siwx
from tests.fakes.receiver import Delivery, Receiver
from tests.integration.shop import let_a_minute_pass
from tests.service import Buyer, Service

PATH = "/api/generate/nano-banana/generate"
BODY = {"prompt": "a cat", "imageSize": "512"}
DOOMED = {"prompt": "a cat [sandbox:fail]", "imageSize": "512"}
SEEDANCE = "/api/generate/seedance-fast/t2v"
CLIP = {"prompt": "a paper boat", "duration": "4", "outputResolution": "480p"}


@pytest.fixture
def teller(inside: Service) -> Iterator[Buyer]:
    with Buyer(inside.url) as buyer:
        yield buyer.fund()


def _buy(buyer: Buyer, url: str, body: dict[str, Any] = BODY) -> str:
    answer = buyer.pay(PATH, body, buyer.sign(PATH, body), **{"Webhook-Url": url})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["jobId"])


def _log(buyer: Buyer, job_id: str) -> dict[str, Any]:
    path = f"/api/jobs/{job_id}/webhooks"
    answer = buyer.http.get(path, headers=buyer.proof(path))
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def _delivered(buyer: Buyer, job_id: str, count: int) -> dict[str, Any]:
    """Return the log once so many messages are delivered: a receiver knows of one before the log does."""
    deadline = time.monotonic() + 60
    while True:
        log = _log(buyer, job_id)
        if [each["state"] for each in log["messages"]] == ["delivered"] * count:
            return log
        assert time.monotonic() < deadline, log
        time.sleep(0.1)


def _check(delivery: Delivery, *, secret: str, public: str) -> None:
    """Check both signatures as a receiver would."""
    content = ".".join(delivery.headers[f"webhook-{name}"] for name in ("id", "timestamp")).encode()
    content += b"." + delivery.body
    signatures = dict(each.split(",", 1) for each in delivery.headers["webhook-signature"].split(" "))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    assert base64.b64encode(hmac.digest(key, content, "sha256")).decode() == signatures["v1"]
    VerifyKey(base64.b64decode(public.removeprefix("whpk_"))).verify(content, base64.b64decode(signatures["v1a"]))
    assert abs(time.time() - int(delivery.headers["webhook-timestamp"])) < 300


def test_a_finished_job_is_told_with_its_links_and_signatures_that_hold(teller: Buyer) -> None:
    with Receiver() as receiver:
        job_id = _buy(teller, receiver.url)
        (delivery,) = receiver.wait(1)
        log = _delivered(teller, job_id, 1)
    message = delivery.message
    assert (message["type"], message["data"]["jobId"], message["data"]["status"]) == (
        "job.complete",
        job_id,
        "complete",
    )
    assert httpx2.get(message["data"]["result"]["imageUrl"], trust_env=False).status_code == 200
    assert "input" not in message["data"]
    assert "pollToken" not in message["data"]
    published = teller.http.get("/.well-known/webhooks.json").json()["keys"][0]["publicKey"]
    _check(delivery, secret=log["secret"], public=published)
    assert (log["url"], log["publicKey"]) == (receiver.url, published)
    (told,) = log["messages"]
    assert (told["id"], told["type"], told["nextTryAt"]) == (delivery.headers["webhook-id"], "job.complete", None)
    assert [each["status"] for each in told["tries"]] == [204]


def test_a_failed_job_is_told_and_so_is_its_refund(teller: Buyer) -> None:
    with Receiver() as receiver:
        _buy(teller, receiver.url, DOOMED)
        messages = [each.message for each in receiver.wait(2)]
    assert sorted(each["type"] for each in messages) == ["job.failed", "job.refunded"]
    refunded = next(each for each in messages if each["type"] == "job.refunded")
    assert refunded["data"]["payment"]["state"] == "refunded"


def test_its_owner_can_have_a_job_told_again_once_a_minute(teller: Buyer, inside: Service) -> None:
    with Receiver() as receiver:
        job_id = _buy(teller, receiver.url)
        _delivered(teller, job_id, 1)
        path = f"/api/jobs/{job_id}/webhooks/redeliver"
        proof = teller.proof(f"/api/jobs/{job_id}/webhooks", fresh=True)
        assert teller.http.post(path, headers=proof).json()["code"] == "siwx_uri_mismatch"
        challenge = teller.http.post(path).json()
        assert challenge["code"] == "siwx_missing"
        proof = _sign(teller, challenge)
        early = teller.http.post(path, headers=proof)
        assert (early.status_code, early.json()["code"]) == (429, "redelivery_too_soon")
        assert 0 < int(early.headers["retry-after"]) <= 60
        assert teller.http.post(path, headers=proof).json()["code"] == "siwx_nonce_used"
        let_a_minute_pass(inside)
        proof = _sign(teller, teller.http.post(path).json())
        assert teller.http.post(path, headers=proof).status_code == 200
        first, second = receiver.wait(2)
    assert first.headers["webhook-id"] == second.headers["webhook-id"]


def _sign(buyer: Buyer, challenge: dict[str, Any]) -> dict[str, str]:
    return {"SIGN-IN-WITH-X": siwx.sign(challenge["extensions"]["sign-in-with-x"], buyer.key, origin=buyer.url)}


def test_the_log_is_for_its_owner_s_signature_alone(teller: Buyer, inside: Service) -> None:
    answer = teller.pay(PATH, BODY, teller.sign(PATH, BODY))
    path = f"/api/jobs/{answer.json()['jobId']}/webhooks"
    token = {"Authorization": f"Bearer {answer.headers['poll-token']}"}
    refused = teller.http.get(path, headers=token).json()
    assert (refused["code"], refused["error"][:12]) == ("siwx_missing", "A poll token")
    with Buyer(inside.url) as stranger:
        assert stranger.http.get(path, headers=stranger.proof(path)).json()["code"] == "not_your_job"
    log = _log(teller, answer.json()["jobId"])
    assert (log["url"], log["messages"]) == (None, [])
    challenge = teller.http.post(f"{path}/redeliver").json()
    nobody = teller.http.post(f"{path}/redeliver", headers=_sign(teller, challenge))
    assert (nobody.status_code, nobody.json()["code"]) == (409, "no_webhook")
    assert teller.http.get(f"{path}/nonsense").status_code == 404


@pytest.mark.parametrize("url", ["http://example.com/", "https://127.0.0.1/", "https://169.254.169.254/latest",
                                 "https://metadata.internal/", "https://user@example.com/", "https://[::1]/", "nonsense"])  # fmt: skip
def test_an_address_that_is_never_called_is_refused_before_money_is_asked(buyer: Buyer, url: str) -> None:
    payment = buyer.sign(PATH, BODY)
    for headers in ({}, {"PAYMENT-SIGNATURE": payment}):
        answer = buyer.http.post(PATH, json=BODY, headers=headers | {"Webhook-Url": url})
        told = answer.json()
        assert (answer.status_code, told["code"], told["charged"]) == (400, "invalid_input", False)
        assert [issue["path"] for issue in told["issues"]] == [["Webhook-Url"]]
    assert buyer.balance() == 100_000_000


def test_the_service_itself_is_no_receiver(teller: Buyer) -> None:
    answer = teller.http.post(PATH, json=BODY, headers={"Webhook-Url": f"{teller.url}/api/upload"})
    assert answer.json()["issues"][0]["path"] == ["Webhook-Url"]


def test_the_input_s_own_address_is_judged_and_named_the_same_way(buyer: Buyer) -> None:
    answer = buyer.http.post(SEEDANCE, json=CLIP | {"callBackUrl": "https://10.0.0.1/hook"})
    assert (answer.status_code, answer.json()["issues"][0]["path"]) == (400, ["callBackUrl"])
    taken = CLIP | {"callBackUrl": "https://example.com/hook"}
    assert buyer.http.post(SEEDANCE, json=taken).status_code == 402
    other = buyer.http.post(SEEDANCE, json=taken, headers={"Webhook-Url": "https://example.com/other"})
    assert (other.status_code, other.json()["issues"][0]["code"]) == (400, "conflict")


@pytest.mark.parametrize("url", ["https://example.com:8443/h", "https://0x7f.1/", "https://localhost/", "http://example.com/",
                                 "https://example.com/\x9b31m", "https://example.com/\u202ex"])  # fmt: skip
def test_a_quote_refuses_an_address_in_the_words_of_the_sale(buyer: Buyer, url: str) -> None:
    given = CLIP | {"callBackUrl": url}
    sale = buyer.http.post(SEEDANCE, json=given).json()
    quote = buyer.http.post("/api/quote", json={"model": "seedance-fast", "operation": "t2v", "input": given}).json()
    assert (sale["status"], sale["code"]) == (400, "invalid_input")
    assert (quote["status"], quote["code"], quote["error"]) == (400, "invalid_input", sale["error"])


def test_where_webhooks_may_stay_inside_the_input_s_own_address_may_too(teller: Buyer) -> None:
    given = CLIP | {"callBackUrl": "http://127.0.0.1:9/hook"}
    assert teller.http.post(SEEDANCE, json=given).status_code == 402
    question = {"model": "seedance-fast", "operation": "t2v", "input": given}
    assert teller.http.post("/api/quote", json=question).status_code == 200


def test_the_input_s_own_address_is_kept_with_the_order(buyer: Buyer) -> None:
    body = CLIP | {"callBackUrl": "https://hooks.example.com/clip"}
    job_id = buyer.pay(SEEDANCE, body, buyer.sign(SEEDANCE, body)).json()["jobId"]
    assert _log(buyer, job_id)["url"] == "https://hooks.example.com/clip"


def test_a_payment_that_is_sent_again_changes_no_address(teller: Buyer) -> None:
    payment = teller.sign(PATH, BODY)
    with Receiver() as receiver, Receiver() as thief:
        first = teller.pay(PATH, BODY, payment, **{"Webhook-Url": receiver.url})
        again = teller.pay(PATH, BODY, payment, **{"Webhook-Url": thief.url})
        assert again.content == first.content
        receiver.wait(1)
        assert _delivered(teller, first.json()["jobId"], 1)["url"] == receiver.url
        assert thief.deliveries == []
