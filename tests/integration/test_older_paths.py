"""Addresses of earlier days lead on to today's, with method, body and payment."""

from __future__ import annotations

import pytest
from eth_account import Account
from x402 import x402ClientSync
from x402.http.clients.requests import x402_requests
from x402.mechanisms.evm.exact import register_exact_evm_client
from x402.mechanisms.evm.signers import EthAccountSigner

from stablestudio.catalog import OFFERINGS
from tests.service import Buyer, Service

BODY = {"prompt": "a fox", "imageSize": "512"}
GENERATE = "/api/x402/nano-banana/generate"


def test_each_route_has_its_older_address(pauper: Buyer) -> None:
    for offering in OFFERINGS:
        answer = pauper.http.post(f"/api/x402/{offering.key}", json=offering.input.example)
        assert (answer.status_code, answer.headers["location"]) == (308, offering.path)
        assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    ("older", "today"),
    [
        ("/api/x402/jobs?limit=3", "/api/jobs?limit=3"),
        ("/api/x402/jobs/job_x", "/api/jobs/job_x"),
        ("/api/x402/jobs/job_x/events", "/api/jobs/job_x/events"),
        ("/api/x402/uploads", "/api/upload"),
        ("/api/x402/uploads/confirm", "/api/upload/confirm"),
        ("/api/x402/jobs/a%0d%0ab%ff", "/api/jobs/a%0D%0Ab%EF%BF%BD"),
    ],
)
def test_what_is_beside_the_routes_moved_too(pauper: Buyer, older: str, today: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        answer = pauper.http.request(method, older)
        assert (answer.status_code, answer.headers["location"]) == (308, today)


def test_a_browser_may_ask_before_it_follows(pauper: Buyer) -> None:
    answer = pauper.http.options(GENERATE, headers={"origin": "https://shop.example"})
    assert answer.status_code == 204
    assert "POST" in answer.headers["access-control-allow-methods"]


def test_what_never_was_leads_nowhere(pauper: Buyer) -> None:
    answer = pauper.http.post("/api/x402/nano-banana/paint", json=BODY)
    assert (answer.status_code, answer.json()["code"]) == (404, "route_not_found")


def test_a_stock_client_that_knows_the_older_address_buys(studio: Service) -> None:
    account = Account.create()
    studio.fund(account.address)
    client = register_exact_evm_client(x402ClientSync(), EthAccountSigner(account))
    with x402_requests(client) as session:
        session.trust_env = False
        bought = session.post(studio.url + GENERATE, json=BODY)
    assert bought.status_code == 200, bought.text
    assert bought.json()["jobId"].startswith("job_")
