"""The purge beside sales: books of a million jobs, some of whose files are due, and how long a claim waits meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load_books import fill
from stablestudio.clock import SystemClock
from stablestudio.jobs.purge import GRACE_MS, Purger
from stablestudio.media.storage import Storage
from stablestudio.store import migrate, payments
from stablestudio.store.database import Database, connect
from stablestudio.store.payments import Order, Payment

JOBS = 1_000_000
_DUE = 20_000  # jobs whose files go: more than an hour's at a million a month
_PAUSE = 0.02  # seconds between claims
_ALONE = 200  # claims without a purge beside them


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeBench:
    """One run; the files themselves are not there, so that what is measured is the books."""

    folder: Path
    say: Callable[[str], None]

    def run(self) -> str:
        url = f"sqlite:///{self.folder / 'books.db'}"
        migrate.upgrade(url)
        with closing(connect(url)) as database:
            seconds = _fill(database)
            self.say(f"purge: {JOBS:,} jobs written in {seconds:.0f} s")
            return asyncio.run(self._measure(database))

    async def _measure(self, database: Database) -> str:
        seller = _Seller(database)
        alone = [await seller.claim() for _ in range(_ALONE)]
        purger = Purger(database, storage=Storage.at(str(self.folder / "assets")), clock=SystemClock())
        began = time.perf_counter()
        purge = asyncio.create_task(purger.purge())
        beside = []
        while not purge.done():
            beside.append(await seller.claim())
            await asyncio.sleep(_PAUSE)
        seconds = time.perf_counter() - began
        files = (await purge).files
        return (
            f"purge of {files:,} files among {JOBS:,} jobs: {files / seconds:,.0f} a second; "
            f"a claim waits {_told(beside)}, {_told(alone)} without it (ms: median, p99, longest)"
        )


class _Seller:
    """Claims payments, one after the other."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._count = 0

    async def claim(self) -> float:
        """Return for how many seconds a claim was waited for."""
        self._count += 1
        order, payment = _sale(self._count)
        began = time.perf_counter()
        await self._database.write(lambda connection: payments.claim(connection, order=order, payment=payment))
        return time.perf_counter() - began


def _fill(database: Database) -> float:
    began = time.perf_counter()
    fill(database, jobs=JOBS, due=_DUE, now=SystemClock().now_ms() - 2 * GRACE_MS)
    driver = database.engine.raw_connection()
    try:
        driver.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        driver.close()
    return time.perf_counter() - began


def _sale(number: int) -> tuple[Order, Payment]:
    now = SystemClock().now_ms()
    order = Order(
        id=f"job_new{number}",
        wallet="eip155:0x1",
        model="nano-banana",
        operation="generate",
        input='{"prompt":"a paper boat"}',
        price_micros=45_000,
        idempotency_key=None,
        created_at=now,
    )
    payment = Payment(
        id=f"pay_new{number}",
        order_id=order.id,
        rail="x402:eip155:84532",
        key=f"new{number}",
        fingerprint="mark",
        credential="{}",
        state="claimed",
        network="eip155:84532",
        asset="0x0",
        amount=45_000,
        payer="0x0",
        transaction=None,
        reason=None,
        claimed_at=now,
        updated_at=now,
        expires_at=now,
        policy="accept",
    )
    return order, payment


def _told(waits: Sequence[float]) -> str:
    ordered = sorted(1000 * wait for wait in waits)
    return " / ".join(f"{ordered[min(int(len(ordered) * share), len(ordered) - 1)]:.1f}" for share in (0.5, 0.99, 1))
