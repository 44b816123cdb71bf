"""What several processes must agree on about money under way, kept in the database: attempts, and the lease of a key."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import sqlalchemy as sa

from stablestudio.clock import Clock
from stablestudio.payments.evm.gas import Holds, NotSent
from stablestudio.store import attempts as attempt_store
from stablestudio.store import leases as lease_store
from stablestudio.store.database import Database

log = logging.getLogger(__name__)
_PRUNE_EVERY = 256
_LASTS_SECONDS = 30.0
_WAIT_SECONDS = 15.0
_POLL_SECONDS = 0.03
_QUEUE_SECONDS = 1.0  # how long a place in the queue outlives a process that died in it
_HOLD_PART = 2 / 3  # of a lease: the rest covers clocks that differ and a request that is still on its way


class StoredAttempts:
    """`facilitator_line.Attempts` in the table `settlement_attempts`: for any number of processes, across restarts."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._begun = 0

    async def begin(self, key: str, *, facilitator: str, expires_at: int) -> str | None:
        self._begun += 1
        if self._begun % _PRUNE_EVERY == 0:
            await self.prune()
        now = self._clock.now_ms()
        return await self._database.write(
            lambda connection: attempt_store.begin(
                connection, key=key, facilitator=facilitator, expires_at=expires_at, now=now
            )
        )

    async def spend(self, key: str, *, facilitator: str | None = None) -> bool:
        return await self._database.write(
            lambda connection: attempt_store.spend(connection, key=key, facilitator=facilitator)
        )

    async def release(self, key: str, *, facilitator: str | None = None) -> bool:
        return await self._database.write(
            lambda connection: attempt_store.release(connection, key=key, facilitator=facilitator)
        )

    async def prune(self) -> int:
        """Drop the notes of payments that nobody can settle any more; return how many."""
        now = self._clock.now_ms()
        return await self._database.write(lambda connection: attempt_store.forget_expired(connection, now=now))


class StoredLease:
    """`evm_gas.Lease` in the table `leases`: one writer among all processes that use one database.

    A lease ends by itself, so a process that is killed holds the others up for `lasts` seconds at most, and there
    are no renewals: what is done under the lease is cut off after two thirds of it. The machines' clocks must agree
    within the last third.

    What remains possible: a process that is frozen (a suspended machine, a stopped container) between its last
    look at the lease and the bytes it sends wakes after another has taken over. Then two transactions of the gas key
    may bear one nonce. A node takes one of them, or one replaces the other; whoever lost asks the node for its
    nonces again, or is `Unknown` and is submitted again by the reconciler. No money moves twice by that, because what
    is sent can happen once whatever the gas key's nonces do: the token spends an authorization's own nonce once.
    """

    def __init__(
        self, database: Database, name: str, holder: str, clock: Clock, *, lasts: float = _LASTS_SECONDS
    ) -> None:
        """Name what is leased (`gas:eip155:84532:0x..`) and, for people who read the table, who asks."""
        self._database = database
        self._name = name
        self._holder = holder
        self._clock = clock
        self._lasts = lasts
        self._turn = asyncio.Lock()  # tasks of this process queue here, in order, and use one place of the table

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[Holds]:
        """Wait for the lease and keep it inside the `async with`; raise `NotSent` if it is not free in time.

        The body is cancelled and raises `TimeoutError` when the lease is about to end.
        """
        mine = f"{self._holder}/{secrets.token_hex(8)}"
        deadline = asyncio.get_running_loop().time() + _WAIT_SECONDS
        async with self._in_turn(deadline):
            try:
                since = await self._take(mine, deadline)
                last = since + int(self._lasts * _HOLD_PART * 1000)
                async with asyncio.timeout((last - self._clock.now_ms()) / 1000):
                    yield lambda: since <= self._clock.now_ms() < last
            finally:
                await self._give_back(mine)

    @asynccontextmanager
    async def _in_turn(self, deadline: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout_at(deadline):
                await self._turn.acquire()
        except TimeoutError:
            raise NotSent("gas_key_busy") from None
        try:
            yield
        finally:
            self._turn.release()

    async def _take(self, mine: str, deadline: float) -> int:
        """Return when the lease was taken, in milliseconds."""
        while True:
            since = await self._database.write(lambda connection: self._try(connection, mine))
            if since is not None:
                return since
            if asyncio.get_running_loop().time() >= deadline:
                raise NotSent("gas_key_busy")
            # Drawn by lot, so that several who wait do not knock at the same moments for ever.
            await asyncio.sleep(random.uniform(0.5, 1.5) * _POLL_SECONDS)  # noqa: S311 - no secret

    def _try(self, connection: sa.Connection, mine: str) -> int | None:
        now = self._clock.now_ms()  # here: a write may have waited for its turn
        taken = lease_store.take(
            connection,
            name=self._name,
            holder=mine,
            now=now,
            lasts=int(self._lasts * 1000),
            waits=int(_QUEUE_SECONDS * 1000),
        )
        return now if taken else None

    async def _give_back(self, mine: str) -> None:
        # Also after a cancelled wait: writes keep their order, so this undoes a taking that nobody heard of.
        try:
            await self._database.write(
                lambda connection: lease_store.give_back(connection, name=self._name, holder=mine)
            )
        except sa.exc.SQLAlchemyError:
            # What was sent was sent: a database that fails now may not turn that into a failure. The lease ends by itself.
            log.exception("lease_not_given_back", extra={"lease": self._name})
