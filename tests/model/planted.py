"""Bugs to plant: each undoes one thing that keeps a money rule, as a hurried change might."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from stablestudio.jobs.asking import Asking
from stablestudio.jobs.decisions import step
from stablestudio.jobs.maker import Maker
from stablestudio.payments.rail import Outcome, Rejected, Settled, Unknown
from stablestudio.payments.refunds import RefundWorker
from stablestudio.providers.provider import NotAccepted
from stablestudio.sales import charge, reconcile, sell
from stablestudio.sales.order import Sold, open_order
from stablestudio.sales.sell import Seller
from stablestudio.store import jobs, payments, tables

Plant = Callable[[pytest.MonkeyPatch], None]
PLANTS: dict[str, Plant] = {}


def _plant(plant: Plant) -> Plant:
    PLANTS[plant.__name__] = plant
    return plant


@_plant
def refund_signed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sign each try of a refund anew, instead of sending the stored bytes again."""
    real = RefundWorker._pay_back

    async def pay_back(self: RefundWorker, refund: Any, rail: Any, turn: asyncio.Lock) -> None:
        await (real(self, refund, rail, turn) if refund.signed is None else self._send_anew(refund, rail))

    monkeypatch.setattr(RefundWorker, "_pay_back", pay_back)


@_plant
def lost_answer_taken_for_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask the vendor again after an intent whose answer was lost."""

    async def find(self: Asking, work: Any, *, attempt: int, name: str) -> Any:
        return await self._refused(work, NotAccepted("no answer"), attempt=attempt, name=name)

    monkeypatch.setattr(Asking, "_find", find)


def _hasty(real: Callable[..., Any]) -> Callable[..., Any]:
    async def settle(rail: Any, payment: Any) -> Outcome:
        outcome: Outcome = await real(rail, payment)
        return Rejected(reason=outcome.reason, message="") if isinstance(outcome, Unknown) else outcome

    return settle


@_plant
def unknown_settlement_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer a settlement that nobody knows the outcome of with 402."""
    monkeypatch.setattr(sell, "settle", _hasty(sell.settle))


@_plant
def unknown_charge_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a job whose held payment was settled without an answer."""
    monkeypatch.setattr(charge, "settle", _hasty(sell.settle))


@_plant
def unknown_again_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a payment back when the reconciler's own try had no answer."""
    monkeypatch.setattr(reconcile, "settle", _hasty(sell.settle))


@_plant
def cancelled_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancel without a look at whether a vendor was asked."""
    monkeypatch.setattr(jobs, "is_asked_for", lambda *_: False)


@_plant
def job_in_a_second_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Record the settlement first, and open the job in a transaction of its own."""
    record, finish = Seller._record, Seller.finish

    def only_payment(self: Seller, connection: sa.Connection, order: Any, payment: Any, outcome: Outcome) -> bool:
        if not isinstance(outcome, Settled) or payment.policy == "complete":
            return record(self, connection, order, payment, outcome)
        now = self._clock.now_ms()
        return payments.settle(connection, payment=payment, transaction=outcome.transaction, now=now)

    async def then_job(self: Seller, order: Any, payment: Any, outcome: Outcome) -> Any:
        answer = await finish(self, order, payment, outcome)
        if isinstance(answer, Sold) and answer.job_id == order.id and payment.policy != "complete":
            await self._database.write(lambda connection: self._start_job(connection, order))
        return answer

    monkeypatch.setattr(Seller, "_record", only_payment)
    monkeypatch.setattr(Seller, "finish", then_job)


@_plant
def settled_before_the_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settle first, and claim what was settled."""
    real = Seller._claim

    async def claim(self: Seller, purchase: Any, rail: Any, credential: Any, mark: str, **more: Any) -> Any:
        _, payment = open_order(purchase, rail, credential, mark, held=False, now=self._clock.now_ms())
        await sell.settle(rail, payment)
        return await real(self, purchase, rail, credential, mark, **more)

    monkeypatch.setattr(Seller, "_claim", claim)


@_plant
def credentials_claimed_by_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the unique index of credentials out."""
    real = payments.claim

    def claim(connection: sa.Connection, **terms: Any) -> None:
        connection.execute(sa.text("DROP INDEX IF EXISTS uq_payments_rail_key"))
        real(connection, **terms)

    monkeypatch.setattr(payments, "claim", claim)


@_plant
def leases_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take over an intent whose process still holds its lease."""

    async def is_anothers(_: Asking, __: jobs.Submission) -> bool:
        return False

    monkeypatch.setattr(Asking, "_is_anothers", is_anothers)


@_plant
def own_question_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a step while the same process still asks the vendor for it."""

    async def submit(self: Asking, job: jobs.Job, work: Any) -> Any:
        return await self._submit_once(work) if job.task is None else step("poll")

    monkeypatch.setattr(Asking, "submit", submit)


@_plant
def kept_result_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a job by what its vendor says, though an earlier process has kept the result."""

    async def is_kept(_: Maker, __: str) -> bool:
        return False

    monkeypatch.setattr(Maker, "is_kept", is_kept)


@_plant
def closed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Close a job whatever it is by now: delivered after its refund, or delivered twice."""

    def close(connection: sa.Connection, job_id: str, values: dict[str, Any], *, now: int) -> bool:
        change = sa.update(tables.jobs).where(tables.jobs.c.id == job_id)
        connection.execute(change.values(finished_at=now, updated_at=now, **values))
        return True

    monkeypatch.setattr(jobs, "_close", close)
