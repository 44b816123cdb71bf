"""The clients that buyers already have, unmodified: the x402 SDK of today and of last year from npm, and the one in Python."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount
from x402 import x402ClientSync
from x402.http.clients.requests import x402_requests
from x402.mechanisms.evm.exact import register_exact_evm_client
from x402.mechanisms.evm.signers import EthAccountSigner

from tests.npm import install
from tests.service import Service

NPM = Path(__file__).parent / "npm"
PATH = "/api/generate/flux-2-pro/generate"
BODY = {"prompt": "a lighthouse at dusk", "resolution": "0.5 MP"}


@pytest.fixture
def buyer(studio: Service) -> LocalAccount:
    account: LocalAccount = Account.create()
    studio.fund(account.address)
    return account


@pytest.fixture(scope="session")
def packages() -> Path:
    """The npm packages, installed by name where they are not there yet."""
    install(NPM)
    return NPM


def _node(script: str, **environment: str) -> dict[str, Any]:
    ran = subprocess.run(
        ["node", script],
        check=False,
        cwd=NPM,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    printed: dict[str, Any] = json.loads(ran.stdout)
    return printed


def _buy(studio: Service, buyer: LocalAccount, *, client: str = "today", **body: Any) -> dict[str, Any]:
    return _node("buy.mjs", BASE=studio.url, PRIVATE_KEY=_key(buyer), CLIENT=client, BODY=json.dumps({**BODY, **body}))


def _key(account: LocalAccount) -> str:
    return "0x" + bytes(account.key).hex()


def _check_sale(receipt: dict[str, Any], job: dict[str, Any], *, buyer: LocalAccount) -> None:
    assert receipt["success"] is True
    assert receipt["payer"].lower() == buyer.address.lower()
    assert job["status"] == "complete"
    assert job["payment"]["transaction"] == receipt["transaction"]
    assert job["result"]["imageUrl"].startswith("http://127.0.0.1:")


@pytest.mark.npm
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("client", ["today", "older"])
def test_a_stock_npm_client_buys_reads_and_downloads_with_one_payment(
    studio: Service, buyer: LocalAccount, client: str
) -> None:
    sale = _buy(studio, buyer, client=client)

    assert sale["status"] == 200
    assert sale["payments"] == 1
    assert sale["proofs"] >= 1
    assert sale["contentType"].startswith("image/")
    assert sale["bytes"] > 1_000
    _check_sale(sale["receipt"], sale["job"], buyer=buyer)


@pytest.mark.npm
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("client", ["today", "older"])
def test_a_stock_npm_client_that_knows_an_older_address_buys(studio: Service, buyer: LocalAccount, client: str) -> None:
    older = PATH.replace("/api/generate/", "/api/x402/")
    sale = _node("buy.mjs", BASE=studio.url, PRIVATE_KEY=_key(buyer), CLIENT=client, ROUTE=older, BODY=json.dumps(BODY))

    assert (sale["status"], sale["payments"]) == (200, 1)
    _check_sale(sale["receipt"], sale["job"], buyer=buyer)


@pytest.mark.npm
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("packages")
def test_a_stock_npm_client_is_told_of_a_wrong_field_and_pays_nothing(studio: Service, buyer: LocalAccount) -> None:
    refused = _buy(studio, buyer, resolutoin="1 MP")

    assert refused["status"] == 400
    assert refused["payments"] == 0
    assert refused["answer"]["charged"] is False
    assert [issue["path"] for issue in refused["answer"]["issues"]] == [["resolutoin"]]


@pytest.mark.npm
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("packages")
def test_a_proof_in_the_older_library_form_without_port_reads_the_job(studio: Service, buyer: LocalAccount) -> None:
    url = _buy(studio, buyer)["answer"]["pollUrl"]

    proof = _node("prove.mjs", URL=url, PRIVATE_KEY=_key(buyer))
    read = httpx2.get(url, headers={"SIGN-IN-WITH-X": proof["header"]}, trust_env=False)

    assert proof["domain"] == "127.0.0.1"
    assert proof["verdict"] == {"valid": True}
    assert read.status_code == 200, read.text


@pytest.mark.npm
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("packages")
def test_a_proof_of_another_wallet_does_not_read_the_job(studio: Service, buyer: LocalAccount) -> None:
    url = _buy(studio, buyer)["answer"]["pollUrl"]

    proof = _node("prove.mjs", URL=url, PRIVATE_KEY=_key(Account.create()))
    read = httpx2.get(url, headers={"SIGN-IN-WITH-X": proof["header"]}, trust_env=False)

    assert read.status_code == 403
    assert read.json()["success"] is False


def test_the_python_sdk_buys_and_its_wallet_reads_the_job(studio: Service, buyer: LocalAccount) -> None:
    client = register_exact_evm_client(x402ClientSync(), EthAccountSigner(buyer))
    with x402_requests(client) as session:
        session.trust_env = False
        bought = session.post(studio.url + PATH, json=BODY)
    receipt = json.loads(base64.b64decode(bought.headers["payment-response"]))

    job = _wait(bought.json()["pollUrl"], buyer=buyer)
    picture = httpx2.get(job["result"]["imageUrl"], trust_env=False)

    assert bought.status_code == 200
    assert picture.headers["content-type"].startswith("image/")
    _check_sale(receipt, job, buyer=buyer)


def _wait(url: str, *, buyer: LocalAccount) -> dict[str, Any]:
    """Read the job with one proof, signed once, until it is finished."""
    header = _sign_in(httpx2.get(url, trust_env=False).json(), buyer=buyer)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        read = httpx2.get(url, headers={"SIGN-IN-WITH-X": header}, trust_env=False)
        assert read.status_code == 200, read.text
        job: dict[str, Any] = read.json()
        if job["status"] in {"complete", "failed"}:
            return job
        time.sleep(0.2)
    raise AssertionError("the job did not finish within a minute")


def _sign_in(challenge: dict[str, Any], *, buyer: LocalAccount) -> str:
    extension = challenge["extensions"]["sign-in-with-x"]
    chain = next(chain for chain in extension["supportedChains"] if chain["type"] == "eip191")
    proof = {**extension["info"], **chain, "address": buyer.address}
    signed = buyer.sign_message(encode_defunct(text=_siwe(proof)))
    proof["signature"] = "0x" + bytes(signed.signature).hex()
    return base64.b64encode(json.dumps(proof).encode()).decode()


def _siwe(proof: dict[str, Any]) -> str:
    """EIP-4361, its optional lines only where the challenge has them."""
    lines = [
        f"{proof['domain']} wants you to sign in with your Ethereum account:\n{proof['address']}\n",
        *([proof["statement"]] if "statement" in proof else []),
        "",
        f"URI: {proof['uri']}",
        f"Version: {proof['version']}",
        f"Chain ID: {proof['chainId'].split(':')[1]}",
        f"Nonce: {proof['nonce']}",
        f"Issued At: {proof['issuedAt']}",
        *([f"Expiration Time: {proof['expirationTime']}"] if "expirationTime" in proof else []),
        *(["Resources:", *(f"- {resource}" for resource in proof["resources"])] if "resources" in proof else []),
    ]
    return "\n".join(lines)
