"""Payments that are held until the work is done: verified at once, settled after it, given back if it failed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stablestudio.jobs.maker import Charged
from stablestudio.money import Money
from stablestudio.payments.rail import Rejected, Settled, Unknown
from stablestudio.sales.order import Sold
from stablestudio.store import jobs, payments
from tests.doubles import ScriptedChain

from .shop import CAT, DOG, Shop

pytestmark = pytest.mark.anyio
HOLD = 3600


async def _held(shop: Shop) -> str:
    answer = await shop.sell(shop.purchase(hold_s=HOLD))
    assert isinstance(answer, Sold)
    shop.charger.start()
    return answer.job_id


async def _fail(shop: Shop, job_id: str) -> None:
    now = shop.clock.now_ms()
    await shop.database.write(
        lambda connection: jobs.fail(connection, job_id=job_id, code="moderation", message="no", now=now)
    )


def _refunds(shop: Shop) -> list[Any]:
    return shop.database.fetch("SELECT order_id, amount FROM refunds")


async def test_a_held_payment_starts_its_job_and_moves_nothing(shop: Shop) -> None:
    job_id = await _held(shop)
    assert shop.payments() == [("held", None, None)]
    assert shop.jobs() == shop.engine.enqueued == [job_id]
    assert shop.chain.submitted == []


async def test_the_same_held_payment_gets_the_same_job(shop: Shop) -> None:
    purchase = shop.purchase(hold_s=HOLD)
    answers = [await shop.sell(purchase), await shop.sell(purchase), await shop.reopen().sell(purchase)]
    assert len({answer.job_id for answer in answers}) == 1
    assert shop.jobs() == [answers[0].job_id]


async def test_fifty_copies_of_a_held_payment_make_one_job(shop: Shop) -> None:
    purchase = shop.purchase(hold_s=HOLD)
    answers = await asyncio.gather(*(shop.sell(purchase) for _ in range(50)))
    assert len({answer.job_id for answer in answers}) == 1
    assert len(shop.jobs()) == 1


async def test_the_charge_settles_once_and_asking_again_says_so(shop: Shop) -> None:
    job_id = await _held(shop)
    assert [await shop.charger.charge(job_id) for _ in range(3)] == [Charged.SETTLED] * 3
    assert shop.payments() == [("settled", "0x01", None)]
    assert len(shop.chain.submitted) == 1
    assert shop.jobs() == shop.engine.enqueued == [job_id]


async def test_a_charge_that_is_refused_moves_nothing_and_owes_nothing(shop: Shop) -> None:
    shop.chain.submits[:] = [Rejected(reason="insufficient_funds", message="")]
    job_id = await _held(shop)
    assert [await shop.charger.charge(job_id) for _ in range(2)] == [Charged.REFUSED] * 2
    await _fail(shop, job_id)
    assert (shop.payments()[0][0], _refunds(shop)) == ("rejected", [])


async def test_an_unknown_charge_is_asked_again_and_never_delivered_for_nothing(shop: Shop) -> None:
    shop.chain.submits[:] = [Unknown(reason="timeout"), Settled(transaction="0x02")]
    job_id = await _held(shop)
    assert await shop.charger.charge(job_id) is Charged.UNKNOWN
    assert shop.payments()[0][0] == "unknown"
    assert await shop.charger.charge(job_id) is Charged.SETTLED


async def test_a_crash_in_the_charge_is_finished_by_the_reconciler_without_a_second_job(shop: Shop) -> None:
    job_id = await _held(shop)
    held = await shop.database.read(lambda connection: payments.find_by_order(connection, job_id))
    assert held is not None
    await shop.database.write(lambda connection: payments.begin_charge(connection, payment=held, now=1))
    shop.chain.finds[:] = [Settled(transaction="0x03")]
    await shop.reconcile()
    assert shop.payments() == [("settled", "0x03", None)]
    assert shop.engine.enqueued == [job_id]


async def test_failed_work_gives_the_payment_back_and_it_is_never_sent(shop: Shop) -> None:
    job_id = await _held(shop)
    await _fail(shop, job_id)
    assert shop.payments() == [("released", None, None)]
    assert await shop.charger.charge(job_id) is Charged.REFUSED
    assert (shop.chain.submitted, _refunds(shop)) == ([], [])


async def test_money_that_comes_after_the_work_failed_is_owed_back(shop: Shop) -> None:
    job_id = await _held(shop)
    shop.chain.submits[:] = [Unknown(reason="timeout")]
    await shop.charger.charge(job_id)
    await _fail(shop, job_id)
    assert _refunds(shop) == []
    shop.chain.finds[:] = [Settled(transaction="0x04")]
    await shop.reconcile()
    assert _refunds(shop) == [(job_id, 45_000)]


async def test_a_released_payment_that_somebody_settles_after_all_is_owed_back(shop: Shop) -> None:
    job_id = await _held(shop)
    await _fail(shop, job_id)
    shop.chain.finds[:] = [Settled(transaction="0x05")]
    shop.clock.advance(HOLD + 300 + 121)
    await shop.reconcile()
    assert (shop.payments()[0][0], _refunds(shop)) == ("settled", [(job_id, 45_000)])


async def test_a_given_back_payment_is_looked_at_once_after_its_end_and_then_forgotten(shop: Shop) -> None:
    job_id = await _held(shop)
    await _fail(shop, job_id)
    shop.chain.finds[:] = [Rejected(reason="payment_expired", message=""), Settled(transaction="0x06")]
    shop.clock.advance(HOLD + 300 + 121)
    await shop.reconcile()
    await shop.reconcile()
    assert (shop.payments()[0][0], _refunds(shop)) == ("released", [])


async def test_a_rejected_payment_that_a_stranger_settles_becomes_its_order(shop: Shop) -> None:
    shop.chain.submits[:] = [Rejected(reason="insufficient_funds", message="")]
    with pytest.raises(Exception, match="does not hold enough"):
        await shop.sell(shop.purchase())
    shop.chain.finds[:] = [Settled(transaction="0x07")]
    shop.clock.advance(300 + 121)
    await shop.reconcile()
    assert shop.payments()[0][:2] == ("settled", "0x07")
    assert len(shop.jobs()) == 1


async def test_a_payer_is_trusted_up_to_the_cap_and_charged_at_once_beyond_it(shop: Shop) -> None:
    shop.exposure_cap = Money(100_000)
    shop = shop.reopen()
    shop.chain.submits[:] = [Settled(transaction=f"0x{number}") for number in range(9)]
    for _ in range(4):
        await shop.sell(shop.purchase(hold_s=HOLD))
    assert sorted(state for state, *_ in shop.payments()) == ["held", "held", "settled", "settled"]
    assert len(shop.engine.enqueued) == 4


async def test_parallel_orders_do_not_pass_the_cap_together(shop: Shop) -> None:
    shop.exposure_cap = Money(100_000)
    shop = shop.reopen()
    shop.chain.submits[:] = [Settled(transaction=f"0x{number}") for number in range(30)]
    await asyncio.gather(*(shop.sell(shop.purchase(hold_s=HOLD)) for _ in range(20)))
    assert sum(state == "held" for state, *_ in shop.payments()) == 2


async def test_one_balance_does_not_cover_many_held_payments(shop: Shop) -> None:
    shop.chain = ScriptedChain(*(Settled(transaction=f"0x{number}") for number in range(9)), balance=100_000)
    shop = shop.reopen()
    for _ in range(3):
        await shop.sell(shop.purchase(hold_s=HOLD))
    assert sorted(state for state, *_ in shop.payments()) == ["held", "held", "settled"]


async def test_an_authorization_that_does_not_outlive_the_work_is_charged_at_once(shop: Shop) -> None:
    short = shop.purchase(DOG)
    answer = await shop.sell(shop.purchase(DOG, presented=short.presented, hold_s=HOLD))
    assert isinstance(answer, Sold)
    assert shop.payments()[0][0] == "settled"


async def test_a_key_names_one_held_order(shop: Shop) -> None:
    first = await shop.sell(shop.purchase(CAT, key="k", hold_s=HOLD))
    second = await shop.sell(shop.purchase(CAT, key="k", hold_s=HOLD))
    assert (second.job_id, len(shop.jobs())) == (first.job_id, 1)


async def test_a_held_payment_that_could_not_be_collected_stays_on_record_with_its_job(shop: Shop) -> None:
    shop.chain.submits[:] = [Rejected(reason="insufficient_funds", message="")]
    job_id = await _held(shop)
    await shop.charger.charge(job_id)
    await _fail(shop, job_id)
    shop.chain.finds[:] = [Rejected(reason="payment_expired", message="")]
    shop.clock.advance(HOLD + 48 * 3600)
    await shop.reconcile()
    gone = await shop.database.write(
        lambda connection: payments.forget_rejected(connection, before=shop.clock.now_ms())
    )
    assert (gone, shop.jobs()) == (0, [job_id])


async def test_our_own_outage_at_the_charge_loses_no_finished_work(shop: Shop) -> None:
    away = Rejected(reason="settlement_unavailable", message="the gas key is empty")
    shop.chain.submits[:] = [away, away, Settled(transaction="0x0a")]
    job_id = await _held(shop)
    assert [await shop.charger.charge(job_id) for _ in range(3)] == [
        Charged.UNKNOWN,
        Charged.UNKNOWN,
        Charged.SETTLED,
    ]


async def test_parallel_orders_do_not_pass_the_balance_together(shop: Shop) -> None:
    shop.chain = ScriptedChain(*(Settled(transaction=f"0x{number}") for number in range(40)), balance=45_000)
    shop = shop.reopen()
    await asyncio.gather(*(shop.sell(shop.purchase(hold_s=HOLD)) for _ in range(20)))
    assert sum(state == "held" for state, *_ in shop.payments()) == 1


async def test_nothing_is_held_for_a_payer_whose_balance_nobody_can_tell(shop: Shop) -> None:
    shop.chain.funds = None
    await _held(shop)
    assert shop.payments()[0][0] == "settled"


async def test_who_could_not_be_charged_once_is_charged_at_once(shop: Shop) -> None:
    shop.chain.submits[:] = [Rejected(reason="insufficient_funds", message=""), Settled(transaction="0x0b")]
    assert await shop.charger.charge(await _held(shop)) is Charged.REFUSED
    await _held(shop)
    assert sorted(state for state, *_ in shop.payments()) == ["rejected", "settled"]


async def test_a_job_that_fails_while_its_charge_begins_is_not_charged(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await _held(shop)
    begin = payments.begin_charge

    def late(connection: Any, **terms: Any) -> bool:
        jobs.fail(connection, job_id=job_id, code="moderation", message="no", now=shop.clock.now_ms())
        return begin(connection, **terms)

    monkeypatch.setattr(payments, "begin_charge", late)
    assert await shop.charger.charge(job_id) is Charged.UNKNOWN
    assert await shop.charger.charge(job_id) is Charged.REFUSED
    assert (shop.chain.submitted, shop.payments()[0][0]) == ([], "released")


async def test_the_answer_to_a_released_payment_says_so(shop: Shop) -> None:
    purchase = shop.purchase(hold_s=HOLD)
    job_id = (await shop.sell(purchase)).job_id
    await _fail(shop, job_id)
    again = await shop.sell(purchase)
    assert isinstance(again, Sold)
    assert (again.job_id, again.payment.state) == (job_id, "released")
