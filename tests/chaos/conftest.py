"""A data folder with a funded wallet in it, made once and copied for every case; and the zygote that starts services."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from stablestudio.protocols import x402
from stablestudio.protocols.evm import EvmKey
from tests.service import Buyer

from .zygote import ForkedService, Zygote

FUNDS = 100_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Ware:
    """Something to buy, small and quick to make."""

    path: str
    body: dict[str, Any]
    price: int
    delivered: bool = True


_PICTURE = "/api/generate/nano-banana/generate"
PICTURE = Ware(path=_PICTURE, body={"prompt": "a paper boat", "imageSize": "512"}, price=45_000)
DOOMED = Ware(
    path=_PICTURE, body={"prompt": "a boat [sandbox:fail]", "imageSize": "512"}, price=45_000, delivered=False
)
CLIP = Ware(
    path="/api/generate/grok-video/generate",
    body={"prompt": "a paper boat", "duration": "3", "resolution": "480p", "aspect_ratio": "1:1"},
    price=150_000,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One service of its own for one case."""

    service: ForkedService
    buyer: Buyer
    required: dict[str, x402.PaymentRequired]

    def sign(self, ware: Ware = PICTURE) -> str:
        """Sign a new payment without asking the service, which may be about to die."""
        required = self.required[ware.path]
        payment = x402.sign_exact(required, required.accepts[0], self.buyer.key, now_s=int(time.time()))
        return x402.encode_payment(payment)

    def pay(self, ware: Ware, payment: str) -> httpx2.Response:
        return self.buyer.pay(ware.path, ware.body, payment)

    def buy(self, ware: Ware) -> str:
        return self.buyer.buy(ware.path, ware.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    data: Path
    key: EvmKey
    required: dict[str, x402.PaymentRequired]


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    process = Zygote()
    yield process
    process.close()


@pytest.fixture(scope="session")
def template(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Template:
    data = tmp_path_factory.mktemp("template") / "data"
    with ForkedService(data, zygote=zygote) as service, Buyer(service.url) as buyer:
        buyer.fund()
        required = {ware.path: buyer.challenge(ware.path, ware.body) for ware in (PICTURE, CLIP)}
    return Template(data=data, key=buyer.key, required=required)


@pytest.fixture(scope="session")
def books(zygote: Zygote, template: Template, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with one delivered and one refunded sale, closed."""
    data = tmp_path_factory.mktemp("books") / "data"
    shutil.copytree(template.data, data)
    with ForkedService(data, zygote=zygote, environment={"STABLESTUDIO_SANDBOX_DELAY": "0"}) as service:
        with Buyer(service.url, key=template.key) as buyer:
            for job_id in [buyer.buy(ware.path, ware.body) for ware in (CLIP, DOOMED)]:
                buyer.wait(job_id)
        service.wait_for_rest()
    return data


@pytest.fixture
def world(zygote: Zygote, template: Template, data: Path) -> Iterator[World]:
    """A service that is not started yet, on a data folder where the buyer has money."""
    shutil.copytree(template.data, data)
    service = ForkedService(data, zygote=zygote, environment={"STABLESTUDIO_SANDBOX_DELAY": "0.05"})
    buyer = Buyer(service.url, key=template.key)
    yield World(service=service, buyer=buyer, required=template.required)
    buyer.http.close()
    service.kill()
