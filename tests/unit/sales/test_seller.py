"""The sale in each of its outcomes: settled, rejected, unknown, and whatever breaks between two of its steps."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from stablestudio.errors import StudioError
from stablestudio.payments.errors import (
    IdempotencyConflict,
    InsufficientFunds,
    NonceAlreadyUsed,
    PaymentExpiredUnsettled,
    PaymentRejected,
    PaymentReused,
    StoreUnavailable,
)
from stablestudio.payments.rail import Outcome, Rejected, Settled, Unknown
from stablestudio.protocols import eip3009, x402
from stablestudio.protocols.eip3009 import Authorization
from stablestudio.protocols.evm import EvmKey
from stablestudio.protocols.x402 import PaymentExpired
from stablestudio.sales.order import Held, Sold
from stablestudio.sandbox.chain import LedgerTokenChain
from stablestudio.sandbox.ledger import LedgerChain
from tests.doubles import BUYER, USDC, ScriptedChain

from .shop import CAT, DOG, Shop

pytestmark = pytest.mark.anyio

POOR = Rejected(reason="insufficient_funds", message="The wallet is empty.")
LOST = Unknown(reason="timeout")
PAID = Settled(transaction="0x01")


def _with(shop: Shop, *submits: Any, finds: tuple[Any, ...] = (LOST,)) -> Shop:
    return replace(shop, chain=ScriptedChain(*submits, finds=finds))


async def test_a_settled_payment_becomes_an_order_with_its_job_and_workflow(shop: Shop) -> None:
    answer = await shop.sell(shop.purchase())
    assert isinstance(answer, Sold)
    assert shop.payments() == [("settled", "0x01", None)]
    assert shop.jobs() == shop.engine.enqueued == [answer.job_id]
    row = shop.database.fetch("SELECT wallet, model, operation, input, price_micros FROM orders")
    wallet = f"eip155:{BUYER.address.lower()}"
    assert row == [(wallet, "nano-banana", "generate", '{"prompt":"a cat","imageSize":"512"}', 45_000)]


async def test_the_same_payment_gets_an_equal_answer_and_is_submitted_once(shop: Shop) -> None:
    purchase = shop.purchase()
    answers = [await shop.sell(purchase), await shop.sell(purchase), await shop.reopen().sell(purchase)]
    told = [(answer.job_id, answer.payment.transaction) for answer in answers if isinstance(answer, Sold)]
    assert told == [told[0]] * 3
    assert (len(shop.chain.submitted), len(shop.jobs())) == (1, 1)


async def test_the_answer_is_kept_after_time_and_price_have_moved_on(shop: Shop) -> None:
    purchase = shop.purchase()
    answer = await shop.sell(purchase)
    shop.clock.advance(365 * 24 * 3600)
    assert isinstance(answer, Sold)
    for later in (purchase, replace(purchase, price=purchase.price * 2)):
        again = await shop.sell(later)
        assert isinstance(again, Sold)
        assert again.job_id == answer.job_id
    with pytest.raises(PaymentReused):
        await shop.sell(shop.purchase(DOG, presented=purchase.presented))


async def test_an_expired_payment_that_was_never_taken_is_refused(shop: Shop) -> None:
    purchase = shop.purchase()
    shop.clock.advance(295)
    with pytest.raises(PaymentExpired):
        await shop.sell(purchase)
    assert (shop.payments(), shop.chain.submitted) == ([], [])


@pytest.mark.parametrize("hold_s", [0, 60])
async def test_a_payment_that_was_told_to_be_over_is_not_taken_by_a_try_that_was_held_up(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, hold_s: int
) -> None:
    """The buyer gave up on the first try, whose process stood still before the claim, and has signed anew by now."""
    purchase, go_on, late = shop.purchase(hold_s=hold_s), asyncio.Event(), shop.reopen()
    real = late.seller._claim

    async def held_up(*arguments: Any, **named: Any) -> Any:
        await go_on.wait()
        return await real(*arguments, **named)

    monkeypatch.setattr(late.seller, "_claim", held_up)
    first = asyncio.ensure_future(late.sell(purchase))
    await asyncio.sleep(0)
    shop.clock.advance(295 + hold_s)
    for _ in range(2):
        with pytest.raises(PaymentExpired):
            await shop.sell(purchase)
    go_on.set()
    with pytest.raises(PaymentExpiredUnsettled):
        await first
    assert (shop.payments(), shop.jobs(), shop.chain.submitted) == ([], [], [])


async def test_a_payment_that_ends_later_is_another_one_though_its_nonce_is_that_of_one_that_was_over(
    shop: Shop,
) -> None:
    over = shop.purchase()
    shop.clock.advance(295)
    with pytest.raises(PaymentExpired):
        await shop.sell(over)
    payment: Any = over.presented
    later = replace(payment.authorization, valid_before=payment.authorization.valid_before + 200)
    signature = BUYER.sign_digest(eip3009.digest(USDC, later))
    presented = replace(payment, authorization=later, signature=signature)
    assert isinstance(await shop.sell(replace(over, presented=presented)), Sold)


async def test_a_payment_that_another_try_takes_at_its_end_is_not_told_to_be_over(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    purchase, asked = shop.purchase(), []
    refuse = shop.seller._refuse

    async def too_late(*arguments: Any) -> bool:
        shop.clock.advance(-295)
        asked.append(await shop.reopen().sell(purchase))
        shop.clock.advance(295)
        return await refuse(*arguments)

    monkeypatch.setattr(shop.seller, "_refuse", too_late)
    shop.clock.advance(295)
    answer = await shop.sell(purchase)
    assert isinstance(answer, Sold)
    assert ([each.job_id for each in asked], len(shop.chain.submitted)) == ([answer.job_id], 1)


async def test_a_payment_buys_nothing_else(shop: Shop) -> None:
    purchase = shop.purchase()
    await shop.sell(purchase)
    with pytest.raises(PaymentReused):
        await shop.sell(shop.purchase(DOG, presented=purchase.presented))
    assert (len(shop.chain.submitted), len(shop.jobs())) == (1, 1)


async def test_a_key_opens_one_order_and_no_second_payment_is_submitted(shop: Shop) -> None:
    first = await shop.sell(shop.purchase(key="k"))
    second = await shop.sell(shop.purchase(key="k"))
    assert isinstance(first, Sold)
    assert isinstance(second, Sold)
    assert (second.job_id, len(shop.chain.submitted)) == (first.job_id, 1)
    with pytest.raises(IdempotencyConflict):
        await shop.sell(shop.purchase(DOG, key="k"))


async def test_a_rejected_payment_gives_credential_and_key_back(shop: Shop) -> None:
    shop = _with(shop, POOR, PAID)
    purchase = shop.purchase(key="k")
    with pytest.raises(InsufficientFunds) as refused:
        await shop.sell(purchase)
    told = refused.value
    assert isinstance(told, PaymentRejected)
    assert (told.reason, told.network, told.charged) == ("insufficient_funds", "eip155:84532", False)
    assert (shop.payments(), shop.jobs()) == ([("rejected", None, "insufficient_funds")], [])
    assert isinstance(await shop.sell(purchase), Sold)
    with pytest.raises(IdempotencyConflict):
        await shop.sell(shop.purchase(DOG, key="k"))


@pytest.mark.parametrize("lost", [LOST, TimeoutError(), ConnectionError("the node hung up"), ValueError("a bug")])
async def test_an_unknown_outcome_is_held_and_never_refused(shop: Shop, lost: Any) -> None:
    shop = _with(shop, lost)
    purchase = shop.purchase(key="k")
    answer = await shop.sell(purchase)
    assert isinstance(answer, Held)
    assert (shop.payments()[0][0], shop.jobs()) == ("unknown", [])
    for later in (purchase, shop.purchase(key="k")):
        assert await shop.sell(later) == answer
    shop.clock.advance(10_000)
    assert await shop.reopen().sell(purchase) == answer  # expired by now, and still not known to be unpaid
    assert len(shop.chain.submitted) == 1


async def test_a_payment_of_an_unknown_outcome_buys_nothing_else(shop: Shop) -> None:
    shop = _with(shop, LOST)
    purchase = shop.purchase(key="k")
    await shop.sell(purchase)
    with pytest.raises(PaymentReused):
        await shop.sell(shop.purchase(DOG, presented=purchase.presented))
    with pytest.raises(IdempotencyConflict):
        await shop.sell(shop.purchase(DOG, key="k"))


async def _write_never(_: Any) -> Any:
    raise sa.exc.OperationalError("COMMIT", None, OSError("disk full"))


async def test_a_claim_that_cannot_be_written_is_not_paid(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    purchase = shop.purchase()
    with monkeypatch.context() as patched:
        patched.setattr(shop.database, "write", _write_never)
        with pytest.raises(StoreUnavailable):
            await shop.sell(purchase)
    assert (shop.chain.submitted, shop.payments()) == ([], [])
    assert isinstance(await shop.sell(purchase), Sold)


async def test_a_payment_that_was_taken_is_known_though_nothing_can_be_written(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    purchase = shop.purchase()
    sold = await shop.sell(purchase)
    monkeypatch.setattr(shop.database, "write", _write_never)
    assert (await shop.sell(purchase)).job_id == sold.job_id


async def test_nobody_hears_that_nothing_was_charged_where_the_sales_cannot_be_read(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    purchase = shop.purchase()
    await shop.sell(purchase)
    monkeypatch.setattr(shop.database, "write", _write_never)
    monkeypatch.setattr(shop.database, "read", _write_never)
    with pytest.raises(sa.exc.OperationalError):  # the route makes `SalesUnavailable` of it
        await shop.sell(purchase)


@pytest.mark.parametrize("outcome", [PAID, POOR, LOST])
async def test_an_outcome_that_cannot_be_written_is_held(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, outcome: Outcome
) -> None:
    async def settle_on_a_full_disk(_: Authorization) -> Outcome:
        monkeypatch.setattr(shop.database, "write", _write_never)
        return outcome

    shop = _with(shop, settle_on_a_full_disk, finds=(outcome,))
    purchase = shop.purchase()
    answer = await shop.sell(purchase)
    monkeypatch.undo()
    assert isinstance(answer, Held)
    assert shop.payments() == [("claimed", None, None)]
    if outcome is PAID:
        await shop.reconcile()
        assert shop.jobs() == [answer.job_id]
        assert isinstance(await shop.sell(purchase), Sold)


async def test_settlement_and_job_are_one_commit_with_the_workflow(shop: Shop) -> None:
    shop.engine.faults["enqueue"] = sa.exc.OperationalError("INSERT", None, OSError("locked"))
    purchase = shop.purchase()
    answer = await shop.sell(purchase)
    assert isinstance(answer, Held)
    assert (shop.payments(), shop.jobs()) == ([("claimed", None, None)], [])
    shop.engine.faults.clear()
    shop.chain.finds = [PAID]
    await shop.reconcile()
    assert (shop.payments(), shop.jobs()) == ([("settled", "0x01", None)], [answer.job_id])


async def test_money_that_moved_is_never_called_uncharged(shop: Shop) -> None:
    """Whatever breaks after the settlement, the buyer must not be told that nothing was charged."""
    shop.engine.faults["enqueue"] = RuntimeError("a bug of the engine")
    answer = await shop.sell(shop.purchase())  # an error here becomes a 500 whose body says charged: false
    assert isinstance(answer, Held)
    shop.engine.faults.clear()
    shop.chain.finds = [PAID]
    await shop.reconcile()
    assert shop.jobs() == [answer.job_id]


async def test_copies_wait_for_the_first_and_get_its_answer(shop: Shop) -> None:
    gate = asyncio.Event()

    async def slow(_: Authorization) -> Outcome:
        await gate.wait()
        return PAID

    shop = _with(shop, slow)
    purchase = shop.purchase()
    copies = [asyncio.create_task(shop.sell(purchase)) for _ in range(20)]
    await asyncio.sleep(0.1)
    assert not any(copy.done() for copy in copies)
    gate.set()
    answers = await asyncio.gather(*copies)
    assert len({(answer.job_id, type(answer)) for answer in answers}) == 1
    assert isinstance(answers[0], Sold)
    assert len(shop.chain.submitted) == 1


async def test_copies_of_a_rejected_payment_are_all_refused_alike(shop: Shop) -> None:
    gate = asyncio.Event()

    async def slow(_: Authorization) -> Outcome:
        await gate.wait()
        return POOR

    shop = _with(shop, slow)
    purchase = shop.purchase()
    copies = [asyncio.create_task(shop.sell(purchase)) for _ in range(10)]
    await asyncio.sleep(0.1)
    gate.set()
    results = await asyncio.gather(*copies, return_exceptions=True)
    assert {type(result) for result in results} == {InsufficientFunds}
    assert all(isinstance(result, PaymentRejected) for result in results if isinstance(result, StudioError))
    assert shop.jobs() == []


async def test_a_copy_does_not_wait_for_ever(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stablestudio.sales.sell._TWIN_SECONDS", 0.05)
    gate = asyncio.Event()

    async def stuck(_: Authorization) -> Outcome:
        await gate.wait()
        return PAID

    shop = _with(shop, stuck)
    purchase = shop.purchase()
    first = asyncio.create_task(shop.sell(purchase))
    await asyncio.sleep(0.05)
    copy = await shop.sell(purchase)
    assert isinstance(copy, Held)
    gate.set()
    sold = await first
    assert isinstance(sold, Sold)
    assert sold.job_id == copy.job_id


async def test_a_payment_that_a_stranger_submitted_first_is_still_the_buyers(shop: Shop) -> None:
    ledger = LedgerChain(shop.database, domain=USDC, clock=shop.clock)
    await ledger.mint(BUYER.address, 1_000_000)
    shop = replace(shop, chain=LedgerTokenChain(ledger, clock=shop.clock))
    purchase = shop.purchase()
    assert isinstance(purchase.presented, x402.PaymentPayload)
    stolen = await ledger.transfer_with_authorization(purchase.presented.authorization, purchase.presented.signature)
    answer = await shop.sell(purchase)
    assert isinstance(answer, Sold)
    assert answer.payment.transaction == stolen
    assert await ledger.balance_of(BUYER.address) == 955_000


async def test_a_nonce_spent_elsewhere_buys_nothing(shop: Shop) -> None:
    ledger = LedgerChain(shop.database, domain=USDC, clock=shop.clock)
    await ledger.mint(BUYER.address, 1_000_000)
    shop = replace(shop, chain=LedgerTokenChain(ledger, clock=shop.clock))
    purchase = shop.purchase()
    assert isinstance(purchase.presented, x402.PaymentPayload)
    elsewhere = replace(purchase.presented.authorization, value=1)
    await ledger.transfer_with_authorization(elsewhere, BUYER.sign_digest(eip3009.digest(USDC, elsewhere)))
    with pytest.raises(NonceAlreadyUsed):
        await shop.sell(purchase)
    assert shop.jobs() == []


async def test_other_wallets_may_use_the_same_key(shop: Shop) -> None:
    answers = [await shop.sell(shop.purchase(CAT, key="k", buyer=key)) for key in (BUYER, EvmKey.generate())]
    assert len({answer.job_id for answer in answers}) == 2
