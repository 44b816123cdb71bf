"""Several processes on one PostgreSQL: each sells and makes, and a credential is one order wherever it is presented."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from stablestudio.protocols import siwx
from tests.cluster import FUNDS, PATH, PRICE, Cluster, buyer_of, slow, states
from tests.doubles import eventually
from tests.fakes.receiver import Receiver
from tests.postgres import PostgresServer
from tests.service import Service

pytestmark = pytest.mark.anyio
BODY = {"prompt": "a cat", "imageSize": "512"}
COPIES = 50


async def _present(services: list[Service], payment: str) -> list[httpx2.Response]:
    headers = {"PAYMENT-SIGNATURE": payment}
    async with httpx2.AsyncClient(trust_env=False, timeout=60) as http:
        asked = (http.post(services[number % 2].url + PATH, json=BODY, headers=headers) for number in range(COPIES))
        return await asyncio.gather(*asked)


async def test_copies_of_a_credential_at_two_processes_are_one_job_and_one_transfer(cluster: Cluster) -> None:
    services = [cluster.start("web"), cluster.start("web")]
    with buyer_of(services[0]) as buyer:
        payment = buyer.fund().sign(PATH, BODY)
        answers = await _present(services, payment)
        assert {answer.status_code for answer in answers} <= {200, 202}, [answer.text for answer in answers]
        [job_id] = {answer.json()["jobId"] for answer in answers}
        assert buyer.balance() == FUNDS - PRICE
    assert services[0].sql("SELECT id, state FROM jobs") == [(job_id, "pending")]
    assert services[0].sql("SELECT state FROM payments") == [("settled",)]
    assert services[0].sql("SELECT count(*) FROM ledger_transactions WHERE nonce IS NOT NULL") == [(1,)]
    assert services[0].sql("SELECT count(*) FROM dbos.workflow_status") == [(1,)]
    cluster.start("worker")
    await eventually(lambda: services[0].sql("SELECT state FROM jobs") == [("complete",)])


async def test_who_waits_at_one_process_hears_of_the_other_one_s_work(cluster: Cluster) -> None:
    with Receiver() as receiver:
        web, _ = cluster.start("web"), cluster.start("worker")
        with buyer_of(web) as buyer:
            payment = buyer.fund().sign(PATH, BODY)
            answer = buyer.pay(PATH, BODY, payment, **{"Prefer": "wait=60", "Webhook-Url": receiver.url})
            assert answer.json()["status"] == "complete", answer.text
        await asyncio.to_thread(receiver.wait, 1)


async def test_a_job_that_another_process_makes_is_cancelled_and_paid_back(cluster: Cluster) -> None:
    web, _ = cluster.start("web"), cluster.start("worker")
    with buyer_of(web) as buyer:
        job_id = buyer.fund().buy(PATH, {"prompt": "a cat [sandbox:delay=3600]", "imageSize": "512"})
        await eventually(lambda: web.sql("SELECT state FROM jobs") == [("loading",)])
        path = f"/api/jobs/{job_id}/cancel"
        challenge = buyer.http.post(path).json()["extensions"]["sign-in-with-x"]
        proof = siwx.sign(challenge, buyer.key, origin="https://studio.example")
        answer = buyer.http.post(path, headers={"SIGN-IN-WITH-X": proof})
        assert (answer.status_code, answer.json()["status"]) == (200, "failed"), answer.text
        await eventually(lambda: buyer.balance() == FUNDS)


async def test_what_a_killed_worker_left_is_made_by_the_one_that_waited(cluster: Cluster) -> None:
    """Whichever of the two took the job is the one that is killed."""
    first, second = cluster.start("all"), cluster.start("all")
    with buyer_of(first) as buyer:
        job_id = buyer.fund().buy(PATH, slow(1, seconds=10))
        await eventually(lambda: first.sql("SELECT state FROM jobs") == [("loading",)])
        killed, other = (first, second) if _maker(first) == first.pid else (second, first)
        assert _maker(first) == killed.pid
        killed.kill()
        await eventually(lambda: other.sql("SELECT state FROM jobs WHERE id = :id", id=job_id) == [("complete",)])
    with buyer_of(other, buyer.key) as buyer:
        assert buyer.balance() == FUNDS - PRICE
    assert _maker(other) == other.pid
    assert other.sql("SELECT attempt, state FROM submissions") == [(1, "accepted")]
    assert other.sql("SELECT count(*) FROM sandbox_tasks") == [(1,)]


def _maker(service: Service) -> int:
    """Return the process that the engine says has the one job."""
    sql = "SELECT e.pid FROM dbos.workflow_status w JOIN executors e ON e.id = w.executor_id"
    [(pid,)] = service.sql(sql)
    return int(pid)


async def test_a_rolling_restart_drops_no_order(cluster: Cluster) -> None:
    """The next process has been started before the last one ends as it is told to."""
    old = cluster.start("all")
    jobs: list[str] = []
    with buyer_of(old) as buyer:
        buyer.fund()
        jobs += [buyer.buy(PATH, slow(number)) for number in range(5)]
        new = cluster.start("all")
        with buyer_of(new, buyer.key) as other:
            stopping = asyncio.create_task(asyncio.to_thread(old.stop))
            jobs += [await asyncio.to_thread(other.buy, PATH, slow(number)) for number in range(5, 10)]
            await stopping
    await eventually(lambda: states(new) == {"complete": len(jobs)})
    assert new.sql("SELECT count(*) FROM sandbox_tasks") == [(len(jobs),)]


def test_a_database_without_our_tables_is_not_served(postgres: PostgresServer, tmp_path: Path) -> None:
    service = Service(tmp_path / "data", environment={"STABLESTUDIO_DATABASE": postgres.create()})
    service.start(wait=False)
    assert service.wait_dead() == 2
    assert "stablestudio db upgrade" in service.log.read_text()


def test_a_process_whose_files_are_elsewhere_does_not_start(cluster: Cluster, tmp_path: Path) -> None:
    cluster.start("worker")
    elsewhere = cluster.hire("web", data=tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(tmp_path / "data" / "secret", tmp_path / "elsewhere" / "secret")
    elsewhere.start(wait=False)
    assert elsewhere.wait_dead(60) == 2
    assert "The storage differs from that of the other processes" in elsewhere.log.read_text()
    assert "`storage`" in elsewhere.log.read_text()


def test_moved_files_bring_their_mark_along(cluster: Cluster, tmp_path: Path) -> None:
    cluster.start("worker").stop()
    moved = cluster.hire("worker", data=tmp_path / "moved")
    shutil.copytree(tmp_path / "data", tmp_path / "moved")
    moved.start()
    assert moved.alive


@pytest.mark.skipif(shutil.which("pg_dump") is None, reason="a backup of PostgreSQL is made by its own tools")
def test_restored_books_and_files_fit_together_and_start(
    cluster: Cluster, postgres: PostgresServer, tmp_path: Path
) -> None:
    service = cluster.start("all")
    with buyer_of(service) as buyer:
        payment = buyer.fund().sign(PATH, BODY)
        assert buyer.pay(PATH, BODY, payment, Prefer="wait=60").json()["status"] == "complete"
    restored = cluster.hire("all", data=tmp_path / "restored")
    restored.environment["STABLESTUDIO_DATABASE"] = postgres.create()
    for command, of in (("backup", service), ("restore", restored)):
        subprocess.run(
            [sys.executable, "-m", "stablestudio", command, str(tmp_path / "copy"), "--data", str(of.data)],
            check=True,
            env=os.environ | of.environment,
            timeout=120,
        )
    restored.start()
    marks = [(data / "assets" / "marks" / "storage.txt").read_text() for data in (service.data, restored.data)]
    assert marks[0] == marks[1]


def test_a_file_that_is_missing_is_no_expired_link(cluster: Cluster, tmp_path: Path) -> None:
    service = cluster.start("all")
    with buyer_of(service) as buyer:
        payment = buyer.fund().sign(PATH, BODY)
        job = buyer.pay(PATH, BODY, payment, Prefer="wait=60").json()
        link = job["result"]["imageUrl"].replace("https://studio.example", service.url)
        assert buyer.http.get(link).status_code == 200
        shutil.rmtree(tmp_path / "data" / "assets" / "jobs")
        answer = buyer.http.get(link)
    assert (answer.status_code, answer.json()["code"]) == (500, "asset_missing")
    [line] = [line for line in service.log.read_text().splitlines() if "file_missing" in line]
    assert job["jobId"] in line
    assert '"level": "error"' in line
