"""Cancelling over HTTP: by the payer's own signature, once each, with the money rule told and kept."""

from __future__ import annotations

from typing import Any

import httpx2

from stablestudio.protocols import siwx
from tests.service import Buyer, Service

PATH = "/api/generate/nano-banana/generate"
SLOW = {"prompt": "a cat [sandbox:delay=3600]", "imageSize": "512"}
STUBBORN = {"prompt": "a cat [sandbox:delay=3][sandbox:stubborn]", "imageSize": "512"}
FUNDS, PRICE = 100_000_000, 45_000


def _cancel(buyer: Buyer, job_id: str) -> httpx2.Response:
    return buyer.http.post(f"/api/jobs/{job_id}/cancel", headers=_proof(buyer, job_id))


def _proof(buyer: Buyer, job_id: str) -> dict[str, str]:
    challenge = buyer.http.post(f"/api/jobs/{job_id}/cancel")
    assert (challenge.status_code, challenge.json()["code"]) == (402, "siwx_missing")
    extension: Any = challenge.json()["extensions"]["sign-in-with-x"]
    return {"SIGN-IN-WITH-X": siwx.sign(extension, buyer.key, origin=buyer.url)}


def _loading(buyer: Buyer, body: dict[str, Any]) -> str:
    job_id = buyer.buy(PATH, body)
    while buyer.job(job_id)["status"] == "pending":
        path = f"/api/jobs/{job_id}"
        buyer.http.get(path, headers=buyer.proof(path) | {"Prefer": "wait=1"})
    return job_id


def test_a_cancelled_job_is_paid_back_in_full(buyer: Buyer) -> None:
    job_id = _loading(buyer, SLOW)
    answer = _cancel(buyer, job_id)
    told = answer.json()
    assert (answer.status_code, told["status"], told["errorCode"]) == (200, "failed", "cancelled")
    assert buyer.wait(job_id)["payment"]["state"] == "refunded"
    assert buyer.balance() == FUNDS
    assert _cancel(buyer, job_id).status_code == 200  # a cancelled job stays cancelled


def test_a_vendor_that_goes_on_is_told_as_such_and_charged(buyer: Buyer) -> None:
    job_id = _loading(buyer, STUBBORN)
    answer = _cancel(buyer, job_id)
    told = answer.json()
    assert (answer.status_code, told["code"], told["charged"]) == (409, "cancel_too_late", True)
    assert buyer.wait(job_id)["status"] == "complete"
    assert _cancel(buyer, job_id).json()["code"] == "cancel_too_late"
    assert buyer.balance() == FUNDS - PRICE


def test_a_cancel_takes_a_proof_of_its_own_once(buyer: Buyer, studio: Service) -> None:
    answer = buyer.pay(PATH, SLOW, buyer.sign(PATH, SLOW))
    job_id = answer.json()["jobId"]
    path = f"/api/jobs/{job_id}/cancel"
    token = {"Authorization": f"Bearer {answer.headers['poll-token']}"}
    assert buyer.http.post(path, headers=token).json()["code"] == "siwx_missing"
    assert buyer.http.post(path, headers=buyer.proof(f"/api/jobs/{job_id}")).json()["code"] == "siwx_uri_mismatch"
    assert buyer.http.get(path).status_code == 405
    with Buyer(studio.url) as stranger:
        assert _cancel(stranger, job_id).json()["code"] == "not_your_job"
    assert buyer.job(job_id)["status"] in ("pending", "loading")
    proof = _proof(buyer, job_id)
    assert buyer.http.post(path, headers=proof).status_code in (200, 409)  # 409 while it is being handed over
    assert buyer.http.post(path, headers=proof).json()["code"] == "siwx_nonce_used"
