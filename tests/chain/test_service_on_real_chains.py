"""The whole service on real chains, bought from by the clients that buyers have: every sale ends once, on the chain too."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx
import httpx2
import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from mpp.client.transport import PaymentTransport
from mpp.methods.tempo import TempoAccount
from mpp.methods.tempo import client as tempo_client
from x402 import x402ClientSync
from x402.http.clients.requests import x402_requests
from x402.mechanisms.evm.exact import register_exact_evm_client
from x402.mechanisms.evm.signers import EthAccountSigner

from stablestudio.protocols import tempo
from stablestudio.protocols.evm import EvmKey
from tests.chain.anvil import GAS_KEY, Anvil, packages
from tests.chain.tempo_vectors import RICH_SECRET, TOKEN
from tests.chaos.zygote import ForkedService, Zygote
from tests.npm import install
from tests.service import Buyer

REFUNDS, SHOP = EvmKey.from_hex("0x" + "7e" * 32), "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
PATH, PRICE, FUNDS = "/api/generate/flux-2-pro/generate", 20_000, 5_000_000
BODY = {"prompt": "a lighthouse", "resolution": "0.5 MP"}
DOOMED = BODY | {"prompt": "a lighthouse [sandbox:fail]"}
_MOST_FEES = 5_000
NPM = Path(__file__).parents[1] / "acceptance"


class TempoNode:
    """anvil as a Tempo chain that lives in our time."""

    def __init__(self) -> None:
        binary = next(packages().glob("@foundry-rs/anvil-*/bin/anvil*"))
        kind = ["--network", "tempo", "--hardfork", "T4", "--chain-id", "42431", "--block-base-fee-per-gas", "0"]
        self._process = subprocess.Popen([binary, *kind, "--port", "0"], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        lines = iter(self._process.stdout.readline, "")
        self.url = next(f"http://{found[1]}" for line in lines if (found := re.search(r"Listening on (\S+)", line)))
        self._process.stdout.close()

    def close(self) -> None:
        self._process.kill()
        self._process.wait(10)

    def ask(self, method: str, *parameters: object) -> Any:
        question = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        answer = httpx2.post(self.url, json=question, trust_env=False, timeout=10).json()
        assert "error" not in answer, answer
        return answer["result"]

    def fund(self, address: str, amount: int) -> None:
        call = tempo.TempoCall(
            to=TOKEN, value=0, data=tempo.transfer_with_memo(address.lower(), amount, os.urandom(32))
        )
        signed = tempo.sign(
            EvmKey.from_hex(RICH_SECRET),
            calls=(call,),
            chain_id=42431,
            gas_limit=500_000,
            max_fee_per_gas=0,
            max_priority_fee_per_gas=0,
            valid_before=int(time.time()) + 25,
            fee_token=TOKEN,
        )
        self.ask("eth_sendRawTransactionSync", "0x" + signed.raw.hex())

    def balance(self, address: str) -> int:
        call = {"to": TOKEN, "data": "0x70a08231" + address[2:].lower().rjust(64, "0")}
        return int(self.ask("eth_call", call, "latest"), 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chains:
    evm: Anvil
    tempo: TempoNode


@pytest.fixture(scope="module")
def chains() -> Iterator[Chains]:
    with Anvil(live=True) as evm:
        node = TempoNode()
        evm.fund(REFUNDS.address, FUNDS)
        node.fund(REFUNDS.address, FUNDS)
        yield Chains(evm=evm, tempo=node)
        node.close()


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    process = Zygote()
    yield process
    process.close()


@pytest.fixture
def service(chains: Chains, zygote: Zygote, tmp_path: Path) -> Iterator[ForkedService]:
    keys = {"pay_to": SHOP, "refund_key": REFUNDS.hex()}
    base = {"kind": "x402-evm", "network": "eip155:84532", "rpc": chains.evm.url, "gas_key": GAS_KEY.hex(), **keys}
    path = {"kind": "mpp-tempo", "network": "eip155:42431", "rpc": chains.tempo.url, "tokens": [TOKEN], **keys}
    environment = {
        "STABLESTUDIO_RAILS": json.dumps({"base": base, "tempo": path}),
        "STABLESTUDIO_SANDBOX_DELAY": "0.05",
        "HASTE": "1",
    }
    made = ForkedService(tmp_path / "data", zygote=zygote, environment=environment)
    yield made
    made.kill()


@pytest.fixture
def buyer(chains: Chains) -> LocalAccount:
    account: LocalAccount = Account.create()
    chains.evm.fund(account.address, FUNDS)
    chains.tempo.fund(account.address, FUNDS)
    return account


def _key(account: LocalAccount) -> str:
    return "0x" + bytes(account.key).hex()


def _by_x402(service: ForkedService, buyer: LocalAccount, body: dict[str, Any]) -> int:
    client = register_exact_evm_client(x402ClientSync(), EthAccountSigner(buyer))
    with x402_requests(client) as session:
        session.trust_env = False
        return int(session.post(service.url + PATH, json=body, timeout=60).status_code)


def _by_mpp(service: ForkedService, buyer: LocalAccount, body: dict[str, Any], rpc: str) -> int:
    method = tempo_client.charge(
        account=TempoAccount.from_key(_key(buyer)), rpc_url=rpc, chain_id=42431, currencies=[TOKEN]
    )

    async def buy() -> int:
        transport = PaymentTransport(methods=[method])
        async with httpx.AsyncClient(transport=transport, timeout=60, trust_env=False) as client:
            return (await client.post(service.url + PATH, json=body)).status_code

    return anyio.run(buy)


def _buy(service: ForkedService, chains: Chains, buyer: LocalAccount, rail: str, body: dict[str, Any]) -> int:
    if rail == "x402":
        return _by_x402(service, buyer, body)
    return _by_mpp(service, buyer, body, chains.tempo.url)


def _spent(chains: Chains, buyer: LocalAccount, rail: str) -> int:
    """Return what a buyer has less, but for the fees of Tempo, which are some hundred units a transaction."""
    if rail == "x402":
        return FUNDS - chains.evm.balance(buyer.address)
    spent = FUNDS - chains.tempo.balance(buyer.address)
    return spent - spent % _MOST_FEES


def _ended(service: ForkedService, buyer: LocalAccount) -> dict[str, Any]:
    with Buyer(service.url, key=EvmKey.from_hex(_key(buyer))) as reader:
        (job,) = reader.jobs()
        return reader.wait(job["jobId"], seconds=60)


@pytest.fixture(autouse=True)
def _short_lived(monkeypatch: pytest.MonkeyPatch) -> None:
    # This node mines nothing that stays good for longer than half a minute; the client signs for one.
    monkeypatch.setattr(tempo_client, "EXPIRING_NONCE_VALID_BEFORE_SECS", 25)


RAILS = ["x402", "mpp"]


@pytest.mark.parametrize("rail", RAILS)
def test_a_python_client_pays_the_price_once_on_the_chain(
    service: ForkedService, chains: Chains, buyer: LocalAccount, rail: str
) -> None:
    service.start()
    assert _buy(service, chains, buyer, rail, BODY) == 200
    assert _ended(service, buyer)["status"] == "complete"
    assert _spent(chains, buyer, rail) == PRICE


@pytest.mark.parametrize("rail", RAILS)
def test_a_failed_job_is_paid_back_on_the_chain(
    service: ForkedService, chains: Chains, buyer: LocalAccount, rail: str
) -> None:
    service.start()
    assert _buy(service, chains, buyer, rail, DOOMED) == 200
    job = _ended(service, buyer)
    assert job["payment"]["state"] == "refunded"
    assert job["payment"]["refund"]["transaction"].startswith("0x")
    assert _spent(chains, buyer, rail) == 0


@pytest.mark.parametrize("place", ["sale.claimed", "sale.settled", "sale.committed"])
@pytest.mark.parametrize("rail", RAILS)
def test_a_kill_between_claim_and_answer_costs_nobody_anything(
    service: ForkedService, chains: Chains, buyer: LocalAccount, rail: str, place: str
) -> None:
    service.start(failpoint=place)
    with suppress(Exception):  # the client hears of it in its own way
        _buy(service, chains, buyer, rail, BODY)
    assert service.wait_dead(30) == -signal.SIGKILL
    service.start()
    assert _ended(service, buyer)["status"] == "complete"
    assert _spent(chains, buyer, rail) == PRICE


@pytest.mark.parametrize("place", ["refund.signed", "refund.sent"])
@pytest.mark.parametrize("rail", RAILS)
def test_a_kill_in_the_refund_pays_back_once(
    service: ForkedService, chains: Chains, buyer: LocalAccount, rail: str, place: str
) -> None:
    service.start(failpoint=place)
    assert _buy(service, chains, buyer, rail, DOOMED) == 200
    assert service.wait_dead(30) == -signal.SIGKILL
    service.start()
    assert _ended(service, buyer)["payment"]["state"] == "refunded"
    assert _spent(chains, buyer, rail) == 0


def test_fifty_copies_of_one_payment_are_one_transfer(
    service: ForkedService, chains: Chains, buyer: LocalAccount
) -> None:
    service.start()
    with Buyer(service.url, key=EvmKey.from_hex(_key(buyer))) as client:
        payment = client.sign(PATH, BODY)
        with ThreadPoolExecutor(50) as pool:
            answers = list(pool.map(lambda _: client.pay(PATH, BODY, payment), range(50)))
    assert {answer.status_code for answer in answers} == {200}, answers[0].text
    assert len({answer.content for answer in answers}) == 1
    assert _spent(chains, buyer, "x402") == PRICE


@pytest.mark.npm
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("folder", "rail", "client"), [("npm", "x402", "today"), ("npm_mpp", "mpp", "today"), ("npm_mpp", "mpp", "older")]
)
def test_a_stock_npm_client_pays_the_price_once_on_the_chain(
    service: ForkedService, chains: Chains, buyer: LocalAccount, folder: str, rail: str, client: str
) -> None:
    install(NPM / folder)
    service.start()
    environment = {"BASE": service.url, "PRIVATE_KEY": _key(buyer), "CLIENT": client, "RPC": chains.tempo.url}
    ran = subprocess.run(
        ["node", "buy.mjs"],
        check=False,
        cwd=NPM / folder,
        env={**os.environ, **environment, "BODY": json.dumps(BODY)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["status"] == 200
    assert _spent(chains, buyer, rail) == PRICE
