"""What a chain does and says, in every order that hurts, and what the settlement makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from stablestudio.payments.evm.chain import FINALITY_SECONDS
from stablestudio.payments.rail import Outcome, Rejected, Settled, Unknown
from stablestudio.payments.tempo.chain import TempoReceipt, TempoRefused, TempoTransfer, TempoUnreachable
from stablestudio.payments.tempo.settlement import TempoPayment, TempoSettlement
from stablestudio.sandbox.tempo_chain import LedgerTempoChain
from stablestudio.sandbox.tempo_ledger import TempoLedger
from stablestudio.store.database import Database
from tests.doubles import BUYER, PAY_TO, REFUNDS, ManualClock
from tests.unit.payments.tempo_buyer import (
    ASKED,
    CHAIN_ID,
    FUNDS,
    NOW,
    OTHER_TOKEN,
    PRICE,
    STRANGER,
    TOKEN,
    local_rail,
    pay,
    rail_on,
)

pytestmark = pytest.mark.anyio

PAYMENT = TempoPayment.load(local_rail().identify(pay(local_rail().challenge(ASKED))).saved)
HASH = PAYMENT.transaction.hash
END = NOW + 25
MOVED = TempoTransfer(token=TOKEN, sender=BUYER.address.lower(), recipient=PAY_TO.lower(), amount=PRICE.micros)
PAID = TempoReceipt(transaction=HASH, succeeded=True, transfers=(MOVED,))
FAILED = replace(PAID, succeeded=False, transfers=())
SETTLED = Settled(transaction=HASH)
LOST, NEVER_SENT, REFUSED = TempoUnreachable("lost"), TempoUnreachable("down", sent=False), TempoRefused("no")

Answer = Any


@dataclass
class Scripted:
    """A chain that answers from lists, the last answer of each for ever."""

    send_: Sequence[Answer] = (None,)
    receipt_: Sequence[Answer] = (None,)
    now_: Sequence[Answer] = (NOW,)
    balance_: int | None = FUNDS
    chain_id: int = CHAIN_ID
    asked: list[str] = field(default_factory=list)

    async def send(self, raw: bytes) -> TempoReceipt | None:
        assert raw == PAYMENT.transaction.raw
        return await self._next("send", self.send_)  # type: ignore[no-any-return]

    async def receipt(self, transaction: str) -> TempoReceipt | None:
        assert transaction == HASH
        return await self._next("receipt", self.receipt_)  # type: ignore[no-any-return]

    async def now(self) -> int:
        return await self._next("now", self.now_)  # type: ignore[no-any-return]

    async def balance(self, token: str, owner: str) -> int | None:
        assert (token, owner) == (TOKEN, BUYER.address.lower())
        return self.balance_

    async def start(self, token: str) -> None: ...

    async def stop(self) -> None: ...

    async def _next(self, name: str, answers: Sequence[Answer]) -> Answer:
        place = self.asked.count(name)
        self.asked.append(name)
        answer = answers[min(place, len(answers) - 1)]
        if isinstance(answer, Exception):
            raise answer
        return await answer() if callable(answer) else answer


def _of(chain: Scripted) -> TempoSettlement:
    return TempoSettlement(chain, patience=0.25)


async def _settle(chain: Scripted, **how: bool) -> Outcome:
    return await _of(chain).settle(PAYMENT, **how)


async def test_a_receipt_at_once_needs_no_second_question() -> None:
    chain = Scripted(send_=[PAID])
    assert await _settle(chain) == SETTLED
    assert chain.asked == ["send"]


@pytest.mark.parametrize("answer", [LOST, REFUSED, None], ids=["lost", "refused", "taken"])
async def test_whatever_a_sending_is_told_the_receipt_decides(answer: Answer) -> None:
    assert await _settle(Scripted(send_=[answer], receipt_=[PAID])) == SETTLED
    assert await _settle(Scripted(send_=[answer], receipt_=[None, PAID])) == SETTLED


@pytest.mark.parametrize("lost", [LOST, NEVER_SENT], ids=["answer", "question"])
async def test_what_was_lost_is_sent_again_while_it_lives(lost: TempoUnreachable) -> None:
    chain = Scripted(send_=[lost, PAID])
    assert await _settle(chain) == SETTLED
    assert chain.asked.count("send") == 2


@pytest.mark.parametrize("answer", [LOST, NEVER_SENT, None, REFUSED], ids=["lost", "down", "taken", "refused"])
async def test_without_a_receipt_before_its_end_nothing_is_known(answer: Answer) -> None:
    outcome = await _settle(Scripted(send_=[answer]))
    assert isinstance(outcome, Unknown)


async def test_a_node_that_hangs_is_not_waited_for_beyond_patience() -> None:
    async def hang() -> None:
        await asyncio.sleep(60)

    async with asyncio.timeout(5):
        assert await _settle(Scripted(send_=[hang])) == Unknown(reason="not_seen_in_time")


async def test_a_refused_payer_without_money_is_told_so_at_once() -> None:
    chain = Scripted(send_=[REFUSED], balance_=PRICE.micros - 1)
    outcome = await _settle(chain)
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "insufficient_funds"
    assert chain.asked.count("send") == 1


@pytest.mark.parametrize("balance", [None, FUNDS], ids=["unknown", "enough"])
async def test_a_refusal_alone_rejects_nobody(balance: int | None) -> None:
    assert isinstance(await _settle(Scripted(send_=[REFUSED], balance_=balance)), Unknown)


async def test_a_node_that_refuses_is_not_asked_for_the_whole_patience() -> None:
    """Whoever signs badly must not keep us busy; the chain's clock ends it."""
    chain = Scripted(send_=[REFUSED])
    assert await TempoSettlement(chain, patience=60).settle(PAYMENT) == Unknown(reason="refused_by_node")
    assert chain.asked.count("send") == 3


async def test_a_node_that_refuses_at_first_may_take_it_later() -> None:
    assert await TempoSettlement(Scripted(send_=[REFUSED, REFUSED, PAID]), patience=5).settle(PAYMENT) == SETTLED


async def test_a_payer_is_not_called_poor_for_a_node_that_was_not_reached() -> None:
    assert isinstance(await _settle(Scripted(send_=[NEVER_SENT], balance_=0)), Unknown)


@pytest.mark.parametrize("first", [LOST, None], ids=["lost", "taken"])
async def test_a_copy_that_may_wait_in_a_pool_is_not_forgotten_over_a_refusal(first: Answer) -> None:
    assert isinstance(await _settle(Scripted(send_=[first, REFUSED], balance_=0)), Unknown)


async def test_a_wallet_that_is_empty_while_its_payment_waits_is_waited_for() -> None:
    chain = Scripted(send_=[None], receipt_=[None, None, PAID], balance_=0)
    assert await TempoSettlement(chain, patience=5).settle(PAYMENT) == SETTLED


async def test_a_wallet_that_the_payment_itself_emptied_is_not_poor() -> None:
    """The node refuses a copy, the balance is gone, and the receipt appears only now."""
    chain = Scripted(send_=[REFUSED], receipt_=[None, PAID], balance_=0)
    assert await _settle(chain) == SETTLED


async def test_a_poor_payer_on_an_unreadable_chain_is_not_rejected() -> None:
    chain = Scripted(send_=[REFUSED], receipt_=[LOST], balance_=0)
    assert isinstance(await _settle(chain), Unknown)


async def test_a_refund_is_never_given_up_for_an_empty_purse() -> None:
    outcome = await _settle(Scripted(send_=[REFUSED], balance_=0), may_give_up=False)
    assert outcome == Unknown(reason="insufficient_funds")


async def test_a_failed_transaction_is_rejected_for_good() -> None:
    for chain in (Scripted(send_=[FAILED]), Scripted(send_=[LOST], receipt_=[FAILED])):
        outcome = await _settle(chain)
        assert isinstance(outcome, Rejected)
        assert outcome.reason == "transaction_reverted"


@pytest.mark.parametrize(
    "change",
    [
        {"token": OTHER_TOKEN},
        {"sender": STRANGER.address.lower()},
        {"recipient": STRANGER.address.lower()},
        {"amount": PRICE.micros - 1},
        {"amount": PRICE.micros + 1},
    ],
    ids=["token", "sender", "recipient", "less", "more"],
)
async def test_a_success_without_the_transfer_is_no_payment(change: dict[str, Any]) -> None:
    other = replace(PAID, transfers=(replace(MOVED, **change),))
    assert isinstance(await _settle(Scripted(send_=[other])), Unknown)
    assert isinstance(await _of(Scripted(receipt_=[other])).find(PAYMENT), Unknown)
    both = replace(PAID, transfers=(replace(MOVED, **change), MOVED))
    assert await _of(Scripted(receipt_=[both])).find(PAYMENT) == SETTLED


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (NOW, "not_seen_on_chain"),
        (END - 1, "not_seen_on_chain"),
        (END, "ended_awaiting_finality"),
        (END + FINALITY_SECONDS - 1, "ended_awaiting_finality"),
    ],
)
async def test_an_absent_receipt_is_unknown_until_the_chain_is_well_past_the_end(now: int, reason: str) -> None:
    assert await _of(Scripted(now_=[now])).find(PAYMENT) == Unknown(reason=reason)


async def test_only_the_chains_own_clock_ends_a_payment() -> None:
    outcome = await _of(Scripted(now_=[END + FINALITY_SECONDS])).find(PAYMENT)
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "payment_expired"


async def test_a_receipt_is_looked_for_again_after_the_clock() -> None:
    chain = Scripted(receipt_=[None, PAID], now_=[END + FINALITY_SECONDS])
    assert await _of(chain).find(PAYMENT) == SETTLED


@pytest.mark.parametrize(
    "chain",
    [
        Scripted(receipt_=[LOST]),
        Scripted(now_=[LOST]),
        Scripted(receipt_=[None, LOST], now_=[END + FINALITY_SECONDS]),
    ],
    ids=["receipt", "clock", "second look"],
)
async def test_a_chain_that_cannot_be_read_says_nothing(chain: Scripted) -> None:
    assert await _of(chain).find(PAYMENT) == Unknown(reason="chain_not_readable")


async def test_what_has_ended_is_not_sent_for_the_whole_patience() -> None:
    chain = Scripted(send_=[REFUSED], now_=[END + 1])
    assert await TempoSettlement(chain, patience=60).settle(PAYMENT) == Unknown(reason="ended_awaiting_finality")
    assert chain.asked.count("send") == 1


class Shaky(LedgerTempoChain):
    """A ledger whose answers to sendings are lost at first, after it mined them."""

    def __init__(self, ledger: TempoLedger, *, lose: int, spoil: Callable[[], Exception] = TempoUnreachable) -> None:
        super().__init__(ledger)
        self.sendings = 0
        self._lose, self._spoil = lose, spoil

    async def send(self, raw: bytes) -> TempoReceipt | None:
        self.sendings += 1
        receipt = await super().send(raw)
        if self.sendings <= self._lose:
            raise self._spoil()
        return receipt


@pytest.mark.parametrize("lose", [0, 1, 100])
async def test_fifty_settlements_through_lost_answers_are_one_transfer(
    database: Database, clock: ManualClock, lose: int
) -> None:
    ledger = TempoLedger(database, clock=clock)
    await ledger.mint(TOKEN, BUYER.address, FUNDS)
    chain = Shaky(ledger, lose=lose)
    rail = rail_on(chain)
    saved = rail.identify(pay(rail.challenge(ASKED))).saved
    outcomes = await asyncio.gather(*(rail.settle(saved) for _ in range(50)))
    assert [type(outcome) for outcome in set(outcomes)] == [Settled]
    assert await ledger.balance_of(TOKEN, PAY_TO) == PRICE.micros
    assert chain.sendings == 1


async def test_an_order_is_refunded_once_however_often_answers_are_lost(database: Database, clock: ManualClock) -> None:
    """Sent, answer lost, process gone; later the bytes are sent again, and new ones never before the old ones ended."""
    ledger = TempoLedger(database, clock=clock)
    await ledger.mint(TOKEN, REFUNDS.address, FUNDS)
    chain = Shaky(ledger, lose=1)
    signed = await rail_on(chain).sign_refund(order_id="o1", recipient=BUYER.address, amount=7, now_s=clock.now_s)
    for _ in range(3):
        assert isinstance(await rail_on(chain).send_refund(signed), Settled)
    clock.advance(3600)
    assert isinstance(await rail_on(chain).find_refund(signed), Settled)
    assert await ledger.balance_of(TOKEN, BUYER.address) == 7


async def test_a_refund_that_never_arrived_is_over_only_by_the_chains_clock(
    database: Database, clock: ManualClock
) -> None:
    ledger = TempoLedger(database, clock=clock)
    rail = rail_on(LedgerTempoChain(ledger))
    signed = await rail.sign_refund(order_id="o1", recipient=BUYER.address, amount=7, now_s=clock.now_s)
    assert await rail.send_refund(signed) == Unknown(reason="insufficient_funds")
    await ledger.mint(TOKEN, REFUNDS.address, FUNDS)
    clock.advance(25 + FINALITY_SECONDS - 1)
    assert isinstance(await rail.send_refund(signed), Unknown)
    clock.advance(1)
    outcome = await rail.send_refund(signed)
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "payment_expired"
    assert await ledger.balance_of(TOKEN, BUYER.address) == 0


async def test_a_refund_carries_its_orders_memo(database: Database, clock: ManualClock) -> None:
    ledger = TempoLedger(database, clock=clock)
    await ledger.mint(TOKEN, REFUNDS.address, FUNDS)
    rail = rail_on(LedgerTempoChain(ledger))
    outcome = await rail.send_refund(
        await rail.sign_refund(order_id="o1", recipient=BUYER.address, amount=7, now_s=clock.now_s)
    )
    assert isinstance(outcome, Settled)
    entry = await ledger.find(outcome.transaction)
    assert entry is not None
    assert entry.memo == bytes.fromhex("4ad5078b975f8fa64afeb1fe8c98b4ef83d12f9bc3d3ad74efc5aad59fd2b761")
