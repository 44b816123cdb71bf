"""The refund worker: pays back what failed jobs owe, each once, and survives a stop at any moment."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import sqlalchemy as sa

from stablestudio.clock import Clock
from stablestudio.errors import StudioError
from stablestudio.failpoints import reach
from stablestudio.loops import every
from stablestudio.payments import refund_policy as policy
from stablestudio.payments.rail import Outcome, Rail, Rejected, Unknown
from stablestudio.payments.refund_policy import RefundLimits, TryLater, Wait
from stablestudio.store import refunds as store
from stablestudio.store import restores
from stablestudio.store.database import Database
from stablestudio.store.refunds import Refund

log = logging.getLogger(__name__)
_INTERVAL = 5.0
_BATCH = 100
_AT_ONCE = 8
_NO_LIMITS = RefundLimits()


class RefundWorker:
    """Decide, sign, remember, send, record. Each rail is worked on by itself, so that none waits for another's node."""

    def __init__(
        self,
        database: Database,
        *,
        rails: Mapping[str, Rail],
        clock: Clock,
        limits: Mapping[str, RefundLimits] | None = None,
        forgetful: Collection[str] = (),
    ) -> None:
        """Take the rails by their names, and the limits of those that have any.

        `forgetful` are rails where nothing but our own books knows that an order was refunded: neither a nonce of the
        order nor a search of the chain would keep a second transfer from being made after a restore of the books.
        """
        self._database = database
        self._rails = rails
        self._limits = limits or {}
        self._forgetful = frozenset(forgetful)
        self._clock = clock
        self._wakes = {name: asyncio.Event() for name in rails}
        self._loop: asyncio.AbstractEventLoop | None = None

    def wake(self) -> None:
        """Look at once instead of at the next interval; may be called from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake)

    async def run(self) -> None:
        """Work until cancelled."""
        self._loop = asyncio.get_running_loop()
        loops = [
            every(_INTERVAL, partial(self._work_on, rail), name=f"refunds {name}", wake=self._wakes[name])
            for name, rail in self._rails.items()
        ]
        await asyncio.gather(*loops, every(_INTERVAL, self._hold_strays, name="refunds without a rail"))

    async def work_once(self) -> None:
        """Bring every refund that is due one try further."""
        await asyncio.gather(*(self._work_on(rail) for rail in self._rails.values()), self._hold_strays())

    def _wake(self) -> None:
        for event in self._wakes.values():
            event.set()

    async def _work_on(self, rail: Rail) -> None:
        refunds = await self._database.read(partial(self._due, rail=rail.name))
        places, turn = asyncio.Semaphore(_AT_ONCE), asyncio.Lock()
        await asyncio.gather(*(self._try(refund, rail, places, turn) for refund in refunds))

    def _due(self, connection: sa.Connection, *, rail: str) -> list[Refund]:
        limits = self._limits.get(rail, _NO_LIMITS)
        room = policy.room(limits, spent_today=self._spent_today(connection, rail, limits))
        return store.due_refunds(
            connection, rail=rail, now=self._clock.now_ms(), minimum=limits.minimum, room=room, limit=_BATCH
        )

    def _spent_today(self, connection: sa.Connection, rail: str, limits: RefundLimits | None) -> int:
        if limits is None or limits.daily_cap is None:
            return 0  # nobody asks
        return store.signed_amount(connection, rail=rail, since=self._clock.now_ms() - policy.DAY_MS)

    async def _try(self, refund: Refund, rail: Rail, places: asyncio.Semaphore, turn: asyncio.Lock) -> None:
        async with places:
            try:
                await self._pay_back(refund, rail, turn)
            except Exception:
                # The transfer may be on its way: the refund stays owed, and the next try asks the chain first.
                log.exception("refund_faulted", extra={"order": refund.order_id})
                with suppress(sa.exc.SQLAlchemyError):  # as on a full disk: then it is tried again without a pause
                    await self._postpone(refund, "faulted")

    async def _pay_back(self, refund: Refund, rail: Rail, turn: asyncio.Lock) -> None:
        known = refund.signed
        # First come, first served: what a cap has left goes to the oldest.
        async with turn if known is None else nullcontext():
            signed = known or await self._sign(refund, rail)
            if not isinstance(signed, str):
                return await self._record(refund, signed, final=False)
            refund = replace(refund, signed=signed)
            if not await self._database.write(partial(self._admit, refund=refund, known=known)):
                return None  # it has to wait, or another worker signed it first and sends its own bytes
        if known is None:
            reach("refund.signed")
        outcome, final = await self._send(signed, rail, is_new=known is None)
        if final and isinstance(outcome, Rejected) and outcome.reason == policy.EXPIRED:
            return await self._send_anew(refund, rail)
        return await self._record(refund, outcome, final=final)

    async def _sign(self, refund: Refund, rail: Rail) -> str | Rejected | Unknown:
        """Return the signed transfer, or why there is none now: in any case nothing of it has left."""
        if not refund.recipient:
            return Rejected(reason=policy.PAYER_UNKNOWN, message="Nobody knows whom this refund is for.")
        terms: dict[str, Any] = {"order_id": refund.order_id, "recipient": refund.recipient, "amount": refund.amount}
        try:
            return await rail.sign_refund(**terms, now_s=self._clock.now_ms() // 1000)
        except StudioError as error:
            # What passes by itself is for later; a recipient that no rail can pay is for a person.
            return Unknown(reason=error.code) if error.retryable else Rejected(reason=error.code, message=str(error))
        except Exception as error:
            # A rail may stumble over anything in a recipient. Nothing was signed, so certainly nothing moves.
            log.exception("refund_not_signed", extra={"order": refund.order_id})
            return Rejected(reason="cannot_be_signed", message=str(error))

    def _admit(self, connection: sa.Connection, *, refund: Refund, known: str | None) -> bool:
        """Decide and store in one transaction: no two workers pass a cap together, and the first signature wins."""
        fresh = store.find_to_decide(connection, refund.order_id, rail=refund.rail)
        if fresh is None or fresh.state == "refunded" or fresh.signed != known:
            return False
        limits = self._limits.get(refund.rail, _NO_LIMITS) if refund.rail in self._rails else None
        now, spent = self._clock.now_ms(), self._spent_today(connection, refund.rail, limits)
        forgotten = refund.rail in self._forgetful and restores.is_older(connection, refund.order_id)
        verdict = policy.decide(fresh, spent_today=spent, limits=limits, now=now, forgotten=forgotten)
        if isinstance(verdict, Wait):
            if verdict.until is None and store.hold(connection, refund=fresh, reason=verdict.reason):
                _warn("refund_waits", fresh, verdict.reason)
            return False
        if known is None:
            return store.sign_refund(connection, order_id=fresh.order_id, signed=refund.signed or "", now=now)
        return fresh.state == "signed" or store.resume(connection, order_id=fresh.order_id, signed=known)

    async def _send(self, signed: str, rail: Rail, *, is_new: bool) -> tuple[Outcome, bool]:
        """Return what became of a transfer, and whether that is final.

        Only what the chain itself says of a transfer is: a refusal to send it may be a node's that lags behind, and
        another worker may have the same bytes in hand.
        """
        found = Unknown(reason="not_sent") if is_new else await rail.find_refund(signed)
        if isinstance(found, Unknown):
            outcome = await rail.send_refund(signed)
            is_over = isinstance(outcome, Rejected) and outcome.reason == policy.EXPIRED
            found = await rail.find_refund(signed) if is_over else Unknown(reason="not_asked")
        reach("refund.sent")
        return (outcome, False) if isinstance(found, Unknown) else (found, True)

    async def _send_anew(self, refund: Refund, rail: Rail) -> None:
        """Sign again what has expired: that can never happen any more, so the new transfer cannot be a second one."""
        renewed = await self._sign(refund, rail)
        if not isinstance(renewed, str):
            return await self._record(refund, renewed, final=False)
        terms = {"order_id": refund.order_id, "signed": refund.signed or "", "renewed": renewed}
        if not await self._database.write(lambda connection: store.renew_signature(connection, **terms)):
            return None  # another worker renewed it first and sends its own bytes
        outcome, final = await self._send(renewed, rail, is_new=True)
        return await self._record(replace(refund, signed=renewed), outcome, final=final)

    async def _record(self, refund: Refund, outcome: Outcome, *, final: bool) -> None:
        if isinstance(outcome, Rejected):
            return await self._record_rejection(refund, outcome, final=final)
        if isinstance(outcome, Unknown):
            _warn("refund_not_seen", refund, outcome.reason)
            return await self._postpone(refund, outcome.reason)
        terms = {"order_id": refund.order_id, "transaction": outcome.transaction}
        now = self._clock.now_ms()
        await self._database.write(lambda connection: store.settle_refund(connection, **terms, now=now))
        log.info("refunded", extra={"order": refund.order_id, "transaction": outcome.transaction})
        return None

    async def _record_rejection(self, refund: Refund, rejected: Rejected, *, final: bool) -> None:
        """Pause or hold; after a final word of the chain the signature is dropped, so that another can be made."""
        verdict = policy.judge(rejected, refund=refund, now=self._clock.now_ms())
        event = "refund_waits" if isinstance(verdict, Wait) else "refund_not_sent"
        _warn(event, refund, rejected.reason, detail=rejected.message)
        dead = refund.signed if final else None
        await self._database.write(
            partial(self._put_back, refund=refund, verdict=verdict, reason=rejected.reason, dead=dead)
        )

    def _put_back(
        self, connection: sa.Connection, *, refund: Refund, verdict: TryLater | Wait, reason: str, dead: str | None
    ) -> None:
        now = self._clock.now_ms()
        if dead is not None:
            store.forget_signature(connection, order_id=refund.order_id, signed=dead, now=now)
            refund = replace(refund, signed=None)
        if isinstance(verdict, Wait):
            store.hold(connection, refund=refund, reason=reason)
        else:
            store.postpone(connection, order_id=refund.order_id, reason=reason, now=now)

    async def _postpone(self, refund: Refund, reason: str) -> None:
        now = self._clock.now_ms()
        await self._database.write(
            lambda connection: store.postpone(connection, order_id=refund.order_id, reason=reason, now=now)
        )

    async def _hold_strays(self) -> None:
        """Let refunds wait whose rail is switched off or unknown; they go on when it is back."""
        strays = await self._database.read(partial(store.open_refunds, not_on=tuple(self._rails)))
        for refund in strays:
            await self._database.write(partial(self._admit, refund=refund, known=refund.signed))


def _warn(event: str, refund: Refund, reason: str, *, detail: str = "") -> None:
    """Log what needs time, and as an error what needs a person."""
    needs_person = reason in (policy.PURSE_EMPTY, store.RAIL_MISSING, store.RESTORED)
    facts = {"order": refund.order_id, "rail": refund.rail, "amount": refund.amount, "reason": reason, "detail": detail}
    log.log(logging.ERROR if needs_person else logging.WARNING, event, extra=facts)
