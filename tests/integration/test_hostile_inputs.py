"""Hostile addresses in orders that are paid for: each is a 400 that names its field, nothing is charged, nobody is contacted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.hostile_targets import ANSWERS, TARGETS
from tests.integration.samples import data_uri
from tests.service import Buyer, Service

PATH = "/api/generate/nano-banana/edit"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def contacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the service's process writes whom it looks up and connects to."""
    return tmp_path_factory.mktemp("contacts") / "log"


@pytest.fixture(scope="module")
def watched(contacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    paths = (ROOT / "tests/integration/eavesdropper", ROOT)
    environment = {
        "STABLESTUDIO_SANDBOX_DELAY": "0.1",
        "CONTACTS": str(contacts),
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
    }
    with Service(tmp_path_factory.mktemp("watched"), environment=environment) as service:
        yield service


def body(url: str) -> dict[str, Any]:
    return {"prompt": "a cat", "imageSize": "512", "images": [url]}


def test_hostile_inputs_are_refused_by_name_uncharged_and_uncontacted(watched: Service, contacts: Path) -> None:
    urls = [target.url for target in TARGETS if target.url.isprintable()] + [f"https://{name}/" for name in ANSWERS]
    with Buyer(watched.url) as buyer:
        buyer.fund()
        payment = buyer.sign(PATH, body(data_uri("image")))
        before = buyer.balance(), contacts.read_text()

        for url in urls:
            answer = buyer.pay(PATH, body(url), payment)
            assert (answer.status_code, url, _fields(answer)) == (400, url, [["images", 0]])
        assert (buyer.balance(), contacts.read_text()) == before

        # The same payment was never taken, so it still buys.
        assert buyer.pay(PATH, body(data_uri("image")), payment).status_code == 200


def test_whoever_the_service_contacts_is_written_down(watched: Service, contacts: Path) -> None:
    """Else the test above would prove nothing; the public address is not reached, for the test stays on this machine."""
    with Buyer(watched.url) as buyer:
        buyer.fund()
        for url in ("https://8.8.8.8/a.png", "https://media.example.com/a.png"):
            answer = buyer.pay(PATH, body(url), buyer.sign(PATH, body(url)))
            assert (answer.status_code, answer.json()["issues"][0]["code"]) == (400, "fetch_failed")
    told = contacts.read_text().splitlines()
    assert {"socket.connect 8.8.8.8 443", "socket.getaddrinfo media.example.com"} <= set(told)


def _fields(answer: httpx2.Response) -> list[list[str | int]]:
    return [issue["path"] for issue in answer.json()["issues"]]
