"""What holds a refund back: caps, minimums, missing rails, recipients that cannot be paid, and pauses."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from stablestudio.errors import StudioError
from stablestudio.payments.rail import Unknown
from stablestudio.payments.refund_policy import RefundLimits
from stablestudio.payments.refunds import RefundWorker
from stablestudio.store import restores
from stablestudio.store.database import Database
from tests.doubles import BUYER, REFUNDS, ManualClock, eventually

from .refund_stage import LOST, OWED, Stage, always, levels, rejected

pytestmark = pytest.mark.anyio

_DAY = 24 * 3600
_RULED_OUT = 700


@pytest.fixture
async def stage(database: Database, clock: ManualClock) -> Stage:
    made = Stage(database, clock)
    await made.ledger.mint(REFUNDS.address, 100_000_000)
    return made


async def test_a_daily_cap_holds_among_fifty_refunds_and_two_workers(stage: Stage) -> None:
    for number in range(1, 51):
        await stage.owe(number)
    limits = RefundLimits(daily_cap=10 * OWED + 1)
    workers = [stage.hire(limits), stage.hire(limits, rail=stage.second_rail())]
    for spent in (10, 20):
        for _ in range(3):
            await asyncio.gather(*(worker.work_once() for worker in workers * 2))
        assert await stage.paid_back() == spent * OWED
        # The oldest first, and among those of one moment in the order of their ids.
        assert stage.reasons() == [("refunded", None)] * spent + [("waiting", "daily_cap")] * (50 - spent)
        stage.clock.advance(_DAY)


async def test_a_refund_that_lost_the_race_for_the_cap_is_not_signed(stage: Stage) -> None:
    for number in (1, 2):
        await stage.owe(number)
    stage.rail.send = LOST
    limits = RefundLimits(daily_cap=OWED)
    await asyncio.gather(stage.hire(limits).work_once(), stage.hire(limits).work_once())
    assert sorted(stage.state()) == [("signed", 1), ("waiting", 0)]
    assert len({*stage.rail.sent}) == 1


async def test_a_refund_over_the_cap_does_not_block_small_ones_behind_it(stage: Stage) -> None:
    await stage.owe(1, amount=10 * OWED)
    await stage.owe(2, amount=OWED)
    worker = stage.hire(RefundLimits(daily_cap=5 * OWED))
    for _ in range(3):
        await worker.work_once()
        stage.clock.advance(_DAY)
    assert stage.reasons() == [("waiting", "daily_cap"), ("refunded", None)]


async def test_many_refunds_over_the_cap_do_not_hide_a_small_one(stage: Stage) -> None:
    for number in range(1, 121):
        await stage.owe(number, amount=10 * OWED)
    worker = stage.hire(RefundLimits(daily_cap=5 * OWED))
    for _ in range(2):
        await worker.work_once()
    await stage.owe(999)
    await worker.work_once()
    assert stage.reasons()[-1] == ("refunded", None)


async def test_a_signature_counts_once_however_often_it_is_renewed(stage: Stage) -> None:
    await stage.owe(1)
    stage.rail.send = LOST
    worker = stage.hire(RefundLimits(daily_cap=OWED))
    for _ in range(3):
        await worker.work_once()
        stage.clock.advance(_RULED_OUT)
    assert len(stage.rail.signed) == 3
    assert stage.database.fetch("SELECT signed_at - created_at FROM refunds") == [(0,)]
    await stage.owe(2)
    await worker.work_once()
    assert stage.reasons()[1] == ("waiting", "daily_cap")


async def test_a_refund_below_the_minimum_waits_until_the_minimum_is_lowered(stage: Stage) -> None:
    await stage.owe()
    for _ in range(2):
        await stage.hire(RefundLimits(minimum=OWED + 1)).work_once()
    assert (stage.reasons(), stage.rail.sent) == ([("waiting", "below_minimum")], [])
    await stage.hire(RefundLimits(minimum=OWED)).work_once()
    assert stage.state() == [("refunded", 1)]


@pytest.mark.parametrize("limits", [RefundLimits(minimum=OWED + 1), RefundLimits(daily_cap=OWED - 1)])
async def test_a_persons_approval_overrides_the_limits_while_the_worker_runs(
    stage: Stage, limits: RefundLimits
) -> None:
    worker = stage.hire(limits)
    running = asyncio.create_task(worker.run())
    order = await stage.owe()
    worker.wake()
    await eventually(lambda: stage.state() == [("waiting", 0)], seconds=3)
    assert await stage.approve(order)
    worker.wake()
    await eventually(lambda: stage.state() == [("refunded", 1)], seconds=3)
    running.cancel()


async def test_what_a_person_approved_leaves_the_cap_to_the_others(stage: Stage) -> None:
    big = await stage.owe(1, amount=10 * OWED)
    worker = stage.hire(RefundLimits(daily_cap=OWED))
    await worker.work_once()
    assert await stage.approve(big)
    await worker.work_once()
    await stage.owe(2)
    await stage.owe(3)
    await worker.work_once()
    assert stage.reasons() == [("refunded", None), ("refunded", None), ("waiting", "daily_cap")]


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
async def test_a_refund_on_a_rail_that_is_gone_waits_and_goes_on_with_the_rail(
    stage: Stage, caplog: pytest.LogCaptureFixture, *, signed: bool
) -> None:
    await stage.owe()
    if signed:
        stage.rail.send = LOST
        await stage.worker.work_once()
        stage.restore()
        stage.clock.advance(30)
    gone = RefundWorker(stage.database, rails={}, clock=stage.clock)
    for _ in range(2):
        await gone.work_once()
    assert (stage.state(), stage.reasons()) == ([("waiting", signed)], [("waiting", "rail_missing")])
    assert levels(caplog, "refund_waits") == ["ERROR"]
    await stage.worker.work_once()
    assert (stage.state(), await stage.paid_back()) == ([("refunded", 1)], OWED)
    assert len(stage.rail.signed) == 1


@pytest.mark.parametrize("reason", ["recipient_account_missing", "recipient_refused", "nonce_already_used"])
async def test_a_recipient_that_cannot_be_paid_is_for_a_person(stage: Stage, reason: str) -> None:
    order = await stage.owe()
    stage.rail.send = always(rejected(reason))
    for _ in range(3):
        await stage.worker.work_once()
        stage.clock.advance(3600)
    assert (stage.reasons(), len(stage.rail.sent)) == ([("waiting", reason)], 1)
    stage.restore()
    assert await stage.retry(order)
    await stage.worker.work_once()
    assert (stage.state(), await stage.paid_back()) == ([("refunded", 1)], OWED)


async def test_what_waited_after_it_was_signed_is_sent_again_and_never_signed_beside_it(stage: Stage) -> None:
    order = await stage.owe()
    stage.rail.send = always(rejected("recipient_refused"))
    await stage.worker.work_once()
    assert stage.state() == [("waiting", 1)]
    stage.restore()
    assert await stage.approve(order)
    assert stage.state() == [("signed", 1)]
    await stage.worker.work_once()
    assert (stage.state(), await stage.paid_back()) == ([("refunded", 1)], OWED)
    assert (len(stage.rail.signed), len(set(stage.rail.sent))) == (1, 1)


async def test_what_the_chain_undid_is_signed_anew_when_a_person_says_so(stage: Stage) -> None:
    """As where a transfer was executed and failed: those bytes can never pay, and others can."""
    order = await stage.owe()
    stage.rail.send = LOST
    await stage.worker.work_once()
    stage.clock.advance(10)
    stage.rail.find = always(rejected("recipient_refused"))
    await stage.worker.work_once()
    assert (stage.state(), stage.reasons()) == ([("waiting", 0)], [("waiting", "recipient_refused")])
    stage.restore()
    assert await stage.approve(order)
    await stage.worker.work_once()
    assert (stage.state(), await stage.paid_back()) == ([("refunded", 1)], OWED)


async def test_what_the_chain_undid_for_no_fault_of_the_payer_is_signed_anew_after_a_pause(stage: Stage) -> None:
    await stage.owe()
    stage.rail.send = LOST
    await stage.worker.work_once()
    stage.clock.advance(10)
    stage.rail.find = always(rejected("transaction_reverted"))
    await stage.worker.work_once()
    assert stage.reasons() == [("pending", "transaction_reverted")]
    stage.restore()
    await stage.worker.work_once()
    assert len(stage.rail.signed) == 1
    stage.clock.advance(10)
    await stage.worker.work_once()
    assert (stage.state(), await stage.paid_back()) == ([("refunded", 1)], OWED)


async def test_a_refusal_that_nobody_knows_waits_for_a_person_after_half_an_hour(stage: Stage) -> None:
    await stage.owe()
    stage.rail.send = always(rejected("simulation_failed"))
    seen = []
    for _ in range(40):
        await stage.worker.work_once()
        seen.append(stage.reasons()[0][0])
        stage.clock.advance(60)
    assert seen == sorted(seen)
    assert seen.count("signed") in range(30, 41)
    assert stage.reasons() == [("waiting", "simulation_failed")]


async def test_a_payer_whom_nobody_knows_is_for_a_person(stage: Stage) -> None:
    await stage.owe()
    await stage.sql("UPDATE refunds SET recipient = ''")
    await stage.worker.work_once()
    assert (stage.reasons(), stage.rail.signed) == ([("waiting", "payer_unknown")], [])


async def test_what_cannot_be_signed_stays_owed_and_ends_with_a_person(stage: Stage) -> None:
    await stage.owe()
    await stage.sql("UPDATE refunds SET recipient = 'nobody'")
    await stage.worker.work_once()
    assert stage.reasons() == [("pending", "cannot_be_signed")]
    stage.clock.advance(3600)
    await stage.worker.work_once()
    assert (stage.reasons(), stage.rail.sent) == ([("waiting", "cannot_be_signed")], [])


class Unreadable(StudioError):
    """The node cannot be asked at the moment."""

    retryable = True
    hint = "Try again in a few seconds."


class NoSuchWallet(StudioError):
    """This recipient is no wallet."""

    hint = "Pay this refund by hand."


async def test_a_rail_that_asks_its_chain_for_a_signature_may_wait_for_it_for_ever(stage: Stage) -> None:
    await stage.owe()
    sign = stage.rail.sign_refund
    answers: list[StudioError | None] = [Unreadable(), Unreadable(), None]

    async def ask_and_sign(**terms: Any) -> str:
        await asyncio.sleep(0)
        if (fault := answers.pop(0)) is not None:
            raise fault
        return await sign(**terms)

    stage.rail.sign_refund = ask_and_sign  # type: ignore[method-assign]
    for _ in range(2):
        await stage.worker.work_once()
        assert stage.reasons() == [("pending", "unreadable")]
        stage.clock.advance(7200)
    await stage.worker.work_once()
    assert (stage.state(), await stage.paid_back()) == ([("refunded", 1)], OWED)


async def test_a_recipient_that_no_signature_can_name_is_for_a_person(stage: Stage) -> None:
    await stage.owe()

    async def refuse(**_: Any) -> str:
        raise NoSuchWallet

    stage.rail.sign_refund = refuse  # type: ignore[method-assign]
    await stage.worker.work_once()
    stage.clock.advance(3600)
    await stage.worker.work_once()
    assert (stage.reasons(), stage.rail.sent) == ([("waiting", "no_such_wallet")], [])


async def test_slow_signatures_do_not_change_who_comes_first(stage: Stage) -> None:
    for number in range(1, 9):
        await stage.owe(number)
        stage.clock.advance(1)
    sign, pauses = stage.rail.sign_refund, iter([0.05, 0.0] * 4)

    async def sign_slowly(**terms: Any) -> str:
        await asyncio.sleep(next(pauses))
        return await sign(**terms)

    stage.rail.sign_refund = sign_slowly  # type: ignore[method-assign]
    await stage.hire(RefundLimits(daily_cap=4 * OWED)).work_once()
    assert [state for state, _ in stage.reasons()] == ["refunded"] * 4 + ["waiting"] * 4


async def test_money_that_arrived_has_the_last_word(stage: Stage) -> None:
    """One worker was told that the recipient cannot be paid, while the transfer of another one was mined."""
    await stage.owe()

    async def send_while_another_waits(signed: str) -> Unknown:
        await stage.send(signed)
        await stage.sql("UPDATE refunds SET state = 'waiting', reason = 'recipient_refused'")
        return Unknown(reason="timeout")

    stage.rail.send = send_while_another_waits
    worker = stage.hire()
    await worker.work_once()
    assert stage.state() == [("waiting", 1)]
    assert await stage.retry(stage.database.fetch("SELECT order_id FROM refunds")[0][0])
    await worker.work_once()
    assert (stage.reasons(), await stage.paid_back()) == ([("refunded", None)], OWED)


async def test_pauses_double_up_to_two_minutes_and_outlive_the_process(stage: Stage) -> None:
    await stage.owe()
    stage.rail.send = LOST
    stage.rail.find = LOST
    began, tried = stage.clock.now_s, []
    for step in [1] * 300 + [5] * 240:
        before = len(stage.rail.sent)
        stage.clock.advance(step)
        await stage.hire().work_once()  # a new process each second
        if len(stage.rail.sent) > before:
            tried.append(stage.clock.now_s - began)
    pauses = [later - earlier for earlier, later in pairwise(tried)]
    assert pauses[:6] == [5, 6, 12, 24, 48, 96]
    assert len(pauses) > 12
    assert all(120 <= pause < 125 for pause in pauses[6:])


async def test_a_retry_ends_a_pause(stage: Stage) -> None:
    order = await stage.owe()
    stage.rail.send = stage.rail.find = LOST
    await stage.worker.work_once()
    stage.clock.advance(3600)
    await stage.worker.work_once()
    stage.restore()
    stage.clock.advance(60)
    await stage.worker.work_once()
    assert stage.state() == [("signed", 1)]
    assert await stage.retry(order)
    await stage.worker.work_once()
    assert (stage.state(), await stage.paid_back()) == ([("refunded", 1)], OWED)
    assert not await stage.retry(order)


async def test_an_approval_begins_the_pauses_anew(stage: Stage) -> None:
    order = await stage.owe()
    worker = stage.hire(RefundLimits(daily_cap=1))
    await worker.work_once()
    stage.clock.advance(10 * _DAY)
    stage.rail.send = stage.rail.find = LOST
    assert await stage.approve(order)
    for pause in (1, 6):
        stage.clock.advance(pause)
        await worker.work_once()
    assert len(stage.rail.sent) == 2


async def test_nobody_is_paid_but_the_payer(stage: Stage) -> None:
    await stage.owe()
    await stage.worker.work_once()
    moved = stage.database.fetch("SELECT recipient, amount FROM ledger_transactions WHERE nonce IS NOT NULL")
    assert moved == [(BUYER.address.lower(), OWED)]


@pytest.mark.parametrize("later", [0, 3600], ids=["at once", "when the old signature has run out"])
async def test_a_refund_that_restored_books_have_forgotten_is_not_paid_twice(stage: Stage, later: int) -> None:
    """On a token with EIP-3009: the nonce is the order's, so the token refuses a second transfer, and we find the first."""
    order = await stage.owe()
    await stage.hire().work_once()
    first = (await stage.find_row(order)).transaction
    forgotten = "state = 'pending', signed = NULL, signed_at = NULL, \"transaction\" = NULL"
    await stage.sql(f"UPDATE refunds SET {forgotten}")
    stage.clock.advance(later)
    worker = stage.hire()
    for _ in range(5):
        await worker.work_once()
        stage.clock.advance(_RULED_OUT)
    assert await stage.paid_back() == OWED
    assert (await stage.find_row(order)).transaction == first


async def test_where_no_chain_knows_whose_refund_it_was_restored_books_ask_a_person(stage: Stage) -> None:
    old = await stage.owe(1)
    stage.clock.advance(10)
    now = stage.clock.now_ms()
    await stage.database.write(lambda connection: restores.note(connection, made_at=now - 1, now=now))
    stage.clock.advance(10)
    await stage.owe(2)
    worker = stage.hire(forgetful=[stage.rail.name])
    for _ in range(3):
        await worker.work_once()
        stage.clock.advance(600)
    assert stage.reasons() == [("waiting", "restored"), ("refunded", None)]
    assert await stage.approve(old)
    await worker.work_once()
    assert await stage.paid_back() == 2 * OWED
