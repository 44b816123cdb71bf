"""The real service in a process of its own: started, killed and restarted by tests; and a plain buyer of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, Self

import httpx2
import sqlalchemy as sa

from stablestudio.protocols import siwx, x402
from stablestudio.protocols.evm import EvmKey
from stablestudio.store import migrate

_READY_SECONDS = 120.0
_USDC = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"


class Process(Protocol):
    """What is needed of a started process; `subprocess.Popen` is one."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, sig: int) -> None: ...


class Service:
    """`stablestudio serve` on a free port of the loopback."""

    def __init__(self, data: Path, *, environment: dict[str, str] | None = None) -> None:
        self.data = data
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = dict(environment or {})
        self._process: Process | None = None
        self.log = data.parent / f"{data.name}-{self.port}.log"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *, failpoint: str | None = None, wait: bool = True) -> None:
        """Start the process; with a failpoint it will kill itself there."""
        assert not self.alive, "it runs already"
        environment = {key: value for key, value in os.environ.items() if not key.startswith("STABLESTUDIO_")}
        environment |= self.environment
        if failpoint is not None:
            environment["STABLESTUDIO_FAILPOINT"] = failpoint
        self._process = self._spawn(environment)
        if wait:
            self._wait_ready()

    @property
    def arguments(self) -> list[str]:
        """The command line after the program's name."""
        return ["serve", "--port", str(self.port), "--data", str(self.data)]

    def _spawn(self, environment: dict[str, str]) -> Process:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "stablestudio", *self.arguments]
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def stop(self) -> None:
        """End the process as an operator does."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the process as a power cut does."""
        self._end(signal.SIGKILL)

    def wait_dead(self, seconds: float = 30.0) -> int:
        """Wait until the process has ended by itself; return its exit status."""
        assert self._process is not None
        return self._process.wait(seconds)

    @property
    def database(self) -> Path:
        return self.data / "stablestudio.db"

    @property
    def books(self) -> str:
        """The URL of the database."""
        return self.environment.get("STABLESTUDIO_DATABASE") or f"sqlite:///{self.database}"

    def sql(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        """Look into the database of the running service, or change it; values are named in the statement as `:name`."""
        with migrate.bare_engine(self.books).begin() as connection:
            answer = connection.execute(sa.text(statement), values)
            return [tuple(row) for row in answer] if answer.returns_rows else []

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def fund(self, address: str) -> None:
        """Give an address test money."""
        httpx2.post(f"{self.url}/faucet", json={"address": address}, trust_env=False).raise_for_status()

    def _end(self, sent: signal.Signals) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(sent)
        self._process.wait(30)

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline:
            assert self._process is not None
            if self._process.poll() is not None:
                raise AssertionError(f"the service ended at its start:\n{self.log.read_text()[-4000:]}")
            try:
                if httpx2.get(f"{self.url}/health", trust_env=False, timeout=2).status_code == 200:
                    return
            except httpx2.TransportError:
                time.sleep(0.05)
        raise AssertionError(f"the service did not get ready:\n{self.log.read_text()[-4000:]}")


def settled_part(required: x402.PaymentRequired) -> x402.PaymentRequired:
    """Return a challenge without what is new in each, the memos of Solana."""
    offers = [replace(offer, extra={**offer.extra, "memo": None}) for offer in required.accepts]
    return replace(required, accepts=offers)


class Buyer:
    """A wallet that speaks plain HTTP to the service, each step by itself."""

    def __init__(self, url: str, *, key: EvmKey | None = None) -> None:
        self.url = url
        self.key = key or EvmKey.generate()
        self.http = httpx2.Client(base_url=url, trust_env=False, timeout=30)
        self._proofs: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def fund(self) -> Self:
        self.http.post("/faucet", json={"address": self.key.address}).raise_for_status()
        return self

    def challenge(self, path: str, body: dict[str, Any]) -> x402.PaymentRequired:
        answer = self.http.post(path, json=body)
        assert answer.status_code == 402, answer.text
        return x402.decode_required(answer.headers["PAYMENT-REQUIRED"])

    def sign(self, path: str, body: dict[str, Any], **options: Any) -> str:
        """Return a PAYMENT-SIGNATURE for this body."""
        required = self.challenge(path, body)
        payment = x402.sign_exact(required, required.accepts[0], self.key, now_s=int(time.time()), **options)
        return x402.encode_payment(payment)

    def pay(self, path: str, body: dict[str, Any], payment: str, **headers: str) -> httpx2.Response:
        name = "Authorization" if payment.startswith("Payment ") else "PAYMENT-SIGNATURE"
        return self.http.post(path, json=body, headers={name: payment, **headers})

    def buy(self, path: str, body: dict[str, Any]) -> str:
        """Pay and return the job id."""
        answer = self.pay(path, body, self.sign(path, body))
        assert answer.status_code == 200, answer.text
        return str(answer.json()["jobId"])

    def proof(self, path: str, *, fresh: bool = False) -> dict[str, str]:
        """Return the SIGN-IN-WITH-X header for a path."""
        if fresh or path not in self._proofs:
            ask = self.http.post if path == "/api/upload/confirm" else self.http.get
            extension = ask(path).json()["extensions"]["sign-in-with-x"]
            self._proofs[path] = siwx.sign(extension, self.key, origin=self.url)
        return {"SIGN-IN-WITH-X": self._proofs[path]}

    def job(self, job_id: str) -> dict[str, Any]:
        path = f"/api/jobs/{job_id}"
        answer = self.http.get(path, headers=self.proof(path))
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def jobs(self, **filters: str | int) -> list[dict[str, Any]]:
        """List the wallet's jobs, newest first."""
        answer = self.http.get("/api/jobs", params=filters, headers=self.proof("/api/jobs"))
        assert answer.status_code == 200, answer.text
        listed: list[dict[str, Any]] = answer.json()["jobs"]
        return listed

    def balance(self) -> int:
        """Ask the chain what the wallet holds, in base units."""
        call = {"to": _USDC, "data": "0x70a08231" + self.key.address[2:].lower().rjust(64, "0")}
        question = {"jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": [call, "latest"]}
        answer = self.http.post("/rpc/eip155:84532", json=question)
        return int(answer.json()["result"], 16)

    def wait(self, job_id: str, *, seconds: float = 60.0) -> dict[str, Any]:
        """Poll until the job and its money have come to an end."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            job = self.job(job_id)
            if job["status"] == "complete" or job["payment"]["state"] in ("refunded", "rejected"):
                return job
            time.sleep(0.1)
        raise AssertionError(f"job {job_id} did not end: {job}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
