"""The MPP clients that buyers already have, unmodified: mppx of three generations, its command line, and pympp."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from mpp.client.transport import PaymentTransport
from mpp.methods.tempo import TempoAccount
from mpp.methods.tempo.client import charge

from stablestudio.rail_settings import PATH_USD, USDC_E
from tests.npm import install
from tests.service import Service

NPM = Path(__file__).parent / "npm_mpp"
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


def _node(*command: str, **environment: str) -> str:
    ran = subprocess.run(
        ["node", *command],
        check=False,
        cwd=NPM,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr + ran.stdout
    return ran.stdout


def _key(account: LocalAccount) -> str:
    return "0x" + bytes(account.key).hex()


def _buy(studio: Service, buyer: LocalAccount, *, client: str, read: bool) -> dict[str, Any]:
    environment = {"BASE": studio.url, "PRIVATE_KEY": _key(buyer), "CLIENT": client, "BODY": json.dumps(BODY)}
    bought: dict[str, Any] = json.loads(_node("buy.mjs", **environment, READ="1" if read else ""))
    return bought


@pytest.mark.npm
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("client", ["today", "middle"])
def test_mppx_pays_once_and_its_proofs_read_the_job(studio: Service, buyer: LocalAccount, client: str) -> None:
    sale = _buy(studio, buyer, client=client, read=True)
    assert (sale["status"], sale["paid"]) == (200, 1)
    assert sale["receipt"]["status"] == "success"
    job = sale["job"]
    assert job["status"] == "complete"
    assert job["payment"]["transaction"] == sale["receipt"]["reference"]
    assert (job["payment"]["asset"], job["payment"]["payer"].lower()) == (USDC_E, buyer.address.lower())


@pytest.mark.npm
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("packages")
def test_the_mppx_inside_agentcash_pays_although_it_sends_opaque_as_an_object(
    studio: Service, buyer: LocalAccount
) -> None:
    sale = _buy(studio, buyer, client="older", read=False)
    assert (sale["status"], sale["paid"]) == (200, 1)
    assert sale["receipt"]["status"] == "success"


@pytest.mark.npm
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("packages")
def test_a_proof_of_the_first_version_which_names_no_realm_reads_nothing(studio: Service, buyer: LocalAccount) -> None:
    refused = _buy(studio, buyer, client="older", read=True)["job"]
    assert (refused["status"], refused["code"], refused["charged"]) == (402, "proof_refused", False)


@pytest.mark.npm
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("package", ["mppx", "middle-mppx"])
def test_the_command_line_of_mppx_buys(studio: Service, buyer: LocalAccount, package: str) -> None:
    printed = _node(
        f"node_modules/{package}/dist/bin.js",
        studio.url + PATH,
        "--json-body",
        json.dumps(BODY),
        "--rpc-url",
        f"{studio.url}/rpc/tempo",
        "--silent",
        MPPX_PRIVATE_KEY=_key(buyer),
    )
    answer = json.loads(printed)
    assert (answer["success"], answer["status"]) == (True, "pending")


@pytest.mark.parametrize("token", [USDC_E, PATH_USD])
def test_pympp_pays_in_either_token(studio: Service, buyer: LocalAccount, token: str) -> None:
    bought = _by_pympp(studio, buyer, token, PATH, BODY)
    assert bought.status_code == 200, bought.text
    assert "payment-receipt" in bought.headers


def test_pympp_buys_a_picture_in_the_shape_of_openai(studio: Service, buyer: LocalAccount) -> None:
    wish = {"model": "flux-2-pro", "prompt": "a fox", "size": "1024x1024"}
    bought = _by_pympp(studio, buyer, PATH_USD, "/v1/images/generations", wish)
    assert bought.status_code == 200, bought.text
    assert "payment-receipt" in bought.headers
    assert bought.json()["payment"]["payer"].lower() == buyer.address.lower()
    assert httpx.get(bought.json()["data"][0]["url"], trust_env=False).status_code == 200


def _by_pympp(studio: Service, buyer: LocalAccount, token: str, path: str, body: dict[str, Any]) -> httpx.Response:
    method = charge(
        account=TempoAccount.from_key(_key(buyer)),
        rpc_url=f"{studio.url}/rpc/tempo",
        chain_id=42431,
        currencies=[token],
    )

    async def buy() -> httpx.Response:
        async with httpx.AsyncClient(
            transport=PaymentTransport(methods=[method]), timeout=60, trust_env=False
        ) as client:
            return await client.post(studio.url + path, json=body)

    return anyio.run(buy)
