"""A real EVM on the loopback, with a dollar token where the real one lives, and the powers that only a test chain gives."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import httpx2

from stablestudio.protocols import eip3009
from stablestudio.protocols.eip3009 import Authorization, TokenDomain
from stablestudio.protocols.eip3009_calls import TRANSFER, address_word, balance_call, transfer_call
from stablestudio.protocols.evm import EvmKey, keccak256
from tests.doubles import NOW_MS, USDC
from tests.npm import install

HERE = Path(__file__).parent
NOW = NOW_MS // 1000
GAS_KEY = EvmKey.from_hex("0x" + "9a" * 32)
# The first accounts of anvil's public mnemonic, which it signs for itself.
STRANGER = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
_BALANCES, _ETHER = 3, 10**18
_CANCEL_TYPE = keccak256(b"CancelAuthorization(address authorizer,bytes32 nonce)")


def packages() -> Path:
    """Return the folder of Node's packages, with anvil and solc in it."""
    return install(HERE)


def runtime(contract: str) -> str:
    """Return a contract's committed bytecode."""
    code: str = json.loads((HERE / "contracts" / "artifact.json").read_text())["runtime"][contract]
    return code


class Anvil:
    """A chain with Base Sepolia's id, whose time stands still at `NOW` until it is moved; a `live` one has our time."""

    def __init__(self, *, live: bool = False, chain_id: int = USDC.chain_id) -> None:
        binary = next(packages().glob("@foundry-rs/anvil-*/bin/anvil*"))
        self._live = live
        # A live chain's clock goes on while nobody sends anything, as everywhere.
        time = ["--block-time", "5", "--mixed-mining"] if live else ["--timestamp", str(NOW)]
        options = ["--port", "0", "--chain-id", str(chain_id), *time, "--accounts", "2"]
        self._process = subprocess.Popen(
            [binary, *options, "--block-base-fee-per-gas", "1000000"], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        lines = iter(self._process.stdout.readline, "")
        self.url = next(f"http://{found[1]}" for line in lines if (found := re.search(r"Listening on (\S+)", line)))
        # What it prints from now on is not read, and a full pipe would stop it.
        self._process.stdout.close()
        self._http = httpx2.Client(trust_env=False, timeout=10)
        self._ids = itertools.count(1)
        self._mines = True

    def __enter__(self) -> Self:
        self.put_token()
        self.ask("anvil_setBalance", GAS_KEY.address, hex(_ETHER))
        # Calls on the genesis block see another time, so that nobody may be served before there is a second one.
        if self._live:
            self.mine()
        else:
            self.ask("anvil_setBlockTimestampInterval", 0)
            self.move_to(NOW)
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()
        self._process.kill()
        self._process.wait(10)

    def ask(self, method: str, *parameters: object) -> Any:
        question = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": parameters}
        answer = self._http.post(self.url, json=question).json()
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Forget afterwards whatever happened inside."""
        snapshot = self.ask("evm_snapshot")
        try:
            yield
        finally:
            self.automine(on=True)
            self.ask("anvil_dropAllTransactions")
            assert self.ask("evm_revert", snapshot)

    def put_token(self, domain: TokenDomain = USDC) -> None:
        """Put the token at an address, USDC's by default, under its name and version."""
        self.put("Token", domain.contract)
        for slot, text in enumerate((domain.name, "USDC", domain.version)):
            self.store(slot, text.encode().ljust(31, b"\0") + bytes((2 * len(text),)), at=domain.contract)

    def put(self, contract: str, address: str) -> None:
        self.ask("anvil_setCode", address, runtime(contract))

    def put_wallet(self, address: str, *, owner: str) -> None:
        """Put a contract wallet somewhere."""
        self.put("OwnedWallet", address)
        self.store(0, address_word(owner), at=address)

    def store(self, slot: int, value: bytes, *, at: str = USDC.contract) -> None:
        self.ask("anvil_setStorageAt", at, f"0x{slot:064x}", "0x" + value.hex())

    def fund(self, address: str, amount: int, *, token: str = USDC.contract) -> None:
        """Make a balance so much."""
        slot = int.from_bytes(keccak256(address_word(address) + _BALANCES.to_bytes(32)))
        self.store(slot, amount.to_bytes(32), at=token)

    def balance(self, address: str, *, token: str = USDC.contract) -> int:
        data = balance_call(address).hex()
        return int(self.ask("eth_call", {"to": token, "data": "0x" + data}, "latest"), 16)

    def send(self, data: bytes, *, to: str = USDC.contract, **fields: str) -> str:
        """Let a stranger send a transaction; return its hash."""
        call = {"from": STRANGER, "to": to, "data": "0x" + data.hex(), "gas": hex(500_000), **fields}
        transaction: str = self.ask("eth_sendTransaction", call)
        while self._mines and self.ask("eth_getTransactionReceipt", transaction) is None:
            pass  # it is mined a moment after the answer
        return transaction

    def transfer(self, authorization: Authorization, signature: bytes, **fields: str) -> str:
        """Let a stranger submit an authorization."""
        return self.send(transfer_call(authorization, signature), **fields)

    def cancel(self, key: EvmKey, nonce: bytes) -> str:
        """Let the owner of an authorization cancel it, sent by a stranger."""
        struct = keccak256(_CANCEL_TYPE + address_word(key.address) + nonce)
        signature = key.sign_digest(keccak256(b"\x19\x01" + eip3009.separator(USDC) + struct))
        selector = keccak256(b"cancelAuthorization(address,bytes32,uint8,bytes32,bytes32)")[:4]
        tail = signature[64].to_bytes(32) + signature[:64]
        return self.send(selector + address_word(key.address) + nonce + tail)

    def bundle(self, calls: list[bytes]) -> str:
        """Let a stranger make several calls of the token in one transaction."""
        batch = "0x" + "ba" * 20
        self.put("Batch", batch)
        selector = keccak256(b"run(address,bytes[])")[:4]
        head = address_word(USDC.contract) + (64).to_bytes(32) + len(calls).to_bytes(32)
        bodies = [len(call).to_bytes(32) + call + bytes(-len(call) % 32) for call in calls]
        starts = itertools.accumulate((len(body) for body in bodies[:-1]), initial=32 * len(calls))
        data = selector + head + b"".join(start.to_bytes(32) for start in starts) + b"".join(bodies)
        return self.send(data, to=batch)

    def automine(self, *, on: bool) -> None:
        """Mine each transaction at once, or only when told to."""
        self.ask("evm_setAutomine", on)
        self._mines = on

    def mine(self, blocks: int = 1) -> None:
        self.ask("anvil_mine", hex(blocks))

    def move_to(self, timestamp: int) -> None:
        """Mine a block at that time; later ones have it too."""
        self.ask("evm_setNextBlockTimestamp", timestamp)
        self.mine()

    def transfers(self) -> list[str]:
        """Return the transactions of all transfers of the token so far."""
        logs = self.ask("eth_getLogs", {"address": USDC.contract, "topics": [TRANSFER], "fromBlock": "0x0"})
        return [log["transactionHash"] for log in logs]

    def failures(self) -> int:
        """Count the transactions that were mined and failed: gas paid for nothing."""
        height = int(self.ask("eth_blockNumber"), 16)
        receipts = [
            receipt for block in range(height + 1) for receipt in self.ask("eth_getBlockReceipts", hex(block)) or []
        ]
        return sum(receipt["status"] == "0x0" for receipt in receipts)
