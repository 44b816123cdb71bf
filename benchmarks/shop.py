"""What a buyer does at either server, as prebuilt requests: ask for quotes, buy, and poll what was bought."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, repeat
from typing import Any

from benchmarks.buyer import Wallet, made_up, read_header
from benchmarks.load import Answer, Run, ask, drive, request
from benchmarks.servers import Server
from benchmarks.streams import Place

PATH = "/api/generate/nano-banana/generate"
BODY = json.dumps({"prompt": "a lighthouse at dusk, oil on canvas", "aspectRatio": "16:9", "imageSize": "1K"}).encode()
_UPLOAD = "/api/upload"
_FILE = json.dumps({"filename": "clip.mp4", "contentType": "video/mp4"}).encode()
_FINISHED_SECONDS = 120.0


@dataclass(slots=True, kw_only=True)
class Shop:
    """One server as a buyer sees it; ours has a faucet and wants a proof to carry a nonce that it issued."""

    server: Server
    wallet: Wallet
    is_ours: bool
    _balance: int = 0

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.server.port

    def quotes(self) -> Iterator[bytes]:
        """Give the same unpaid order for ever."""
        return repeat(request("POST", PATH, port=self.port, body=BODY))

    def quote(self, path: str = PATH, body: bytes = BODY) -> dict[str, Any]:
        """Ask once; gives the decoded PAYMENT-REQUIRED."""
        answer = ask(self.port, "POST", path, body=body)
        _expect(answer, status=402)
        return read_header(answer.header("payment-required"))

    def protocols(self) -> str:
        """Name what an unpaid order may be paid by."""
        head = ask(self.port, "POST", PATH, body=BODY).head.lower()
        named = {"x402": b"\r\npayment-required:", "MPP": b"\r\nwww-authenticate:"}
        return " and ".join(name for name, header in named.items() if header in head)

    def purchases(self, count: int, *, body: bytes = BODY) -> list[bytes]:
        """Sign so many payments, one a request, from a wallet that holds enough."""
        challenge = self.quote(body=body)
        if self.is_ours:
            self.fund(count * int(challenge["accepts"][0]["amount"]))
        return [
            request(
                "POST", PATH, port=self.port, headers={"PAYMENT-SIGNATURE": self.wallet.payment(challenge)}, body=body
            )
            for _ in range(count)
        ]

    def buy(self, count: int) -> list[str]:
        """Buy so many pictures and wait until they are made; gives the paths of their jobs."""
        bought = drive(self.port, requests=self.purchases(count), connections=4, keep=True)
        for answer in bought.kept:
            _expect(answer, status=200)
        paths = [f"/api/jobs/{json.loads(answer.body)['jobId']}" for answer in bought.kept]
        for path in paths:
            self._await(path)
        return paths

    def place(self) -> Place:
        """Buy a place for a file."""
        challenge = self.quote(_UPLOAD, _FILE)
        self.fund(int(challenge["accepts"][0]["amount"]))
        paid = {"PAYMENT-SIGNATURE": self.wallet.payment(challenge)}
        answer = ask(self.port, "POST", _UPLOAD, headers=paid, body=_FILE)
        _expect(answer, status=200)
        told = json.loads(answer.body)
        return Place(port=self.port, url=told["uploadUrl"], pathname=told["pathname"], token=told["clientToken"])

    def polls(self, paths: list[str]) -> Iterator[bytes]:
        """Poll the jobs in turn for ever, with one proof a job."""
        return cycle([self._poll(path, header=self._proof(path)) for path in paths])

    def fresh_polls(self, paths: list[str], *, count: int) -> list[bytes]:
        """Poll the jobs in turn, with a proof of its own for every request."""
        asked = [paths[index % len(paths)] for index in range(count)]
        return [
            self._poll(path, header=self.wallet.proof(info))
            for path, info in zip(asked, self._infos(asked), strict=True)
        ]

    def fund(self, units: int) -> None:
        """Ask the embedded world's faucet until so many more units are there to be spent."""
        body = json.dumps({"address": self.wallet.address}).encode()
        while self._balance < units:
            answer = ask(self.port, "POST", "/faucet", body=body)
            _expect(answer, status=200)
            self._balance += int(json.loads(answer.body)["amount"])
        self._balance -= units

    def _await(self, path: str) -> None:
        deadline = time.monotonic() + _FINISHED_SECONDS
        while time.monotonic() < deadline:
            answer = ask(self.port, "GET", path, headers={"SIGN-IN-WITH-X": self._proof(path)})
            _expect(answer, status=200)
            if json.loads(answer.body)["status"] == "complete":
                return
            time.sleep(0.1)
        raise RuntimeError(f"{path} was not complete after {_FINISHED_SECONDS:.0f} s")

    def _proof(self, path: str) -> str:
        return self.wallet.proof(self._infos([path])[0])

    def _infos(self, paths: list[str]) -> list[dict[str, Any]]:
        if not self.is_ours:
            return [made_up(domain="127.0.0.1", uri=f"http://127.0.0.1:{self.port}{path}") for path in paths]
        asked = [request("GET", path, port=self.port) for path in paths]
        # One connection keeps the challenges in the order of the paths that they are for.
        answers = drive(self.port, requests=asked, connections=1, keep=True).kept
        return [
            read_header(answer.header("payment-required"))["extensions"]["sign-in-with-x"]["info"] for answer in answers
        ]

    def _poll(self, path: str, *, header: str) -> bytes:
        return request("GET", path, port=self.port, headers={"SIGN-IN-WITH-X": header})


def _expect(answer: Answer, *, status: int) -> None:
    if answer.status != status:
        raise RuntimeError(f"{answer.status} instead of {status}: {answer.head.decode()}\n{answer.body[:500]!r}")


def only(run: Run, *, status: int) -> Run:
    """Give the run back if every answer had this status; a faster refusal is not a result."""
    if set(run.statuses) != {status}:
        raise RuntimeError(f"expected {status} only, got {dict(run.statuses)}")
    return run
