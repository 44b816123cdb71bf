"""agentcash as it comes from npm, command line and MCP server: it finds the service, pays by either protocol and reads its job."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest

from stablestudio.catalog import OFFERINGS
from stablestudio.protocols.evm import EvmKey
from tests.acceptance.main_networks import BASE_USDC, Tempo, base
from tests.chain.anvil import GAS_KEY, Anvil
from tests.npm import install
from tests.service import Service

NPM = Path(__file__).parent / "npm_agentcash"
PROGRAM = "node_modules/agentcash/dist/esm/index.js"
REFUNDS, SHOP = EvmKey.from_hex("0x" + "7e" * 32), "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
PATH, PRICE, FUNDS = "/api/generate/flux-2-pro/generate", 20_000, 5_000_000
BODY = json.dumps({"prompt": "a lighthouse at dusk", "resolution": "0.5 MP"})
_MOST_FEES = 5_000

pytestmark = [pytest.mark.npm, pytest.mark.timeout(900)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """A service that is paid on the main networks' stand-ins, and a buyer with coins on both."""

    url: str
    base: Anvil
    tempo: Tempo
    buyer: EvmKey
    home: Path

    def environment(self) -> dict[str, str]:
        """What agentcash is started with: a home of its own, and a way out to this machine alone."""
        return {
            **os.environ,
            "HOME": str(self.home),
            "X402_PRIVATE_KEY": self.buyer.hex(),
            "NODE_OPTIONS": f"--import {(NPM / 'loopback.mjs').as_uri()}",
            "TEMPO_RPC": self.tempo.url,
        }

    def run(self, *arguments: str) -> dict[str, Any]:
        """Run a command and return what it tells as JSON."""
        command = ["node", PROGRAM, *arguments, "--format", "json", "--yes"]
        ran = subprocess.run(
            command, cwd=NPM, env=self.environment(), capture_output=True, text=True, timeout=300, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        told: dict[str, Any] = json.loads(ran.stdout)
        return told

    def read(self, poll_url: str) -> dict[str, Any]:
        """Read a job with the wallet's signature until it is complete."""
        return _until_complete(lambda: dict(self.run("fetch", poll_url)["data"]))

    def spent(self, protocol: str) -> int:
        """Return what the buyer has less, but for the fees of Tempo, which are some hundred units a transaction."""
        if protocol == "x402":
            return FUNDS - self.base.balance(self.buyer.address, token=BASE_USDC.contract)
        spent = FUNDS - self.tempo.balance(self.buyer.address)
        return spent - spent % _MOST_FEES


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    install(NPM)
    home, buyer, tempo = tmp_path_factory.mktemp("agentcash"), EvmKey.generate(), Tempo()
    try:
        with base() as chain:
            for address in (buyer.address, REFUNDS.address):
                chain.fund(address, FUNDS, token=BASE_USDC.contract)
                tempo.fund(address, FUNDS)
            with Service(home / "data", environment=_settings(chain, tempo)) as service:
                yield Shop(url=service.url, base=chain, tempo=tempo, buyer=buyer, home=home)
    finally:
        tempo.close()


def _settings(chain: Anvil, tempo: Tempo) -> dict[str, str]:
    keys = {"pay_to": SHOP, "refund_key": REFUNDS.hex()}
    rails = {
        "base": {"kind": "x402-evm", "network": "eip155:8453", "rpc": chain.url, "gas_key": GAS_KEY.hex(), **keys},
        "tempo": {"kind": "mpp-tempo", "network": "eip155:4217", "rpc": tempo.url, **keys},
    }
    return {"STABLESTUDIO_RAILS": json.dumps(rails), "STABLESTUDIO_SANDBOX_DELAY": "0.1"}


def test_it_discovers_every_route_with_its_price(shop: Shop) -> None:
    told = shop.run("discover", shop.url)["data"]
    assert (told["found"], told["source"]) == (True, "openapi")
    sold = {each["path"]: each for each in told["endpoints"] if each.get("authMode") == "paid"}
    assert sold.keys() == {offering.path for offering in OFFERINGS}
    assert sold[PATH]["price"] == "0.02-0.04 USD"
    assert sold[PATH]["protocols"] == ["x402", "mpp"]
    reads = {each["path"] for each in told["endpoints"] if each.get("authMode") == "siwx"}
    assert "/api/jobs/{jobId}" in reads


def test_it_checks_a_route_by_the_document_and_by_asking(shop: Shop) -> None:
    for arguments, source in (((), "openapi"), (("-m", "POST", "-b", BODY), "probe")):
        (result,) = shop.run("check", shop.url + PATH, *arguments)["data"]["results"]
        assert (result["method"], result["source"], result["authMode"]) == ("POST", source, "paid")
        assert result["inputSchema"]["required"] == ["prompt"]


@pytest.mark.parametrize(("protocol", "network"), [("x402", "base"), ("mpp", "tempo")])
def test_the_command_line_pays_once_and_reads_its_job(shop: Shop, protocol: str, network: str) -> None:
    before = shop.spent(protocol)
    bought = shop.run("fetch", shop.url + PATH, "-m", "POST", "-b", BODY, "-p", protocol)
    paid = bought["metadata"]
    assert (paid["protocol"], paid["network"], paid["price"]) == (protocol, network, "$0.02")
    job = shop.read(bought["data"]["pollUrl"])
    assert job["payment"]["transaction"] == paid["payment"]["transactionHash"]
    assert job["payment"]["payer"].lower() == shop.buyer.address.lower()
    assert shop.spent(protocol) - before == PRICE


def test_the_mcp_server_discovers_checks_pays_and_reads(shop: Shop) -> None:
    before = shop.spent("x402")
    with Tools(shop) as tools:
        assert {"discover_api_endpoints", "check_endpoint_schema", "fetch"} <= tools.names()
        found = tools.call("discover_api_endpoints", url=shop.url)
        assert PATH in found[0]
        assert (
            json.loads(tools.call("check_endpoint_schema", url=shop.url + PATH)[0])["results"][0]["authMode"] == "paid"
        )
        order = {"url": shop.url + PATH, "method": "POST", "body": json.loads(BODY), "paymentProtocol": "x402"}
        answer, paid = map(json.loads, tools.call("fetch", **order))
        assert paid["payment"]["success"] is True
        job = _until_complete(lambda: json.loads(tools.call("fetch", url=answer["pollUrl"])[0]))
    assert job["payment"]["transaction"] == paid["payment"]["transactionHash"]
    assert shop.spent("x402") - before == PRICE


class Tools:
    """agentcash's MCP server, spoken to by lines of JSON over its pipes (MCP 2025-06-18, transports, stdio)."""

    def __init__(self, shop: Shop) -> None:
        command = ["node", PROGRAM, "server"]
        self._process = subprocess.Popen(
            command,
            cwd=NPM,
            env=shop.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._ids = itertools.count(1)

    def __enter__(self) -> Self:
        client = {"name": "a-test", "version": "1"}
        self._ask("initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo=client)
        self._send({"method": "notifications/initialized"})
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate(timeout=30)

    def names(self) -> set[str]:
        return {tool["name"] for tool in self._ask("tools/list")["tools"]}

    def call(self, name: str, **arguments: Any) -> list[str]:
        """Call a tool; return the texts of its answer."""
        answer = self._ask("tools/call", name=name, arguments=arguments)
        assert not answer.get("isError"), answer
        return [part["text"] for part in answer["content"]]

    def _ask(self, method: str, **parameters: Any) -> Any:
        number = next(self._ids)
        self._send({"id": number, "method": method, "params": parameters})
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            if told.get("id") == number:
                assert "error" not in told, told
                return told["result"]
        raise AssertionError("the MCP server has ended")

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        self._process.stdin.flush()


def _until_complete(read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        job = read()
        if job["status"] in {"complete", "failed"}:
            assert job["status"] == "complete", job
            return job
    raise AssertionError("the job did not finish within a minute")
