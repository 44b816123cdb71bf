"""A real Tempo EVM on the loopback."""

from __future__ import annotations

import itertools
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import httpx2

from stablestudio.protocols import tempo
from tests.chain.anvil import NOW, packages
from tests.chain.tempo_vectors import CHAIN, FAILED, FUNDS, MINED, REFUSED, RICH_SECRET, TOKEN, signed, transfer
from tests.doubles import BUYER


class Node:
    """anvil as a Tempo chain without a base fee, whose time stands still and that mines when it is told to."""

    def __init__(self) -> None:
        binary = next(packages().glob("@foundry-rs/anvil-*/bin/anvil*"))
        kind = ["--network", "tempo", "--hardfork", "T4", "--chain-id", str(CHAIN), "--block-base-fee-per-gas", "0"]
        rest = ["--port", "0", "--timestamp", str(NOW), "--accounts", "1", "--no-mining"]
        self._process = subprocess.Popen([binary, *kind, *rest], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        lines = iter(self._process.stdout.readline, "")
        self._url = next(f"http://{found[1]}" for line in lines if (found := re.search(r"Listening on (\S+)", line)))
        self._process.stdout.close()  # a full pipe would stop it
        self._http = httpx2.Client(trust_env=False, timeout=10)
        self._ids = itertools.count(1)

    def __enter__(self) -> Self:
        self.ask("anvil_setBlockTimestampInterval", 0)
        self.move_to(NOW)
        assert self.send(signed(transfer(BUYER.address, FUNDS), key=RICH_SECRET)) == MINED
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()
        self._process.kill()
        self._process.wait(10)

    def try_to(self, method: str, *parameters: object) -> Any:
        question = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": parameters}
        return self._http.post(self._url, json=question).json()

    def ask(self, method: str, *parameters: object) -> Any:
        answer = self.try_to(method, *parameters)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def send(self, raw: bytes) -> str:
        answer = self.try_to("eth_sendRawTransaction", "0x" + raw.hex())
        if "error" in answer:
            return REFUSED
        assert answer["result"] == tempo.decode(raw).hash
        self.ask("anvil_mine", "0x1")
        receipt = self.ask("eth_getTransactionReceipt", answer["result"])
        if receipt is None:
            return REFUSED  # it waits for what may never come, where the ledger lets nothing wait
        return MINED if receipt["status"] == "0x1" else FAILED

    def balance(self, address: str) -> int:
        call = {"to": TOKEN, "data": "0x70a08231" + address[2:].lower().rjust(64, "0")}
        return int(self.ask("eth_call", call, "latest"), 16)

    def move_to(self, timestamp: int) -> None:
        self.ask("evm_setNextBlockTimestamp", timestamp)
        self.ask("anvil_mine", "0x1")

    @contextmanager
    def undone(self) -> Iterator[Self]:
        """Forget afterwards whatever happened inside."""
        snapshot = self.ask("evm_snapshot")
        try:
            yield self
        finally:
            self.ask("anvil_dropAllTransactions")
            assert self.ask("evm_revert", snapshot)
