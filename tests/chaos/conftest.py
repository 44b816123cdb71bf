"""A data folder with a funded wallet in it, made once and copied for every case; and the zygote that starts services."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stablestudio.protocols import x402
from stablestudio.protocols.evm import EvmKey
from tests.service import Buyer

from .zygote import ForkedService, Zygote

PATH = "/api/generate/grok-video/generate"
_CLIP = {"duration": "3", "resolution": "480p", "aspect_ratio": "1:1"}
GOOD = _CLIP | {"prompt": "a paper boat"}
DOOMED = _CLIP | {"prompt": "a paper boat [sandbox:fail]"}
PRICE = 150_000


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One service of its own for one case."""

    service: ForkedService
    buyer: Buyer
    required: x402.PaymentRequired

    def sign(self, **options: Any) -> str:
        """Sign a new payment without asking the service, which may be about to die."""
        offer = self.required.accepts[0]
        payment = x402.sign_exact(self.required, offer, self.buyer.key, now_s=int(time.time()), **options)
        return x402.encode_payment(payment)

    def pay(self, body: dict[str, Any], payment: str, **headers: str) -> Any:
        return self.buyer.pay(PATH, body, payment, **headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    data: Path
    key: EvmKey
    required: x402.PaymentRequired


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    process = Zygote()
    yield process
    process.close()


@pytest.fixture(scope="session")
def template(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Template:
    data = tmp_path_factory.mktemp("template") / "data"
    with ForkedService(data, zygote=zygote) as service:
        service.start()
        buyer = Buyer(service.url).fund()
        required = buyer.challenge(PATH, GOOD)
        buyer.http.close()
    return Template(data=data, key=buyer.key, required=required)


@pytest.fixture
def world(zygote: Zygote, template: Template, data: Path) -> Iterator[World]:
    """A service that is not started yet, on a data folder where the buyer has money."""
    shutil.copytree(template.data, data)
    service = ForkedService(data, zygote=zygote, environment={"STABLESTUDIO_SANDBOX_DELAY": "0.05"})
    buyer = Buyer(service.url, key=template.key)
    yield World(service=service, buyer=buyer, required=template.required)
    buyer.http.close()
    service.kill()
