"""The refund worker on the ledger chain: signed before sent, sent again at will, paid once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from stablestudio.payments.rail import Outcome, Rejected, Settled, Unknown
from stablestudio.payments.refunds import RefundWorker
from stablestudio.payments.x402_evm import ExactEvmRail
from stablestudio.sandbox.chain import LedgerTokenChain
from stablestudio.sandbox.ledger import LedgerChain
from stablestudio.store.database import Database
from tests.doubles import BUYER, REFUNDS, USDC, ManualClock, eventually, fail, rail_on

pytestmark = pytest.mark.anyio

OWED = 45_000
Send = Callable[[str], Awaitable[Outcome]]


class SpiedRail:
    """A rail that a test may interrupt where refunds are sent."""

    def __init__(self, rail: ExactEvmRail) -> None:
        self._rail = rail
        self.sent: list[str] = []
        self.send: Send = rail.send_refund

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rail, name)

    async def send_refund(self, signed: str) -> Outcome:
        self.sent.append(signed)
        return await self.send(signed)


class Stage:
    """A ledger with a full refund purse, and a worker on it."""

    def __init__(self, database: Database, clock: ManualClock) -> None:
        self.database = database
        self.clock = clock
        self.ledger = LedgerChain(database, domain=USDC, clock=clock)
        self.rail = SpiedRail(rail_on(LedgerTokenChain(self.ledger, clock=clock)))
        self.worker = RefundWorker(database, rails={self.rail.name: self.rail}, clock=clock)

    async def owe(self, number: int = 1) -> str:
        return await self.database.write(lambda connection: fail(connection, number, now=self.clock.now_ms()))

    def state(self) -> list[tuple[Any, ...]]:
        return self.database.fetch("SELECT state, signed IS NOT NULL FROM refunds ORDER BY order_id")

    async def paid_back(self) -> int:
        return await self.ledger.balance_of(BUYER.address)


@pytest.fixture
async def stage(database: Database, clock: ManualClock) -> Stage:
    made = Stage(database, clock)
    await made.ledger.mint(REFUNDS.address, 10_000_000)
    return made


class Died(BaseException):
    """Stands for the end of the process."""


async def test_what_is_owed_is_paid_back_once(stage: Stage) -> None:
    job_id = await stage.owe()
    for _ in range(3):
        await stage.worker.work_once()
    assert (stage.state(), await stage.paid_back(), len(stage.rail.sent)) == ([("refunded", 1)], OWED, 1)
    ((transaction,),) = stage.database.fetch('SELECT "transaction" FROM refunds WHERE order_id = ?', (job_id,))
    transfer = await stage.ledger.find_transaction(transaction)
    assert transfer is not None
    assert (transfer.sender, transfer.recipient, transfer.amount) == (REFUNDS.address, BUYER.address, OWED)


async def test_the_signature_is_on_disk_before_it_is_sent(stage: Stage) -> None:
    await stage.owe()
    kept: list[list[tuple[Any, ...]]] = []

    async def look(signed: str) -> Outcome:
        kept.append(stage.database.fetch("SELECT state, signed FROM refunds"))
        return Unknown(reason="timeout")

    stage.rail.send = look
    await stage.worker.work_once()
    assert kept == [[("signed", stage.rail.sent[0])]]


async def test_a_stop_before_sending_sends_the_same_bytes_later(stage: Stage) -> None:
    await stage.owe()
    send, stage.rail.send = stage.rail.send, _die
    with pytest.raises(Died):
        await stage.worker.work_once()
    stage.rail.send = send
    stage.clock.advance(30)
    await stage.worker.work_once()
    assert stage.rail.sent[0] == stage.rail.sent[1]
    assert (stage.state(), await stage.paid_back()) == ([("refunded", 1)], OWED)


async def test_a_stop_after_sending_pays_no_second_time(stage: Stage) -> None:
    await stage.owe()
    send = stage.rail.send

    async def send_and_die(signed: str) -> Outcome:
        await send(signed)
        raise Died

    stage.rail.send = send_and_die
    with pytest.raises(Died):
        await stage.worker.work_once()
    stage.rail.send = send
    await stage.worker.work_once()
    assert (stage.state(), await stage.paid_back()) == ([("refunded", 1)], OWED)


async def test_a_sent_refund_is_found_again_after_its_signature_expired(stage: Stage) -> None:
    await stage.owe()
    send = stage.rail.send

    async def send_and_lose_the_answer(signed: str) -> Outcome:
        await send(signed)
        return Unknown(reason="timeout")

    stage.rail.send = send_and_lose_the_answer
    await stage.worker.work_once()
    stage.rail.send = send
    stage.clock.advance(10_000)
    for _ in range(3):
        await stage.worker.work_once()
    assert (stage.state(), await stage.paid_back()) == ([("refunded", 1)], OWED)
    assert len(set(stage.rail.sent)) == 1


async def test_an_expired_unsent_signature_is_made_anew_for_the_same_nonce(stage: Stage) -> None:
    await stage.owe()
    send, stage.rail.send = stage.rail.send, _lose
    await stage.worker.work_once()
    stage.rail.send = send
    stage.clock.advance(601)
    await stage.worker.work_once()
    assert (stage.state(), await stage.paid_back()) == ([("pending", 0)], 0)
    await stage.worker.work_once()
    assert (stage.state(), await stage.paid_back()) == ([("refunded", 1)], OWED)
    first, *_, last = (json.loads(signed) for signed in stage.rail.sent)
    assert first["validBefore"] != last["validBefore"]
    assert first["nonce"] == last["nonce"]


async def test_the_old_and_the_new_signature_cannot_both_pay(stage: Stage) -> None:
    """Even where an old signature, thought dead, were still mined: the nonce is the order's."""
    job_id = await stage.owe()
    terms = {"order_id": job_id, "recipient": BUYER.address, "amount": OWED}
    old, new = (stage.rail.sign_refund(**terms, now_s=stage.clock.now_s + later) for later in (0, 30))
    assert old != new
    assert await stage.rail.send_refund(old) == await stage.rail.send_refund(new)
    assert await stage.paid_back() == OWED


async def test_two_workers_pay_once(stage: Stage) -> None:
    for number in range(1, 6):
        await stage.owe(number)
    other = RefundWorker(stage.database, rails={stage.rail.name: stage.rail}, clock=stage.clock)
    await asyncio.gather(*(worker.work_once() for worker in (stage.worker, other) * 2))
    await stage.worker.work_once()
    assert (stage.state(), await stage.paid_back()) == ([("refunded", 1)] * 5, 5 * OWED)


@pytest.mark.parametrize("outcome", [Unknown(reason="timeout"), Rejected(reason="insufficient_funds", message="poor")])
async def test_without_an_answer_or_a_purse_the_refund_stays_owed(stage: Stage, outcome: Outcome) -> None:
    await stage.owe()
    send = stage.rail.send

    async def answer(signed: str) -> Outcome:
        return outcome

    stage.rail.send = answer
    for _ in range(3):
        await stage.worker.work_once()
    assert stage.state() == [("signed", 1)]
    stage.rail.send = send
    await stage.worker.work_once()
    assert (stage.state(), await stage.paid_back(), len(set(stage.rail.sent))) == ([("refunded", 1)], OWED, 1)


async def test_an_empty_purse_pays_once_it_is_filled(database: Database, clock: ManualClock) -> None:
    stage = Stage(database, clock)
    await stage.owe()
    await stage.worker.work_once()
    assert stage.state() == [("signed", 1)]
    await stage.ledger.mint(REFUNDS.address, OWED)
    await stage.worker.work_once()
    assert (stage.state(), await stage.paid_back()) == ([("refunded", 1)], OWED)
    assert await stage.ledger.balance_of(REFUNDS.address) == 0


async def test_a_refund_that_breaks_the_rail_holds_nobody_else_up(stage: Stage) -> None:
    send = stage.rail.send

    async def break_at_the_first(signed: str) -> Outcome:
        if signed == stage.rail.sent[0]:
            raise ConnectionError("the node hung up")
        return await send(signed)

    stage.rail.send = break_at_the_first
    for number in (1, 2):
        await stage.owe(number)
        await _calmly(stage.worker)
        stage.clock.advance(1)
    assert stage.state() == [("signed", 1), ("refunded", 1)]
    stage.rail.send = send
    await stage.worker.work_once()
    assert (stage.state(), await stage.paid_back()) == ([("refunded", 1)] * 2, 2 * OWED)


async def test_a_rail_that_is_gone_keeps_its_refunds_owed(stage: Stage) -> None:
    await stage.owe()
    await RefundWorker(stage.database, rails={}, clock=stage.clock).work_once()
    assert stage.state() == [("pending", 0)]


async def test_the_running_worker_looks_at_once_when_woken(stage: Stage) -> None:
    running = asyncio.create_task(stage.worker.run())
    await asyncio.sleep(0.05)
    await stage.owe()
    stage.worker.wake()
    await eventually(lambda: stage.state() == [("refunded", 1)], seconds=3)
    running.cancel()


async def test_a_broken_look_does_not_end_the_running_worker(stage: Stage) -> None:
    await stage.owe()
    send, stage.rail.send = stage.rail.send, _break
    running = asyncio.create_task(stage.worker.run())
    await asyncio.sleep(0.1)
    stage.rail.send = send
    stage.worker.wake()
    await eventually(lambda: stage.state() == [("refunded", 1)], seconds=3)
    assert isinstance(await stage.rail.send_refund(stage.rail.sent[0]), Settled)
    running.cancel()


async def _calmly(worker: RefundWorker) -> None:
    """Work as the loop does, which logs a fault and goes on."""
    try:
        await worker.work_once()
    except ConnectionError:
        return


async def _die(signed: str) -> Outcome:
    raise Died


async def _break(signed: str) -> Outcome:
    raise ConnectionError("the node hung up")


async def _lose(signed: str) -> Outcome:
    return Unknown(reason="timeout")
