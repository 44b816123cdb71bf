"""A database that is away: what a process says and does meanwhile, and that it goes on by itself when it is back."""

from __future__ import annotations

import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import PATH, Cluster, buyer_of
from tests.doubles import eventually
from tests.postgres import PostgresServer, require_binaries
from tests.service import Service

pytestmark = pytest.mark.anyio
SECONDS = 90.0
ORDER = {"prompt": "a cat", "imageSize": "512"}


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A server that may crash."""
    with PostgresServer(require_binaries()) as server:
        yield server


@pytest.fixture
def crashing(own_postgres: PostgresServer, tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(own_postgres, tmp_path)
    yield cluster
    cluster.stop()


async def test_the_only_worker_goes_on_after_a_crash_of_the_database(
    crashing: Cluster, own_postgres: PostgresServer
) -> None:
    service = crashing.start("all")
    with buyer_of(service) as buyer:
        buyer.fund()
        payment = buyer.sign(PATH, ORDER)
        sold = buyer.pay(PATH, ORDER, payment)
        job_id, token = sold.json()["jobId"], sold.headers["Poll-Token"]
        own_postgres.stop(signal.SIGQUIT)
        await eventually(lambda: _told(service, "place_lost") == 1, seconds=SECONDS)
        await eventually(lambda: buyer.http.get("/ready").status_code == 503, seconds=SECONDS)
        health = buyer.http.get("/health")
        assert (health.status_code, health.json()["ready"]) == (200, False)
        assert health.json()["reason"] == "the database does not answer"
        unpaid = buyer.http.post(PATH, json=ORDER)
        assert (unpaid.status_code, unpaid.json()["code"]) == (503, "store_unavailable")
        assert (unpaid.json()["charged"], unpaid.headers["Retry-After"]) == (False, "5")
        reading = buyer.http.get(f"/api/jobs/{job_id}", headers={"Authorization": f"Bearer {token}"})
        assert (reading.status_code, reading.json()["code"]) == (503, "store_unavailable")
        assert (reading.json()["charged"], "charged" in reading.json()["hint"]) == (None, False)
        paid = buyer.pay(PATH, ORDER, payment)
        assert (paid.status_code, paid.json()["code"], paid.json()["charged"]) == (503, "sales_unavailable", None)
        assert "nothing was charged" not in paid.text
        own_postgres.start()
        await eventually(lambda: buyer.http.get("/ready").status_code == 200, seconds=SECONDS)
        await eventually(lambda: _told(service, "place_taken") == 2, seconds=SECONDS)
        assert service.alive
        assert buyer.pay(PATH, ORDER, payment).json()["jobId"] == job_id
        done = [("complete",)]
        await eventually(lambda: service.sql("SELECT state FROM jobs") == done, seconds=SECONDS)
        buyer_has = buyer.balance()
        buyer.buy(PATH, {"prompt": "a cat [sandbox:fail]", "imageSize": "512"})
        # Refunds are one of the duties.
        await eventually(lambda: service.sql("SELECT state FROM refunds") == [("refunded",)], seconds=SECONDS)
        assert buyer.balance() == buyer_has


def test_a_start_says_where_things_are_and_a_stop_when_it_begins_and_has_ended(cluster: Cluster) -> None:
    service = cluster.hire("all")
    service.environment["STABLESTUDIO_DATABASE"] = service.books.replace("studio@", "studio:hidden@")
    service.start()
    service.stop()
    said = service.log.read_text()
    assert f"Role all at 127.0.0.1:{service.port}; database test_" in said
    assert f"files in {service.data / 'assets'}." in said
    assert "hidden" not in said
    strangers = stat.S_IRWXG | stat.S_IRWXO
    assert [path for path in (service.data, *service.data.rglob("*")) if path.stat().st_mode & strangers] == []
    assert (_told(service, "draining"), _told(service, "stopped")) == (1, 1)


def _told(service: Service, event: str) -> int:
    return service.log.read_text().count(f'"event": "{event}"')
