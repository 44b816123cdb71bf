"""The reconciler: what a stop left open ends as the chain says, and stays open while the chain says nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from stablestudio.payments.errors import InsufficientFunds
from stablestudio.payments.rail import Outcome, Rejected, Settled, Unknown
from stablestudio.protocols.eip3009 import Authorization
from stablestudio.sales.order import Held, Sold
from stablestudio.sales.reconcile import Reconciler
from tests.doubles import ScriptedChain

from .shop import Shop

pytestmark = pytest.mark.anyio

LOST = Unknown(reason="timeout")
DEAD = Rejected(reason="payment_expired", message="Too late.")
POOR = Rejected(reason="insufficient_funds", message="The wallet is empty.")


def paid(number: int = 1) -> Settled:
    return Settled(transaction=f"0x{number:02x}")


async def _held(shop: Shop, *, submits: list[Any], finds: list[Any]) -> tuple[Shop, str]:
    """Return a shop with one sale of an unknown outcome; then the chain answers from these lists."""
    chain = ScriptedChain(LOST)
    shop = replace(shop, chain=chain)
    answer = await shop.sell(shop.purchase())
    assert isinstance(answer, Held)
    chain.submits, chain.finds = submits, finds
    return shop, answer.job_id


async def test_what_the_chain_has_seen_becomes_a_job(shop: Shop) -> None:
    shop, job_id = await _held(shop, submits=[AssertionError("found, so not sent")], finds=[paid()])
    await shop.reconcile()
    assert (shop.payments(), shop.jobs(), shop.engine.enqueued) == ([("settled", "0x01", None)], [job_id], [job_id])
    await shop.reconcile()
    assert shop.jobs() == shop.engine.enqueued == [job_id]


async def test_what_the_chain_has_not_seen_is_sent_again(shop: Shop) -> None:
    shop, job_id = await _held(shop, submits=[paid()], finds=[LOST])
    await shop.reconcile()
    assert (shop.payments(), shop.jobs()) == ([("settled", "0x01", None)], [job_id])
    first, second = shop.chain.submitted
    assert first == second  # the very same authorization, which the token takes once


async def test_what_is_dead_on_the_chain_is_given_back(shop: Shop) -> None:
    shop, _ = await _held(shop, submits=[paid()], finds=[DEAD])
    await shop.reconcile()
    assert (shop.payments(), shop.jobs()) == ([("rejected", None, "payment_expired")], [])
    assert len(shop.chain.submitted) == 1


async def test_a_rejection_of_the_second_sending_gives_the_payment_back(shop: Shop) -> None:
    shop, _ = await _held(shop, submits=[POOR], finds=[LOST])
    await shop.reconcile()
    assert (shop.payments(), shop.jobs()) == ([("rejected", None, "insufficient_funds")], [])


@pytest.mark.parametrize("answers", [([LOST], [LOST]), ([ConnectionError()], [LOST]), ([LOST], [ConnectionError()])])
async def test_unknown_stays_unknown_for_as_long_as_it_takes(shop: Shop, answers: tuple[list[Any], list[Any]]) -> None:
    shop, job_id = await _held(shop, submits=list(answers[0]), finds=list(answers[1]))
    for _ in range(5):
        shop.clock.advance(60)
        await shop.reconcile()
        assert ([state for state, *_ in shop.payments()], shop.jobs()) == (["unknown"], [])
    shop.chain.finds = [paid()]
    await shop.reconcile()
    assert shop.jobs() == [job_id]


async def test_a_claim_that_its_process_left_behind_is_finished(shop: Shop) -> None:
    async def die(_: Authorization) -> Outcome:
        raise asyncio.CancelledError

    shop = replace(shop, chain=ScriptedChain(die, finds=[paid()]))
    purchase = shop.purchase()
    with pytest.raises(asyncio.CancelledError):
        await shop.sell(purchase)
    assert shop.payments() == [("claimed", None, None)]
    next_process = shop.reopen()
    await next_process.reconcile()
    assert len(shop.jobs()) == 1
    assert isinstance(await next_process.sell(purchase), Sold)


async def test_a_young_claim_is_left_to_whoever_is_at_it(shop: Shop) -> None:
    shop, job_id = await _held(shop, submits=[paid()], finds=[paid()])
    shop.clock.advance(44)  # no settlement takes longer, with what its claim may have taken before
    await shop.reconciler.work_once()
    assert shop.jobs() == []
    shop.clock.advance(2)
    await shop.reconciler.work_once()
    assert shop.jobs() == [job_id]


async def test_one_broken_payment_holds_no_other_up(shop: Shop) -> None:
    shop = replace(shop, chain=ScriptedChain(LOST))
    for number in range(3):
        await shop.sell(shop.purchase({"prompt": f"cat {number}", "imageSize": "512"}))
    shop.chain.finds = [ConnectionError(), paid(2), paid(3)]
    shop.chain.submits = [LOST]
    await shop.reconcile()
    assert len(shop.jobs()) == 2


async def test_a_rail_that_is_gone_keeps_its_payments_open(shop: Shop) -> None:
    shop, _ = await _held(shop, submits=[paid()], finds=[paid()])
    await Reconciler(shop.database, rails=[], seller=shop.seller, clock=shop.clock).work_once(quiet_ms=0)
    assert shop.payments() == [("unknown", None, "timeout")]


async def test_seller_and_reconciler_at_once_make_one_job(shop: Shop) -> None:
    gate = asyncio.Event()

    async def slow(_: Authorization) -> Outcome:
        await gate.wait()
        return paid()

    shop = replace(shop, chain=ScriptedChain(slow, finds=[paid()]))
    selling = asyncio.create_task(shop.sell(shop.purchase()))
    await asyncio.sleep(0.1)
    await shop.reconcile()
    gate.set()
    answer = await selling
    assert isinstance(answer, Sold)
    assert shop.jobs() == shop.engine.enqueued == [answer.job_id]
    assert answer.payment.transaction == "0x01"


async def test_a_seller_that_the_reconciler_overtook_with_a_rejection_refuses(shop: Shop) -> None:
    gate = asyncio.Event()

    async def slow(_: Authorization) -> Outcome:
        await gate.wait()
        return POOR

    shop = replace(shop, chain=ScriptedChain(slow, finds=[POOR]))
    selling = asyncio.create_task(shop.sell(shop.purchase()))
    await asyncio.sleep(0.1)
    await shop.reconcile()
    gate.set()
    with pytest.raises(InsufficientFunds):
        await selling
    assert shop.payments() == [("rejected", None, "insufficient_funds")]


async def test_an_answer_that_comes_after_the_reconcilers_is_not_lost(shop: Shop) -> None:
    """The seller's own answer was lost, the reconciler found the transfer: the buyer hears of a sale, not of a doubt."""
    gate = asyncio.Event()

    async def slow(_: Authorization) -> Outcome:
        await gate.wait()
        raise TimeoutError

    shop = replace(shop, chain=ScriptedChain(slow, finds=[paid()]))
    selling = asyncio.create_task(shop.sell(shop.purchase()))
    await asyncio.sleep(0.1)
    await shop.reconcile()
    gate.set()
    assert isinstance(await selling, Sold)
    assert shop.payments() == [("settled", "0x01", None)]


async def test_after_a_rejection_the_buyer_may_pay_anew_under_the_same_key(shop: Shop) -> None:
    chain = ScriptedChain(LOST)
    shop = replace(shop, chain=chain)
    held = await shop.sell(shop.purchase(key="k"))
    chain.finds = [DEAD]
    await shop.reconcile()
    chain.submits = [paid()]
    sold = await shop.sell(shop.purchase(key="k"))
    assert isinstance(sold, Sold)
    assert sold.job_id != held.job_id
