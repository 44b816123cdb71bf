"""What every test may use: a service in its own process, funded wallets, and time moved by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.doubles import open_database
from tests.fakes.s3 import S3
from tests.postgres import PostgresServer, require_binaries
from tests.service import Service

# How fast a machine draws examples says nothing about the product.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


QUICK = {"STABLESTUDIO_SANDBOX_DELAY": "0.2"}


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A running service of the embedded world, shared by all tests of a worker; quick vendors."""
    with Service(tmp_path_factory.mktemp("studio"), environment=QUICK) as service:
        yield service


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """S3 on the loopback, shared by all tests of a worker."""
    with S3() as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL of its own for each worker of the tests."""
    with PostgresServer(require_binaries()) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of today's schema: in a file, and in PostgreSQL."""
    if request.param == "sqlite":
        open_database(tmp_path).close()
        yield f"sqlite:///{tmp_path / 'test.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.lend()
    yield url
    server.take_back(url)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder of its own."""
    return tmp_path / "data"
