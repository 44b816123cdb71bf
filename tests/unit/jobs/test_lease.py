"""The lease of a worker: kept by renewing it, lost to those who took up its jobs, and the end of all that was begun under it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable

import pytest

from stablestudio.jobs.lease import Lease, LeaseOver, NothingAsked
from stablestudio.jobs.reaper import Reaper
from stablestudio.providers import leaving
from stablestudio.providers.http import VendorHttp
from stablestudio.store import executors
from stablestudio.store.database import Database
from tests.doubles import eventually, only_postgres

pytestmark = [pytest.mark.anyio, only_postgres]


class Queue:
    """Writes down whose jobs were enqueued anew."""

    def __init__(self) -> None:
        self.released: list[str] = []

    def release(self, executor_ids: list[str]) -> None:
        self.released += executor_ids


@pytest.fixture
async def lease_for(database: Database) -> AsyncIterator[Callable[[float], Lease]]:
    made: list[Lease] = []

    def make(seconds: float) -> Lease:
        made.append(Lease(database.url, seconds=seconds))
        return made[-1]

    yield make
    for lease in made:
        lease.close()


async def _is_over(database: Database, lease: Lease) -> bool:
    return lease.executor in await database.read(lambda connection: executors.overdue(connection, own="me"))


def _reaper(database: Database, queue: Queue) -> Reaper:
    return Reaper(database, engine=queue, executor="me")  # type: ignore[arg-type]


async def test_what_needs_a_lease_is_written_while_it_holds_and_not_after_its_end(
    database: Database, lease_for: Callable[[float], Lease]
) -> None:
    held, over = lease_for(600), lease_for(0.1)
    await held.take()
    await over.take()
    await database.write(held.require)
    await eventually(lambda: _is_over(database, over))
    with pytest.raises(LeaseOver):
        await database.write(over.require)


async def test_a_lease_that_was_over_and_nobody_took_is_renewed(
    database: Database, lease_for: Callable[[float], Lease]
) -> None:
    """As after minutes without the database: all workers' leases are over, and none of them is dead."""
    lease = lease_for(600)
    await lease.take()
    await database.write(lambda connection: executors.renew(connection, executor=lease.executor, lasts=-1))
    queue = Queue()
    reaper = _reaper(database, queue)
    await reaper.work_once()
    assert await lease.renew()
    await reaper.work_once()
    await database.write(lease.require)
    assert queue.released == []


async def test_who_is_silent_for_two_looks_is_followed_by_others_once_and_does_not_come_back(
    database: Database, lease_for: Callable[[float], Lease]
) -> None:
    lease = lease_for(0.1)
    await lease.take()
    await eventually(lambda: _is_over(database, lease))
    queue = Queue()
    reapers = [_reaper(database, queue) for _ in range(3)]
    for _ in range(2):
        await asyncio.gather(*(reaper.work_once() for reaper in reapers))
    assert queue.released == [lease.executor]
    assert not await lease.renew()
    with pytest.raises(LeaseOver):
        await database.write(lease.require)


async def test_a_transaction_that_needs_a_lease_is_done_before_others_take_it(
    database: Database, lease_for: Callable[[float], Lease]
) -> None:
    lease = lease_for(600)
    await lease.take()
    queue = Queue()
    reaper = _reaper(database, queue)

    with database.engine.begin() as connection:
        lease.require(connection)
        await database.write(lambda other: executors.renew(other, executor=lease.executor, lasts=-1))
        for _ in range(3):
            await reaper.work_once()
        assert queue.released == []
    await reaper.work_once()
    assert queue.released == [lease.executor]


async def test_what_is_bound_to_a_lease_is_cut_off_at_its_end(lease_for: Callable[[float], Lease]) -> None:
    lease, done = lease_for(1), []

    async def work() -> None:
        await asyncio.sleep(3600)
        done.append("sent")

    await lease.take()
    with pytest.raises(LeaseOver):
        await lease.bind(work())
    with pytest.raises(LeaseOver):
        await lease.bind(work())
    assert done == []


async def test_what_a_frozen_process_was_about_to_send_does_not_leave_after_the_end_of_its_lease(
    lease_for: Callable[[float], Lease],
) -> None:
    """It was stopped between its last await and the write: no timer comes before that."""
    lease, done = lease_for(600), []

    async def work(asked: int) -> None:
        for _ in range(asked):
            leaving.take()
        lease._until = time.monotonic() - 1
        leaving.take()
        done.append("sent")

    await lease.take()
    for asked, raised in ((0, NothingAsked), (1, LeaseOver)):
        lease._until = time.monotonic() + 600
        with pytest.raises(LeaseOver) as over:
            await lease.bind(work(asked))
        assert over.type is raised
    assert (done, leaving.leave.get()) == ([], None)


async def test_a_long_question_that_was_held_up_on_its_way_is_not_finished_after_the_end_of_the_lease(
    lease_for: Callable[[float], Lease],
) -> None:
    """The process stands still (here: its event loop) with half of the question still to be sent, and its vendor reads on."""
    lease, size, received = lease_for(600), 8_000_000, []
    loop = asyncio.get_running_loop()

    def stand_still() -> None:
        time.sleep(1.5)
        lease._until = time.monotonic() - 1

    def read(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        loop.call_soon_threadsafe(loop.call_later, 0.3, stand_still)
        with connection, contextlib.suppress(ConnectionError):
            time.sleep(0.5)  # until as much is on its way as the system takes
            while some := connection.recv(65_536):
                received.append(len(some))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(30)
        vendor = threading.Thread(target=read, args=(listening,), daemon=True)
        vendor.start()
        http = VendorHttp(name="vendor", base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", auth={})
        await lease.take()
        with pytest.raises(LeaseOver):
            await lease.bind(http.submit("POST", "/", content=bytes(size)))
        await http.close()
        await asyncio.to_thread(vendor.join, 30)
    assert 0 < sum(received) < size


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="no clock here goes on while the machine sleeps")
async def test_a_machine_that_slept_for_longer_than_its_lease_is_cut_off(
    lease_for: Callable[[float], Lease], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop's timers stood still: only that clock tells."""
    lease, real = lease_for(600), time.clock_gettime
    await lease.take()
    bound = asyncio.create_task(lease.bind(asyncio.sleep(3600)))
    await asyncio.sleep(0.1)
    monkeypatch.setattr(time, "clock_gettime", lambda which: real(which) + (601 if which == time.CLOCK_BOOTTIME else 0))
    with pytest.raises(LeaseOver):
        await asyncio.wait_for(bound, 30)


async def test_what_is_bound_to_a_lease_goes_on_as_long_as_it_is_renewed(lease_for: Callable[[float], Lease]) -> None:
    lease = lease_for(600)
    await lease.take()

    async def work() -> str:
        lease._until += 600
        await asyncio.sleep(2.5)
        return "made"

    lease._until = time.monotonic() + 2
    assert await lease.bind(work()) == "made"


async def test_what_a_bound_work_raises_is_told_as_it_is(lease_for: Callable[[float], Lease]) -> None:
    lease = lease_for(600)
    await lease.take()

    async def work() -> None:
        raise TimeoutError("the vendor's")

    with pytest.raises(TimeoutError, match="vendor"):
        await lease.bind(work())
    bound = asyncio.create_task(lease.bind(asyncio.sleep(3600)))
    await asyncio.sleep(0)
    bound.cancel()
    with pytest.raises(asyncio.CancelledError):
        await bound
