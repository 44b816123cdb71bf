"""Several processes of the service on one PostgreSQL, as on many machines."""

from __future__ import annotations

from pathlib import Path

from stablestudio.protocols.evm import EvmKey
from tests.conftest import QUICK
from tests.postgres import PostgresServer
from tests.service import Buyer, Service

FUNDS, PRICE = 100_000_000, 45_000
PATH = "/api/generate/nano-banana/generate"


class Cluster:
    """Processes with one data folder and one database, that buyers know under one address."""

    def __init__(self, server: PostgresServer, folder: Path) -> None:
        self._data = folder / "data"
        self._environment = QUICK | {
            "STABLESTUDIO_DATABASE": server.create_upgraded(),
            "STABLESTUDIO_PUBLIC_URL": "https://studio.example",
            "STABLESTUDIO_WEBHOOKS_INSIDE": "true",
            "STABLESTUDIO_LEASE_SECONDS": "15",
        }
        self.started: list[Service] = []

    def start(self, role: str, *, failpoint: str | None = None) -> Service:
        service = self.hire(role)
        service.start(failpoint=failpoint)
        return service

    def hire(self, role: str, *, data: Path | None = None) -> Service:
        """Return one more process, not started; with `data` on a machine that shares no folder with the others."""
        service = Service(data or self._data, environment=self._environment | {"STABLESTUDIO_ROLE": role})
        self.started.append(service)
        return service

    def stop(self) -> None:
        for service in self.started:
            service.stop()


def buyer_of(service: Service, key: EvmKey | None = None) -> Buyer:
    return Buyer(service.url, key=key)


def slow(number: int, *, seconds: float = 2) -> dict[str, str]:
    """Return an order that takes a while."""
    return {"prompt": f"cat {number} [sandbox:delay={seconds}]", "imageSize": "512"}


def states(service: Service) -> dict[str, int]:
    """Return how many jobs are in each state."""
    return dict(map(tuple, service.sql("SELECT state, count(*) FROM jobs GROUP BY state")))
