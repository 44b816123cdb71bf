"""The refund worker on the ledger chain: signed before sent, sent again at will, paid once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest

from stablestudio.payments.rail import Outcome, Rejected, Unknown
from stablestudio.payments.refunds import RefundWorker
from stablestudio.store.database import Database
from tests.doubles import BUYER, REFUNDS, ManualClock, eventually

from .refund_stage import LOST, OWED, Answer, Died, Row, SpiedRail, Stage, always, die, hang_up, levels, rejected

pytestmark = pytest.mark.anyio

# An EVM refund is good for five minutes, and a minute later the chain rules it out.
_RULED_OUT = 700


@pytest.fixture
async def stage(database: Database, clock: ManualClock) -> Stage:
    made = Stage(database, clock)
    await made.ledger.mint(REFUNDS.address, 10_000_000)
    return made


async def test_what_is_owed_is_paid_back_once(stage: Stage) -> None:
    job_id = await stage.owe()
    for _ in range(3):
        await stage.worker.work_once()
        stage.clock.advance(3600)
    assert (stage.state(), await stage.paid_back(), len(stage.rail.sent)) == ([("refunded", 1)], OWED, 1)
    ((transaction,),) = stage.database.fetch('SELECT "transaction" FROM refunds WHERE order_id = ?', (job_id,))
    transfer = await stage.ledger.find_transaction(transaction)
    assert transfer is not None
    assert (transfer.sender, transfer.recipient, transfer.amount) == (REFUNDS.address, BUYER.address, OWED)


async def test_the_signature_is_on_disk_before_it_is_sent(stage: Stage) -> None:
    await stage.owe()
    kept: list[list[Row]] = []

    async def look(signed: str) -> Outcome:
        kept.append(stage.database.fetch("SELECT state, signed, signed_at FROM refunds"))
        return Unknown(reason="timeout")

    stage.rail.send = look
    await stage.worker.work_once()
    assert kept == [[("signed", stage.rail.sent[0], stage.clock.now_ms())]]


async def test_a_stop_before_sending_sends_the_same_bytes_at_the_next_start(stage: Stage) -> None:
    await stage.owe()
    stage.rail.send = die
    with pytest.raises(Died):
        await stage.worker.work_once()
    stage.restore()
    stage.clock.advance(30)
    await stage.hire().work_once()
    assert stage.rail.sent[0] == stage.rail.sent[1]
    assert (stage.state(), await stage.paid_back()) == ([("refunded", 1)], OWED)


async def test_a_stop_after_sending_is_found_and_not_sent_a_second_time(stage: Stage) -> None:
    await stage.owe()

    async def send_and_die(signed: str) -> Outcome:
        await stage.send(signed)
        raise Died

    stage.rail.send = send_and_die
    with pytest.raises(Died):
        await stage.worker.work_once()
    stage.restore()
    await stage.hire().work_once()
    assert (stage.state(), await stage.paid_back(), len(stage.rail.sent)) == ([("refunded", 1)], OWED, 1)


async def test_a_sent_refund_is_found_again_after_its_signature_expired(stage: Stage) -> None:
    await stage.owe()

    async def send_and_lose_the_answer(signed: str) -> Outcome:
        await stage.send(signed)
        return Unknown(reason="timeout")

    stage.rail.send = send_and_lose_the_answer
    await stage.worker.work_once()
    stage.restore()
    stage.clock.advance(10_000)
    await stage.worker.work_once()
    assert (stage.state(), await stage.paid_back()) == ([("refunded", 1)], OWED)
    assert len(stage.rail.signed) == 1


async def test_what_the_chain_rules_out_is_signed_anew_for_the_same_nonce(stage: Stage) -> None:
    await stage.owe()
    stage.rail.send = LOST
    await stage.worker.work_once()
    stage.restore()
    stage.clock.advance(_RULED_OUT)
    await stage.worker.work_once()
    assert (stage.state(), await stage.paid_back()) == ([("refunded", 1)], OWED)
    first, last = (json.loads(signed) for signed in stage.rail.sent)
    assert first["validBefore"] != last["validBefore"]
    assert first["nonce"] == last["nonce"]


async def test_a_refusal_alone_is_no_reason_to_sign_anew(stage: Stage) -> None:
    """A node that lags says of a young signature, too, that it is none of today's."""
    await stage.owe()
    stage.rail.send = always(rejected("payment_expired"))
    for _ in range(3):
        await stage.worker.work_once()
        stage.clock.advance(60)
    assert stage.reasons() == [("signed", "payment_expired")]
    assert (len(stage.rail.signed), len(set(stage.rail.sent))) == (1, 1)


async def test_a_stop_after_signing_anew_sends_the_new_bytes_later(stage: Stage) -> None:
    await stage.owe()
    stage.rail.send = LOST
    await stage.worker.work_once()
    stage.clock.advance(_RULED_OUT)
    stage.rail.send = die
    with pytest.raises(Died):
        await stage.worker.work_once()
    stage.restore()
    await stage.hire().work_once()
    assert (stage.state(), await stage.paid_back()) == ([("refunded", 1)], OWED)
    assert stage.rail.sent[1:] == [stage.rail.signed[1]] * 2


async def test_of_two_workers_that_sign_anew_one_is_heard(stage: Stage) -> None:
    await stage.owe()
    stage.rail.send = LOST
    await stage.worker.work_once()
    stage.clock.advance(_RULED_OUT)
    other = stage.second_rail()
    both = asyncio.Barrier(2)
    for rail in (stage.rail, other):
        rail.send = stage.send
        rail.find = _meet(both, rail)
    sign = other.sign_refund
    other.sign_refund = lambda **terms: sign(**terms | {"now_s": terms["now_s"] + 1})  # type: ignore[method-assign]
    await asyncio.gather(stage.worker.work_once(), stage.hire(rail=other).work_once())
    assert (stage.state(), await stage.paid_back()) == ([("refunded", 1)], OWED)
    assert len({*stage.rail.sent[1:], *other.sent}) == 1
    assert len({*stage.rail.signed[1:], *other.signed}) == 2


async def test_of_two_workers_that_sign_first_one_is_heard(stage: Stage) -> None:
    await stage.owe()
    other = stage.second_rail()
    both = asyncio.Barrier(2)
    for seconds, rail in enumerate((stage.rail, other)):
        rail.sign_refund = _sign_together(both, rail, later=seconds)  # type: ignore[method-assign]
    stage.rail.send = other.send = LOST
    await asyncio.gather(stage.worker.work_once(), stage.hire(rail=other).work_once())
    assert len({*stage.rail.signed, *other.signed}) == 2
    assert len({*stage.rail.sent, *other.sent}) == 1


async def test_a_worker_that_comes_late_does_not_send_what_another_has_replaced(stage: Stage) -> None:
    order = await stage.owe()
    await stage.sql("UPDATE refunds SET state = 'signed', signed = 'old'")
    seen = await stage.find_row(order)
    await stage.sql("UPDATE refunds SET signed = 'new'")
    assert not await stage.database.write(partial(stage.worker._admit, refund=seen, known="old"))
    assert stage.database.fetch("SELECT state, signed FROM refunds") == [("signed", "new")]


async def test_a_worker_that_comes_late_keeps_the_pause_after_anothers_try(stage: Stage) -> None:
    order = await stage.owe()
    seen = await stage.find_row(order)
    stage.clock.advance(60)
    await stage.sql(f"UPDATE refunds SET updated_at = {stage.clock.now_ms()}")
    assert not await stage.database.write(partial(stage.worker._admit, refund=seen, known=None))
    assert stage.reasons() == [("pending", "upstream_error")]


async def test_the_old_and_the_new_signature_cannot_both_pay(stage: Stage) -> None:
    """Even where an old signature, thought dead, were still mined: the nonce is the order's."""
    job_id = await stage.owe()
    terms = {"order_id": job_id, "recipient": BUYER.address, "amount": OWED}
    old, new = [await stage.rail.sign_refund(**terms, now_s=stage.clock.now_s + later) for later in (0, 30)]
    assert old != new
    assert await stage.rail.send_refund(old) == await stage.rail.send_refund(new)
    assert await stage.paid_back() == OWED


async def test_two_workers_pay_each_once(stage: Stage) -> None:
    for number in range(1, 31):
        await stage.owe(number)
    await asyncio.gather(*(worker.work_once() for worker in (stage.worker, stage.hire()) * 2))
    await stage.worker.work_once()
    assert (stage.state(), await stage.paid_back()) == ([("refunded", 1)] * 30, 30 * OWED)


@pytest.mark.parametrize("outcome", [Unknown(reason="timeout"), rejected("insufficient_funds")])
async def test_without_an_answer_or_a_purse_the_refund_stays_owed(stage: Stage, outcome: Outcome) -> None:
    await stage.owe()
    stage.rail.send = always(outcome)
    for _ in range(3):
        await stage.worker.work_once()
        stage.clock.advance(60)
    assert [state for state, _ in stage.reasons()] == ["signed"]
    stage.restore()
    stage.clock.advance(90)
    await stage.worker.work_once()
    assert (stage.state(), await stage.paid_back(), len(set(stage.rail.sent))) == ([("refunded", 1)], OWED, 1)


@pytest.mark.parametrize("outcome", [rejected("insufficient_funds"), Unknown(reason="insufficient_funds")])
async def test_an_empty_purse_is_an_error_in_the_log_and_pays_once_it_is_filled(
    database: Database, clock: ManualClock, caplog: pytest.LogCaptureFixture, outcome: Rejected | Unknown
) -> None:
    stage = Stage(database, clock)
    await stage.owe()
    stage.rail.send = always(outcome)
    await stage.worker.work_once()
    stage.restore()
    assert levels(caplog, "refund_not_sent") + levels(caplog, "refund_not_seen") == ["ERROR"]
    await stage.ledger.mint(REFUNDS.address, OWED)
    stage.clock.advance(60)
    await stage.worker.work_once()
    assert (stage.state(), await stage.paid_back()) == ([("refunded", 1)], OWED)


async def test_a_refund_that_breaks_the_rail_holds_nobody_else_up(stage: Stage) -> None:
    async def break_at_the_first(signed: str) -> Outcome:
        if signed == stage.rail.sent[0]:
            raise ConnectionError("the node hung up")
        return await stage.send(signed)

    stage.rail.send = break_at_the_first
    for number in (1, 2):
        await stage.owe(number)
        await stage.worker.work_once()
        stage.clock.advance(10)
    assert stage.state() == [("signed", 1), ("refunded", 1)]
    stage.restore()
    await stage.worker.work_once()
    assert (stage.state(), await stage.paid_back()) == ([("refunded", 1)] * 2, 2 * OWED)


async def test_a_rail_that_hangs_holds_no_other_rail_up(stage: Stage) -> None:
    slow, quick = await stage.owe(1), await stage.owe(2)
    await stage.sql(f"UPDATE refunds SET rail = 'slow' WHERE order_id = '{slow}'")
    other = SpiedRail(stage.rail._rail)

    async def hang(signed: str) -> Outcome:
        await asyncio.sleep(60)
        return Unknown(reason="timeout")

    other.send = hang
    rails = {"slow": other, stage.rail.name: stage.rail}
    other.__dict__["name"] = "slow"
    worker = RefundWorker(stage.database, rails=rails, clock=stage.clock)  # type: ignore[arg-type]
    running = asyncio.create_task(worker.run())
    await eventually(lambda: other.sent != [], seconds=3)
    await stage.owe(3)
    worker.wake()
    await eventually(lambda: stage.state() == [("signed", 1), ("refunded", 1), ("refunded", 1)], seconds=3)
    running.cancel()
    assert quick != slow


async def test_the_running_worker_looks_at_once_when_woken(stage: Stage) -> None:
    running = asyncio.create_task(stage.worker.run())
    await asyncio.sleep(0.05)
    await stage.owe()
    stage.worker.wake()
    await eventually(lambda: stage.state() == [("refunded", 1)], seconds=3)
    running.cancel()


async def test_a_broken_look_does_not_end_the_running_worker(stage: Stage) -> None:
    await stage.owe()
    stage.rail.send = hang_up
    running = asyncio.create_task(stage.worker.run())
    await eventually(lambda: stage.reasons() == [("signed", "faulted")], seconds=3)
    stage.restore()
    stage.clock.advance(60)
    stage.worker.wake()
    await eventually(lambda: stage.state() == [("refunded", 1)], seconds=3)
    running.cancel()


def _sign_together(both: asyncio.Barrier, rail: SpiedRail, *, later: int) -> Callable[..., Coroutine[Any, Any, str]]:
    sign = rail.sign_refund

    async def answer(*, now_s: int, **terms: Any) -> str:
        await both.wait()
        return await sign(now_s=now_s + later, **terms)

    return answer


def _meet(both: asyncio.Barrier, rail: SpiedRail) -> Answer:
    find = rail.find

    async def answer(signed: str) -> Outcome:
        await both.wait()
        return await find(signed)

    return answer
