"""OpenAI's own clients buy here, unmodified: from npm by a fetch that pays, in Python by a transport that does."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from stablestudio.media.probe import probe
from stablestudio.protocols import x402
from stablestudio.protocols.evm import EvmKey
from tests.doubles import png
from tests.npm import install
from tests.service import Buyer, Service

NPM = Path(__file__).parent / "npm_openai"


@pytest.fixture
def buyer(studio: Service) -> Iterator[Buyer]:
    with Buyer(studio.url) as buyer:
        yield buyer.fund()


@pytest.fixture(scope="session")
def packages() -> Path:
    install(NPM)
    return NPM


def _node(studio: Service, buyer: Buyer, what: str) -> dict[str, Any]:
    ran = subprocess.run(
        ["node", "buy.mjs"],
        check=False,
        cwd=NPM,
        env={**os.environ, "BASE": studio.url, "PRIVATE_KEY": buyer.key.hex(), "WHAT": what},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ran.returncode == 0, ran.stderr
    told: dict[str, Any] = json.loads(ran.stdout)
    return told


class PayingTransport(httpx2.BaseTransport):
    """Pays each 402 that offers a payment, once."""

    def __init__(self, key: EvmKey) -> None:
        self._inner = httpx2.HTTPTransport()
        self._key = key
        self.payments = 0

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        request.read()
        answer = self._inner.handle_request(request)
        if answer.status_code != 402:
            return answer
        answer.read()
        required = x402.decode_required(answer.headers["PAYMENT-REQUIRED"])
        payment = x402.sign_exact(required, required.accepts[0], self._key, now_s=int(time.time()))
        request.headers["PAYMENT-SIGNATURE"] = x402.encode_payment(payment)
        self.payments += 1
        return self._inner.handle_request(request)

    def close(self) -> None:
        self._inner.close()


@pytest.fixture
def transport(buyer: Buyer) -> PayingTransport:
    return PayingTransport(buyer.key)


@pytest.fixture
def client(studio: Service, transport: PayingTransport) -> Iterator[openai.OpenAI]:
    http = httpx2.Client(transport=transport, trust_env=False, timeout=120)
    with openai.OpenAI(base_url=f"{studio.url}/v1", api_key="none", http_client=http) as client:
        yield client


pytestmark = pytest.mark.timeout(900)
npm = [pytest.mark.npm, pytest.mark.usefixtures("packages")]


def _npm(test: Any) -> Any:
    for mark in npm:
        test = mark(test)
    return test


@_npm
def test_the_npm_client_generates_a_picture_with_one_payment(studio: Service, buyer: Buyer) -> None:
    told = _node(studio, buyer, "generate")

    assert (told["payments"], told["requests"]) == (1, 2)
    [picture] = told["outcome"]["data"]
    # As OpenAI itself answers for its own models: programs written for them read base64.
    seen = probe(base64.b64decode(picture["b64_json"]))
    assert (seen.kind, seen.width, seen.height) == ("image", 1024, 1024)
    assert picture["url"].startswith(f"{studio.url}/assets/")
    assert buyer.job(told["outcome"]["jobId"])["payment"]["state"] == "charged"


@_npm
def test_the_npm_client_edits_a_file_that_it_sends_as_a_form(studio: Service, buyer: Buyer) -> None:
    told = _node(studio, buyer, "edit")

    assert told["payments"] == 2  # the picture before it, and the edit
    [picture] = told["outcome"]["data"]
    seen = probe(httpx2.get(picture["url"], trust_env=False).content)
    assert (seen.width, seen.height) == (1024, 1024)
    job = buyer.job(told["outcome"]["jobId"])
    assert job["type"] == "nano-banana-edit"
    assert [given[:15] for given in job["input"]["images"]] == ["data:image/png;"]


@_npm
def test_the_npm_client_makes_a_video_and_reads_it_with_the_poll_token_as_its_key(
    studio: Service, buyer: Buyer
) -> None:
    told = _node(studio, buyer, "video")

    assert told["payments"] == 1
    ordered, made = told["outcome"]["ordered"], told["outcome"]["made"]
    assert (ordered["object"], ordered["status"], ordered["progress"]) == ("video", "queued", 0)
    assert (made["status"], made["seconds"], made["size"]) == ("completed", "4", "1280x720")
    assert told["outcome"]["contentType"] == "video/mp4"
    assert told["outcome"]["bytes"] > 1_000


@_npm
def test_the_npm_client_is_told_what_is_wrong_and_pays_nothing(studio: Service, buyer: Buyer) -> None:
    told = _node(studio, buyer, "refused")

    error = told["outcome"]
    assert (told["payments"], told["requests"]) == (0, 1)
    assert (error["kind"], error["code"], error["param"]) == ("BadRequestError", "invalid_input", "model")
    assert "gpt-image-2" in error["message"]
    assert error["requestID"].startswith("req_")


@_npm
def test_the_npm_client_hears_of_a_refusal_once_and_is_refunded(studio: Service, buyer: Buyer) -> None:
    before = buyer.balance()
    told = _node(studio, buyer, "failed")

    # Left to itself the client sends what failed twice more, and would pay each time.
    assert (told["payments"], told["requests"]) == (1, 2)
    assert (told["outcome"]["status"], told["outcome"]["code"]) == (422, "moderation")
    [job] = buyer.jobs()
    assert buyer.wait(job["jobId"])["payment"]["state"] == "refunded"
    assert buyer.balance() == before


def test_the_python_client_buys_pictures_and_edits(client: openai.OpenAI, transport: PayingTransport) -> None:
    made = client.images.generate(model="flux-2-pro", prompt="a lighthouse", size="1536x1024")
    edited = client.images.edit(
        model="gpt-image-2", prompt="at night", image=png((64, 48)), quality="low", response_format="url"
    )

    assert transport.payments == 2
    assert made.data is not None
    assert made.data[0].url is not None
    seen = probe(httpx2.get(made.data[0].url, trust_env=False).content)
    assert seen.width / seen.height == pytest.approx(1.5, rel=0.03)
    assert edited.data is not None
    assert (edited.data[0].url is not None, edited.data[0].b64_json) == (True, None)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_python_client_makes_a_video_from_a_frame(
    studio: Service, client: openai.OpenAI, transport: PayingTransport
) -> None:
    ordered = client.videos.create(
        model="sora-2", prompt="it moves", seconds="4", input_reference=("frame.png", png((640, 480)), "image/png")
    )
    assert ordered.model_extra is not None
    http = httpx2.Client(trust_env=False, follow_redirects=True, timeout=60)
    reader = openai.OpenAI(base_url=f"{studio.url}/v1", api_key=str(ordered.model_extra["pollToken"]), http_client=http)
    made = reader.videos.poll(ordered.id, poll_interval_ms=200)
    clip = reader.videos.download_content(ordered.id).read()

    assert transport.payments == 1
    assert (made.status, made.seconds) == ("completed", "4")
    assert probe(clip).seconds == pytest.approx(4.0, abs=0.3)
    reader.close()
