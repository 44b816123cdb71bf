"""A buyer that gets no answer and pays the same request again in another way gets the first order, and pays once."""

from __future__ import annotations

import asyncio

import pytest

from stablestudio.payments.errors import InsufficientFunds, PaymentReused
from stablestudio.payments.rail import Rejected, Settled, Unknown
from stablestudio.protocols.evm import EvmKey
from stablestudio.protocols.wallet import Wallet
from stablestudio.sales.order import Held, Sold
from tests.doubles import BUYER, ScriptedChain

from .shop import CAT, DOG, OTHER_TOKEN, Shop

pytestmark = pytest.mark.anyio
STRANGER = EvmKey.from_hex("0x" + "5d" * 32)


async def test_the_second_rail_gets_the_first_job_and_is_not_settled(shop: Shop) -> None:
    first = await shop.sell(shop.purchase(session="run-12345"))
    second = await shop.sell(shop.purchase(session="run-12345", other=True))
    assert isinstance(first, Sold)
    assert isinstance(second, Sold)
    assert (second.job_id, second.echo, second.payment) == (first.job_id, True, first.payment)
    assert (len(shop.chain.submitted), len(shop.other_chain.submitted)) == (1, 0)
    assert len(shop.jobs()) == len(shop.payments()) == 1


async def test_two_rails_at_the_same_moment_settle_one(shop: Shop) -> None:
    answers = await asyncio.gather(
        *(shop.sell(shop.purchase(session="run-12345", other=other)) for other in (False, True))
    )
    assert len({answer.job_id for answer in answers}) == 1
    assert len(shop.chain.submitted) + len(shop.other_chain.submitted) == 1


async def test_while_the_first_is_unknown_the_second_is_held_under_its_id(shop: Shop) -> None:
    shop.chain.submits[:] = [Unknown(reason="timeout")]
    first = await shop.sell(shop.purchase(session="run-12345"))
    second = await shop.sell(shop.purchase(session="run-12345", other=True))
    assert isinstance(first, Held)
    assert second == first
    assert shop.other_chain.submitted == []


async def test_after_a_rejection_the_other_rail_is_taken(shop: Shop) -> None:
    shop.chain.submits[:] = [Rejected(reason="insufficient_funds", message="")]
    with pytest.raises(InsufficientFunds):
        await shop.sell(shop.purchase(session="run-12345"))
    answer = await shop.sell(shop.purchase(session="run-12345", other=True))
    assert isinstance(answer, Sold)
    assert not answer.echo
    assert len(shop.other_chain.submitted) == 1


async def test_the_same_rail_twice_is_two_orders(shop: Shop) -> None:
    shop.chain.submits[:] = [Settled(transaction="0x01"), Settled(transaction="0x02")]
    answers = [await shop.sell(shop.purchase(session="run-12345")) for _ in range(2)]
    assert len({answer.job_id for answer in answers}) == 2


@pytest.mark.parametrize("different", ["session", "body", "wallet", "late", "no session"])
async def test_only_the_same_run_and_request_within_two_minutes_is_an_echo(shop: Shop, different: str) -> None:
    first = await shop.sell(shop.purchase(session="run-12345"))
    if different == "late":
        shop.clock.advance(121)
    second = await shop.sell(
        shop.purchase(
            DOG if different == "body" else CAT,
            session={"session": "run-67890", "no session": None}.get(different, "run-12345"),
            buyer=STRANGER if different == "wallet" else BUYER,
            other=True,
        )
    )
    assert first.job_id != second.job_id
    assert len(shop.other_chain.submitted) == 1


def _wallet(key: EvmKey) -> Wallet:
    return Wallet(namespace="eip155", address=key.address.lower())


async def test_wallets_that_name_each_other_are_one_buyer(shop: Shop) -> None:
    first = await shop.sell(shop.purchase(session="run-12345", companions=[_wallet(STRANGER)]))
    second = await shop.sell(
        shop.purchase(session="run-12345", buyer=STRANGER, other=True, companions=[_wallet(BUYER)])
    )
    assert second.job_id == first.job_id
    assert shop.other_chain.submitted == []


async def test_a_stranger_who_knows_the_run_and_names_the_buyer_gets_between_nobody(shop: Shop) -> None:
    evil = await shop.sell(shop.purchase(session="run-12345", buyer=STRANGER, hold_s=3600, companions=[_wallet(BUYER)]))
    first = await shop.sell(shop.purchase(session="run-12345"))
    await shop.sell(shop.purchase(session="run-12345", buyer=STRANGER))
    second = await shop.sell(shop.purchase(session="run-12345", other=True))
    assert first.job_id == second.job_id != evil.job_id
    assert shop.other_chain.submitted == []


async def test_a_payment_that_was_not_taken_is_never_charged_later(shop: Shop) -> None:
    first = await shop.sell(shop.purchase(session="run-12345"))
    spared = shop.purchase(session="run-12345", other=True)
    await shop.sell(spared)
    for seconds in (125, 200, 3600):
        shop.clock.advance(seconds)
        again = await shop.reopen().sell(spared)
        assert isinstance(again, Sold)
        assert (again.job_id, again.echo) == (first.job_id, True)
    with pytest.raises(PaymentReused):
        await shop.sell(shop.purchase(DOG, presented=spared.presented))
    assert (shop.other_chain.submitted, len(shop.jobs())) == ([], 1)


async def test_a_payment_spared_for_an_order_that_came_to_nothing_is_good_again(shop: Shop) -> None:
    shop.chain.submits[:] = [Unknown(reason="timeout")]
    await shop.sell(shop.purchase(session="run-12345"))
    spared = shop.purchase(session="run-12345", other=True)
    assert isinstance(await shop.sell(spared), Held)
    shop.chain.finds[:] = [Rejected(reason="payment_expired", message="")]
    await shop.reconcile()
    answer = await shop.sell(spared)
    assert isinstance(answer, Sold)
    assert (answer.echo, len(shop.other_chain.submitted)) == (False, 1)


async def test_an_echo_of_a_failed_job_is_a_new_order(shop: Shop) -> None:
    from stablestudio.store import jobs

    first = await shop.sell(shop.purchase(session="run-12345"))
    await shop.database.write(
        lambda connection: jobs.fail(
            connection, job_id=first.job_id, code="moderation", message="no", now=shop.clock.now_ms()
        )
    )
    second = await shop.sell(shop.purchase(session="run-12345", other=True))
    assert second.job_id != first.job_id


async def test_the_memory_of_echoes_survives_a_restart(shop: Shop) -> None:
    first = await shop.sell(shop.purchase(session="run-12345"))
    shop.other_chain = ScriptedChain(domain=OTHER_TOKEN)
    second = await shop.reopen().sell(shop.purchase(session="run-12345", other=True))
    assert second.job_id == first.job_id
