"""Buyers of the shared service, each with a wallet of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Cluster
from tests.conftest import QUICK
from tests.postgres import PostgresServer
from tests.service import Buyer, Service


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def studio(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A running service on each of the two stores, shared by all tests of a worker; quick vendors."""
    environment = dict(QUICK)
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        environment["STABLESTUDIO_DATABASE"] = server.create_upgraded()
    with Service(tmp_path_factory.mktemp("studio"), environment=environment) as service:
        yield service


@pytest.fixture(scope="session")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that may call receivers on this machine, shared by all tests of a worker."""
    environment = {"STABLESTUDIO_SANDBOX_DELAY": "0.2", "STABLESTUDIO_WEBHOOKS_INSIDE": "true"}
    with Service(tmp_path_factory.mktemp("inside"), environment=environment) as service:
        yield service


@pytest.fixture
def pauper(studio: Service) -> Iterator[Buyer]:
    """A wallet without money."""
    with Buyer(studio.url) as buyer:
        yield buyer


@pytest.fixture
def buyer(pauper: Buyer) -> Buyer:
    """A wallet with 100 test dollars."""
    return pauper.fund()


@pytest.fixture
def cluster(postgres: PostgresServer, tmp_path: Path) -> Iterator[Cluster]:
    """Many processes on a database of their own."""
    made = Cluster(postgres, tmp_path)
    yield made
    made.stop()
