"""Workers beside each other: they share the jobs, and what one leaves, however it ends, is made once by another."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from stablestudio.server.main import GAVE_UP
from tests.cluster import FUNDS, PATH, PRICE, Cluster, buyer_of, slow, states
from tests.doubles import eventually
from tests.service import Service

pytestmark = pytest.mark.anyio
SECONDS = 150.0  # of a lease, of the looks of others, and of a machine that has much to do


async def test_two_workers_share_the_jobs_and_each_is_made_once(cluster: Cluster) -> None:
    web, one, two = cluster.start("web"), cluster.start("worker"), cluster.start("worker")
    with buyer_of(web) as buyer:
        buyer.fund()
        for number in range(30):
            await asyncio.to_thread(buyer.buy, PATH, slow(number, seconds=0.5))
    await eventually(lambda: states(web) == {"complete": 30}, seconds=SECONDS)
    assert _asked(web) == 30
    shares = web.sql("SELECT count(*) FROM submissions GROUP BY executor")
    assert len(shares) == 2, shares
    assert _executors(web) == [one.pid, two.pid]


async def test_what_a_killed_worker_left_is_made_by_the_other(cluster: Cluster) -> None:
    doomed = cluster.start("all")
    with buyer_of(doomed) as buyer:
        buyer.fund()
        for number in range(5):
            buyer.buy(PATH, slow(number, seconds=20))
        await eventually(lambda: states(doomed) == {"loading": 5}, seconds=SECONDS)
        doomed.kill()
    other = cluster.start("worker")
    await eventually(lambda: states(other) == {"complete": 5}, seconds=SECONDS)
    assert _asked(other) == 5
    assert _executors(other) == [other.pid]


@pytest.mark.parametrize("moment", ["make.intended", "make.asked", "make.submitted", "make.thumbnailed"])
async def test_a_worker_that_was_frozen_and_goes_on_asks_no_vendor_and_delivers_nothing(
    cluster: Cluster, moment: str
) -> None:
    frozen = cluster.start("worker", failpoint=f"{moment}=freeze")
    web = cluster.start("web")
    with buyer_of(web) as buyer:
        job_id = buyer.fund().buy(PATH, slow(1))
        await eventually(lambda: _is_stopped(frozen), seconds=SECONDS)
        other = cluster.start("worker")
        await eventually(lambda: states(other) == {"complete": 1}, seconds=SECONDS)
        os.kill(frozen.pid, signal.SIGCONT)
        ended = await asyncio.to_thread(frozen.wait_dead, 120)
        assert ended == GAVE_UP, "it saw that its lease is over, and asks to be started again"
        assert '"reason": "lease_lost"' in frozen.log.read_text()
        assert buyer.balance() == FUNDS - PRICE
    assert _asked(other) == 1
    assert states(other) == {"complete": 1}
    assert other.sql("SELECT state FROM jobs WHERE id = :id", id=job_id) == [("complete",)]
    assert other.sql("SELECT count(*) FROM submissions WHERE state = 'accepted'") == [(1,)]


async def test_a_worker_that_is_told_to_stop_hands_its_jobs_over_at_once(cluster: Cluster) -> None:
    old, new = cluster.start("all"), cluster.start("worker")
    with buyer_of(old) as buyer:
        buyer.fund()
        for number in range(8):
            buyer.buy(PATH, slow(number, seconds=10))
        await eventually(lambda: "pending" not in states(old), seconds=SECONDS)
        await asyncio.to_thread(old.stop)
    assert _executors(new) == [new.pid]
    strangers = "status = 'PENDING' AND executor_id NOT IN (SELECT id FROM executors)"
    assert new.sql(f"SELECT workflow_uuid FROM dbos.workflow_status WHERE {strangers}") == []
    await eventually(lambda: states(new) == {"complete": 8}, seconds=SECONDS)
    assert _asked(new) == 8


def _executors(service: Service) -> list[int]:
    return [int(pid) for (pid,) in service.sql("SELECT pid FROM executors ORDER BY leased_at")]


def _asked(service: Service) -> int:
    """Return how often the vendor was asked."""
    [(count,)] = service.sql("SELECT count(*) FROM sandbox_tasks")
    return int(count)


def _is_stopped(service: Service) -> bool:
    return Path(f"/proc/{service.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
