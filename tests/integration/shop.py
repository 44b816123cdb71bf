"""A buyer of the real service whose line breaks where a test says so, and who starts anew as another process would."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import httpx2

from stablestudio.client import Journal, KeyWallet, StudioClient
from tests.service import Service


class Line(httpx2.BaseTransport):
    """A real connection that breaks where a test says so: before a request is sent, or before its answer arrives."""

    def __init__(self) -> None:
        self._inner = httpx2.HTTPTransport()
        self.calls: list[str] = []
        self.cut: Callable[[str], bool] = lambda _: False
        self.lose: Callable[[str], bool] = lambda _: False

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        paid = "+" if "payment-signature" in request.headers else ""
        action = request.headers.get("x-mpu-action", "")
        part = request.headers.get("x-mpu-part-number", "")
        call = f"{request.method} {request.url.path} {action}{part}{paid}".strip()
        self.calls.append(call)
        if self.cut(call):
            raise httpx2.WriteError("the connection broke", request=request)
        response = self._inner.handle_request(request)
        if self.lose(call):
            response.read()
            raise httpx2.ReadError("the connection broke", request=request)
        return response

    def count(self, call: str) -> int:
        return self.calls.count(call)

    def close(self) -> None:
        self._inner.close()


class Shop:
    """A funded wallet at the real service, with clients of its own: each is a new process, as far as they can tell."""

    def __init__(self, studio: Service, home: Path) -> None:
        self.studio = studio
        self.wallet = KeyWallet.generate()
        self.journal = Journal(home / "orders")
        self.line = Line()
        studio.fund(self.wallet.address)
        self.client = self.next_process()
        self._before = self.client.balance().micros

    def next_process(self) -> StudioClient:
        return StudioClient(
            self.studio.url, self.wallet, journal=self.journal, transport=self.line, sleep=lambda _: time.sleep(0.01)
        )

    @property
    def spent(self) -> int:
        return self._before - self.client.balance().micros

    def lose_uploads(self) -> None:
        """Let the service know nothing of this wallet's uploads any more."""
        mine = f"eip155:{self.wallet.address.lower()}"
        self.studio.sql("UPDATE uploads SET wallet = 'nobody' WHERE wallet = :mine", mine=mine)

    def end_token(self) -> None:
        """Let the hour of this wallet's uploads be over."""
        wallet = f"eip155:{self.wallet.address.lower()}"
        self.studio.sql("UPDATE uploads SET expires_at = 1000 WHERE wallet = :wallet", wallet=wallet)


def let_a_minute_pass(service: Service) -> None:
    """Let all tries of webhooks so far be a minute older: sooner nobody may ask for another one."""
    service.sql("UPDATE webhook_tries SET at = at - 60000")
