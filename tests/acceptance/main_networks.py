"""Base and Tempo under the ids of the main networks, on the loopback: some clients pay nowhere else."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2

from stablestudio.protocols import tempo
from stablestudio.protocols.eip3009 import TokenDomain
from stablestudio.protocols.eip3009_calls import address_word
from stablestudio.protocols.evm import EvmKey, keccak256
from stablestudio.rail_settings import PATH_USD, USDC_E
from tests.chain.anvil import Anvil, packages

BASE_ID, TEMPO_ID = 8453, 4217
BASE_USDC = TokenDomain(
    name="USD Coin", version="2", chain_id=BASE_ID, contract="0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"
)
_RICH = EvmKey.from_hex("0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")  # anvil's first account
_FEES, _ALPHA_USD = "0xfeec000000000000000000000000000000000000", "0x20c0000000000000000000000000000000000001"
_POOLS = 3  # the slot of the table of pools, by the two tokens


@contextmanager
def base() -> Iterator[Anvil]:
    """Base, with its USDC."""
    with Anvil(live=True, chain_id=BASE_ID) as chain:
        chain.put_token(BASE_USDC)
        yield chain


class Tempo:
    """Tempo, with USDC.e as a copy of the node's own dollar."""

    def __init__(self) -> None:
        binary = next(packages().glob("@foundry-rs/anvil-*/bin/anvil*"))
        kind = ["--network", "tempo", "--hardfork", "T4", "--chain-id", str(TEMPO_ID), "--block-base-fee-per-gas", "0"]
        self._process = subprocess.Popen([binary, *kind, "--port", "0"], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        lines = iter(self._process.stdout.readline, "")
        self.url = next(f"http://{found[1]}" for line in lines if (found := re.search(r"Listening on (\S+)", line)))
        self._process.stdout.close()  # a full pipe would stop it
        state = json.loads(gzip.decompress(bytes.fromhex(self.ask("anvil_dumpState")[2:])))["accounts"]
        self.ask("anvil_setCode", USDC_E, "0xef")
        for slot, value in state[PATH_USD]["storage"].items():
            self.ask("anvil_setStorageAt", USDC_E, slot, value)
        # A fee in one dollar is changed into the block maker's, out of a pool of the two.
        pool = state[_FEES]["storage"][_pool(_ALPHA_USD)]
        self.ask("anvil_setStorageAt", _FEES, _pool(USDC_E), pool)

    def close(self) -> None:
        self._process.kill()
        self._process.wait(10)

    def ask(self, method: str, *parameters: object) -> Any:
        question = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        answer = httpx2.post(self.url, json=question, trust_env=False, timeout=30).json()
        assert "error" not in answer, answer
        return answer["result"]

    def fund(self, address: str, amount: int) -> None:
        """Give an address USDC.e, and the node's own dollar: it lets nobody in who holds none of that."""
        calls = [
            tempo.TempoCall(to=token, value=0, data=tempo.transfer_with_memo(address.lower(), amount, os.urandom(32)))
            for token in (USDC_E, PATH_USD)
        ]
        signed = tempo.sign(
            _RICH,
            calls=tuple(calls),
            chain_id=TEMPO_ID,
            gas_limit=1_000_000,
            max_fee_per_gas=0,
            max_priority_fee_per_gas=0,
            valid_before=int(time.time()) + 25,
            fee_token=PATH_USD,
        )
        self.ask("eth_sendRawTransactionSync", "0x" + signed.raw.hex())

    def balance(self, address: str) -> int:
        call = {"to": USDC_E, "data": "0x70a08231" + address[2:].lower().rjust(64, "0")}
        return int(self.ask("eth_call", call, "latest"), 16)


def _pool(token: str) -> str:
    """Return where the exchange of fees keeps its pool of a token and pathUSD."""
    name = keccak256(address_word(token) + address_word(PATH_USD))
    return "0x" + keccak256(name + _POOLS.to_bytes(32)).hex()
