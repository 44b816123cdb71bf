"""Sell one order: verify the credential, claim it, settle it, and commit payment, job and workflow together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import sqlalchemy as sa

from stablestudio import catalog
from stablestudio.catalog import Kind, Offering, OfferingInput
from stablestudio.clock import Clock
from stablestudio.errors import StudioError
from stablestudio.failpoints import reach
from stablestudio.jobs.engine import QUEUE, Engine
from stablestudio.media.intake import Checked, Intake
from stablestudio.money import Money
from stablestudio.payments.errors import (
    IdempotencyConflict,
    NetworkNotOffered,
    PaymentReused,
    SalesUnavailable,
    StoreUnavailable,
    rejection,
)
from stablestudio.payments.rail import Asked, Credential, Outcome, Presented, Rail, Rejected, Settled, Unknown
from stablestudio.sales.claim import Claims
from stablestudio.sales.fingerprint import fingerprint
from stablestudio.sales.order import Held, Purchase, Sold, open_order
from stablestudio.store import echoes
from stablestudio.store import jobs as job_store
from stablestudio.store import payments as store
from stablestudio.store.database import Database
from stablestudio.store.echoes import Echoed, Refused

log = logging.getLogger(__name__)
_CLAIM_TRIES = 3
# A copy of a payment that is being settled waits this long for its twin's answer, then is told to come back.
_TWIN_SECONDS = 10.0
# A credential whose end is this near, or this long ago, may have looked good to a try that has not claimed it yet: one whose
# process stood still meanwhile, or has another clock.
_NEARLY_OVER_S, _STRAGGLING_S = 30, 600


class Seller:
    """Takes payments for orders. Money rules 1 to 3 of the design are kept here."""

    def __init__(
        self,
        database: Database,
        *,
        rails: Sequence[Rail],
        engine: Engine,
        intake: Intake,
        clock: Clock,
        exposure_cap: Money | None = None,
        queue_of: Callable[[Offering], str] = lambda _: QUEUE,
        open_upload: Callable[[sa.Connection, store.Order], None] | None = None,
        require_maker: Callable[[Offering, OfferingInput], object] = lambda *_: None,
    ) -> None:
        """Take the parts; `exposure_cap` is the most that one payer's held payments may add up to.

        `require_maker` raises where nobody makes an input as its files turned out.

        `queue_of` names the engine's queue of an offering, which is that of its preferred provider. `open_upload` opens
        what an order for an upload pays for, in the transaction that it is given.
        """
        self._database = database
        self._rails = {rail.name: rail for rail in rails}
        self._engine = engine
        self._intake = intake
        self._clock = clock
        self._claims = Claims(database, clock=clock, exposure_cap=exposure_cap, start_job=self._start_job)
        self._queue_of = queue_of
        self._open_upload = open_upload
        self._require_maker = require_maker
        self._in_flight: dict[str, asyncio.Future[None]] = {}
        self._checks: dict[tuple[str, str, str], asyncio.Task[Checked]] = {}

    async def sell(self, purchase: Purchase) -> Sold | Held:
        """Sell, or answer as before if this payment was presented before.

        Raises a `StudioError`: 402 where certainly nothing moved, 409 where the payment belongs to another order. Where
        the books cannot be read, SQLAlchemy's own errors: this payment may have been taken by an earlier try.
        """
        rail = self._rail_of(purchase.presented)
        credential = rail.identify(purchase.presented)
        mark = fingerprint("POST", purchase.path, purchase.body)
        try:
            rail.check(purchase.presented, self._asked(purchase))
            # The chain first: where only it can judge a signature, nothing is looked up for whoever wrote one.
            if (refused := await rail.admit(credential)) is not None:
                raise rejection(refused, payer=credential.payer, network=credential.network)
        except StudioError:
            # Prices, clocks and balances change; a payment that was taken keeps its answer for ever.
            known = await self._known(rail, credential, mark)
            if known is None and self._may_be_under_way(credential) and not await self._refuse(rail, credential):
                known = await self._known(rail, credential, mark)
            if known is None:
                raise
            return known
        if not purchase.input.media():
            reach("sale.verified")
            return await self._claim(purchase, rail, credential, mark)
        return await self._sell_with_files(purchase, rail, credential, mark)

    async def _sell_with_files(self, purchase: Purchase, rail: Rail, credential: Credential, mark: str) -> Sold | Held:
        """Sell what is made from files: copies of one payment have them looked at once, and never after the claim."""
        known = await self._known(rail, credential, mark)
        if known is not None:
            return known
        twin = (rail.name, credential.key, mark)
        task = self._checks.get(twin)
        if task is None:
            task = asyncio.create_task(self._intake.check(purchase.input, wallet=str(credential.wallet)))
            self._checks[twin] = task
        try:
            checked = await asyncio.shield(task)
            try:
                if checked.input is not purchase.input:
                    self._require_maker(purchase.offering, checked.input)
                    purchase = replace(purchase, input=checked.input)
                reach("sale.verified")
                return await self._claim(purchase, rail, credential, mark, intake=checked.intake)
            except StudioError:
                await self._intake.forget(checked, wallet=str(credential.wallet))
                raise
        finally:
            if self._checks.get(twin) is task:
                del self._checks[twin]

    def _asked(self, purchase: Purchase) -> Asked:
        return Asked(
            path=purchase.path,
            body=purchase.body,
            price=purchase.price,
            now_s=self._clock.now_ms() // 1000,
            hold_s=purchase.hold_s,
        )

    async def recall(self, presented: Presented, *, path: str, body: bytes) -> Sold | Held | None:
        """Answer a payment that was taken before, whatever today's rules say to its request; `None` if there is none."""
        try:
            rail = self._rail_of(presented)
            credential = rail.identify(presented)
        except StudioError:
            return None
        return await self._known(rail, credential, fingerprint("POST", path, body))

    def _may_be_under_way(self, credential: Credential) -> bool:
        """Tell whether another try may have found a credential good a moment ago that is over by our clock."""
        if credential.expires_at is None or not credential.proved:
            return False
        return -_STRAGGLING_S < credential.expires_at - self._clock.now_ms() // 1000 < _NEARLY_OVER_S

    async def _refuse(self, rail: Rail, credential: Credential) -> bool:
        """Keep a credential from being taken, now that its buyer will hear that it was not; `False` where it has been."""
        terms = {"rail": rail.name, "key": credential.key}
        ends_at = _ends_at(credential) or 0
        return await self._database.write(lambda connection: echoes.refuse(connection, **terms, ends_at=ends_at))

    async def _known(self, rail: Rail, credential: Credential, mark: str) -> Sold | Held | None:
        def query(connection: sa.Connection) -> tuple[store.Payment | None, store.Payment | None]:
            terms = {"rail": rail.name, "key": credential.key}
            return store.find_by_key(connection, **terms), store.find_rejected(connection, **terms)

        if credential.proved:
            try:
                require = partial(
                    echoes.require_not_spared, rail=rail.name, key=credential.key, ends_at=_ends_at(credential)
                )
                await self._database.read(require)
            except Echoed as echoed:
                return await self._answer_echo(echoed, mark=mark)
            except Refused:
                pass  # nobody has taken it since; an older try may have been given back
        holder, rejected = await self._database.read(query)  # after its turn: a claim under way is waited for
        known = holder or rejected
        if known is None or not (credential.proved or credential.saved == known.credential):
            return None  # a signature that only the chain can judge is not heard again in another's name
        if holder is not None:
            return await self._answer_again(holder, mark=mark, key=credential.key)
        if rejected is None or rejected.fingerprint != mark:
            return None
        # It was given back as rejected; only the chain can say that it moved after all.
        outcome = await rail.find(rejected.credential)
        order = await self._database.read(lambda connection: store.find_order(connection, rejected.order_id))
        if not isinstance(outcome, Settled) or order is None:
            return None
        return await self.finish(order, rejected, outcome)

    def _rail_of(self, presented: Presented) -> Rail:
        for rail in self._rails.values():
            if rail.takes(presented):
                return rail
        raise NetworkNotOffered(
            f"This service is paid on {', '.join(sorted({rail.network for rail in self._rails.values()}))}, "
            "in the tokens of its offers."
        )

    async def _claim(
        self, purchase: Purchase, rail: Rail, credential: Credential, mark: str, *, intake: str | None = None
    ) -> Sold | Held:
        limit = await self._claims.hold_limit(purchase, rail, credential)
        for _ in range(_CLAIM_TRIES):
            order, payment = open_order(
                purchase, rail, credential, mark, held=limit is not None, now=self._clock.now_ms()
            )
            done = asyncio.get_running_loop().create_future()
            self._in_flight[payment.id] = done
            try:
                echo = self._claims.echo(purchase, order, payment)
                try:
                    taken = await self._claims.claim(order, payment, echo=echo, limit=limit or 0, intake=intake)
                except StoreUnavailable:
                    # This try wrote nothing; an earlier one, whose answer the buyer never got, may have.
                    if (known := await self._known(rail, credential, mark)) is None:
                        raise
                    return known
                except Refused:
                    over = Rejected(reason="payment_expired", message="The payment was over before it could be taken.")
                    raise rejection(over, payer=credential.payer, network=credential.network) from None
                if isinstance(taken, Held):
                    return taken
                if isinstance(taken, Echoed):
                    return await self._answer_echo(taken, mark=mark)
                if taken is not None:
                    reach("sale.claimed")
                    return await self._sold_now(order, taken, rail)
            finally:
                del self._in_flight[payment.id]
                done.set_result(None)
            holder = await self._database.read(
                lambda connection: store.find_holder(connection, order=order, payment=payment)  # noqa: B023
            )
            if holder is not None:
                return await self._answer_again(holder, mark=mark, key=credential.key)
        raise SalesUnavailable

    async def _sold_now(self, order: store.Order, taken: store.Payment, rail: Rail) -> Sold | Held:
        """Settle what was claimed a moment ago, unless it may wait for the work."""
        if taken.state == "held":
            return Sold(job_id=order.id, payment=taken, owner=order.wallet)
        answer = await self.finish(order, taken, await settle(rail, taken))
        if isinstance(answer, Sold) and answer.job_id == order.id:
            return replace(answer, owner=order.wallet)
        return answer

    async def _answer_echo(self, echoed: Echoed, *, mark: str) -> Sold | Held:
        if echoed.fingerprint not in (None, mark):
            raise PaymentReused
        try:
            first = await self._database.read(lambda connection: store.find_by_order(connection, echoed.order_id))
        except sa.exc.SQLAlchemyError as error:
            return _unread(error, echoed.order_id)
        if first is None:
            raise SalesUnavailable
        log.info("paid_twice_taken_once", extra={"order": echoed.order_id})
        answer = await self._answer_again(first, mark=first.fingerprint, key=first.key)
        return replace(answer, echo=True) if isinstance(answer, Sold) else answer

    async def finish(self, order: store.Order, payment: store.Payment, outcome: Outcome) -> Sold | Held:
        """Record an outcome: job and workflow in the payment's own commit, or the credential given back."""
        reach("sale.settled")
        try:
            recorded = await self._database.write(lambda connection: self._record(connection, order, payment, outcome))
        except Exception:
            # Whatever broke, the money may have moved: nobody may hear that nothing was charged. The claim is on disk.
            log.exception("outcome_not_written", extra={"order": order.id})
            return Held(job_id=order.id)
        if recorded and isinstance(outcome, Settled):
            reach("sale.committed")
            return Sold(job_id=order.id, payment=replace(payment, state="settled", transaction=outcome.transaction))
        if recorded and isinstance(outcome, Rejected):
            log.info("payment_rejected", extra={"order": order.id, "reason": outcome.reason})
            raise rejection(outcome, payer=payment.payer, network=payment.network)
        if isinstance(outcome, Settled):
            return await self._settled_already(payment)
        return await self._recorded(payment)

    def _record(self, connection: sa.Connection, order: store.Order, payment: store.Payment, outcome: Outcome) -> bool:
        """Write the outcome down; `False` if somebody else has recorded one, and the job with it."""
        now = self._clock.now_ms()
        match outcome:
            case Rejected(reason=reason):
                return store.reject(connection, payment=payment, reason=reason, now=now)
            case Unknown(reason=reason):
                return store.mark_unknown(connection, payment=payment, reason=reason, now=now)
            case Settled(transaction=transaction):
                if not store.settle(connection, payment=payment, transaction=transaction, now=now):
                    return False
        if payment.policy == "complete":
            job_store.owe(connection, job_id=order.id, now=now)  # the work may have failed before the money came
        else:
            self._start_job(connection, order)
        return True

    def _start_job(self, connection: sa.Connection, order: store.Order) -> None:
        offering = catalog.find(order.model, order.operation)
        if offering is not None and offering.kind is Kind.UPLOAD and self._open_upload is not None:
            return self._open_upload(connection, order)  # that is all there is to make
        type_ = offering.type if offering else f"{order.model}-{order.operation}"
        job_store.insert(connection, order_id=order.id, wallet=order.wallet, type_=type_, now=self._clock.now_ms())
        self._engine.enqueue(connection, order.id, queue=self._queue_of(offering) if offering else QUEUE)

    async def _recorded(self, payment: store.Payment) -> Sold | Held:
        try:
            current = await self._database.read(lambda connection: store.find_by_order(connection, payment.order_id))
        except sa.exc.SQLAlchemyError as error:
            return _unread(error, payment.order_id)
        if current is not None and (current.state == "settled" or current.policy == "complete"):
            return Sold(job_id=current.order_id, payment=current)
        if current is not None and current.state == "rejected":
            outcome = Rejected(reason=current.reason or "", message="")
            raise rejection(outcome, payer=current.payer, network=current.network)
        return Held(job_id=payment.order_id)

    async def _settled_already(self, payment: store.Payment) -> Sold | Held:
        """The money moved, for this order or for another one of the same credential: never a word of 402 here."""
        try:
            holder = await self._database.read(
                lambda connection: store.find_by_key(connection, rail=payment.rail, key=payment.key)
            )
        except sa.exc.SQLAlchemyError as error:
            return _unread(error, payment.order_id)
        if holder is not None and holder.state == "settled":
            return Sold(job_id=holder.order_id, payment=holder)
        return Held(job_id=payment.order_id)

    async def _answer_again(self, holder: store.Payment, *, mark: str, key: str) -> Sold | Held:
        if holder.fingerprint != mark:
            raise PaymentReused if holder.key == key else IdempotencyConflict
        twin = self._in_flight.get(holder.id)
        if twin is not None:
            await asyncio.wait((twin,), timeout=_TWIN_SECONDS)
        return await self._recorded(holder)


def _ends_at(credential: Credential) -> int | None:
    """Return when a credential ends, in milliseconds."""
    return None if credential.expires_at is None else credential.expires_at * 1000


def _unread(error: Exception, order_id: str) -> Held:
    """A payment was taken, and what became of it cannot be read now: nobody may hear that nothing was charged."""
    log.error("outcome_not_read", extra={"order": order_id}, exc_info=error)
    return Held(job_id=order_id)


async def settle(rail: Rail, payment: store.Payment) -> Outcome:
    """Settle a claimed payment; whatever breaks on the way is `Unknown`."""
    try:
        outcome = await rail.settle(payment.credential)
        # Our own fault, while work may be done for it or an earlier try may be under way: it is tried again.
        ours = isinstance(outcome, Rejected) and outcome.reason == "settlement_unavailable"
        return Unknown(reason="settlement_unavailable") if ours and payment.state != "claimed" else outcome
    except Exception:
        # Whatever broke, the money may have moved: unknown is not failed (money rule 3).
        log.exception("settlement_unclear", extra={"order": payment.order_id})
        return Unknown(reason="settlement_unclear")
