"""Claim a credential: one order for each, held where it may wait, spared where its buyer has paid already."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import sqlalchemy as sa

from stablestudio.clock import Clock
from stablestudio.money import Money
from stablestudio.payments.errors import StoreUnavailable
from stablestudio.payments.rail import Credential, Rail
from stablestudio.sales.order import Held, Purchase
from stablestudio.store import copies, echoes
from stablestudio.store import payments as store
from stablestudio.store.database import CommitUnknown, Database
from stablestudio.store.echoes import Echo, Echoed
from stablestudio.store.locking import wait_no_longer

log = logging.getLogger(__name__)
# Clients that get no answer in half a minute pay the same request again on another rail.
_ECHO_MS = 120_000
# A held payment must still be good this long after the time that the work may take, in seconds.
_HOLD_SLACK_S = 60
# A credential that was spared is remembered this long after its end.
_SPARED_MS = 24 * 3600 * 1000
# What became of a commit whose answer was lost is asked after each of these pauses; each time, a transaction that is
# still in the way is waited for this long (seconds). Then the buyer is told that nobody knows.
_ASK_AGAIN = (0.1, 0.4, 1.0)
_LONGEST_TURN_S = 1.0
# A claim that was found after a lost answer is settled by who made it while it is this young, else by the reconciler.
_STILL_OURS_MS = 15_000


class Claims:
    """Takes credentials. Each claim is one transaction, and a unique constraint lets one win (money rule 1)."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock,
        exposure_cap: Money | None,
        start_job: Callable[[sa.Connection, store.Order], None],
    ) -> None:
        """Take the parts; `start_job` opens the job of an order in the transaction of a payment that may wait."""
        self._database = database
        self._clock = clock
        self._exposure_cap = exposure_cap
        self._start_job = start_job

    async def hold_limit(self, purchase: Purchase, rail: Rail, credential: Credential) -> int | None:
        """Return what this payer's held payments may add up to, in base units; None where this one cannot wait."""
        good_until = self._clock.now_ms() // 1000 + purchase.hold_s + _HOLD_SLACK_S
        if not purchase.hold_s or credential.expires_at is None or credential.expires_at < good_until:
            return None
        if not credential.proved:
            return None  # a contract may change its mind about its signature until the work is done
        funds = await rail.funds(credential)
        cap = self._exposure_cap.base_units(decimals=rail.decimals) if self._exposure_cap is not None else funds
        return None if funds is None or cap is None else min(funds, cap)

    def echo(self, purchase: Purchase, order: store.Order, payment: store.Payment) -> Echo | None:
        """Return what tells a second payment of the same run for the same request, where the buyer names its run.

        All of a buyer's wallets are in it, so both payments name each other's: a stranger who knows the run is in none.
        """
        session = purchase.buyer.session
        if session is None:
            return None
        wallets = sorted({order.wallet, *map(str, purchase.buyer.companions)})
        return Echo(
            key=hashlib.sha256("|".join((session, payment.fingerprint, *wallets)).encode()).hexdigest(),
            rail=payment.rail,
            order_id=order.id,
            created_at=order.created_at,
        )

    async def claim(
        self, order: store.Order, payment: store.Payment, *, echo: Echo | None, limit: int, intake: str | None = None
    ) -> store.Payment | Echoed | Held | None:
        """Claim a credential; None where it, or its idempotency key, was taken before; `Held` where nobody can tell.

        The order takes over the copies of its `intake`. Raises `StoreUnavailable` where it certainly was not claimed now.
        """

        def take(connection: sa.Connection) -> store.Payment | Echoed:
            taken = self._take(connection, order, payment, echo, limit)
            if intake is not None and not isinstance(taken, Echoed):
                copies.link(connection, intake=intake, order_id=order.id)
            return taken

        try:
            return await self._database.write(take)
        except sa.exc.IntegrityError:
            return None
        except CommitUnknown:
            log.exception("claim_unclear", extra={"order": order.id})
            return await self._claim_again(order, take)
        except sa.exc.SQLAlchemyError as error:
            log.exception("claim_not_written", extra={"order": order.id})
            raise StoreUnavailable from error

    async def _claim_again(
        self, order: store.Order, take: Callable[[sa.Connection], store.Payment | Echoed]
    ) -> store.Payment | Echoed | Held | None:
        """Write the same claim once more: the unique constraint tells whether it was written, also if its commit is under way."""

        def take_in_time(connection: sa.Connection) -> store.Payment | Echoed:
            wait_no_longer(connection, seconds=_LONGEST_TURN_S)
            return take(connection)

        for pause in _ASK_AGAIN:
            await asyncio.sleep(pause)
            if not self._is_young(order.created_at):
                break  # the reconciler would take what is written now for left behind, and settle it, too
            try:
                try:
                    return await self._database.write(take_in_time)
                except sa.exc.IntegrityError:
                    return await self._found(order)
            except sa.exc.SQLAlchemyError:
                log.exception("claim_unclear", extra={"order": order.id})
        return Held(job_id=order.id)

    async def _found(self, order: store.Order) -> store.Payment | Held | None:
        """Return our own claim, to go on with; `Held` where others may have done so; None where it is somebody else's."""
        found = await self._database.read(lambda connection: store.find_by_order(connection, order.id))
        if found is None or found.state == "held":
            return found
        is_ours = found.state == "claimed" and found.policy == "accept"
        return found if is_ours and self._is_young(found.claimed_at) else Held(job_id=order.id)

    def _is_young(self, claimed_at: int) -> bool:
        return self._clock.now_ms() < claimed_at + _STILL_OURS_MS

    def _take(
        self, connection: sa.Connection, order: store.Order, payment: store.Payment, echo: Echo | None, limit: int
    ) -> store.Payment | Echoed:
        """Claim the credential. A payment that may wait gets its job at once, in the same commit."""
        if payment.state == "held" and _is_exposed(connection, payment, limit):
            payment = replace(payment, state="claimed", policy="accept")
        try:
            echoes.require_not_spared(connection, rail=payment.rail, key=payment.key, ends_at=payment.expires_at)
            with connection.begin_nested() if echo is not None else nullcontext():
                store.claim(connection, order=order, payment=payment, echo=echo, window_ms=_ECHO_MS)
        except Echoed as echoed:
            expires = payment.expires_at or order.created_at + _ECHO_MS
            echoes.spare(
                connection,
                rail=payment.rail,
                key=payment.key,
                fingerprint=payment.fingerprint,
                order_id=echoed.order_id,
                expires_at=expires + _SPARED_MS,
            )
            return echoed
        if payment.state == "held":
            self._start_job(connection, order)
        return payment


def _is_exposed(connection: sa.Connection, payment: store.Payment, limit: int) -> bool:
    """Tell whether this payer's held payments would add up to too much, or one of them could not be collected."""
    held, refused = store.held_by(connection, payer=payment.payer, rail=payment.rail)
    return refused > 0 or held + payment.amount > limit
