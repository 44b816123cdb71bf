"""Lost answers, restarts, races and forgetful nodes: what is not known is `Unknown`, and nothing moves twice."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from stablestudio.payments.rail import Settled, Unknown
from stablestudio.payments.solana.facts import SolanaFacts
from stablestudio.payments.solana.rpc import HttpWire, SolanaRpc
from stablestudio.payments.solana.rpc_chain import RpcSolanaChain
from stablestudio.payments.stored import StoredAttempts
from stablestudio.protocols.solana import b58encode
from stablestudio.protocols.x402 import PaymentRefused
from stablestudio.store.database import Database
from tests.chain.proxy import plain_http
from tests.chain.solana_node import serve
from tests.chain.solana_world import (
    BUYER,
    DEVNET,
    FEES,
    FUNDS,
    PRICE,
    SHOP,
    THIEF,
    THIRD,
    Draft,
    SolanaWorld,
    account_of,
    good,
    lost,
    rail_on,
    told,
    transfer,
    x402_sign,
)
from tests.doubles import ManualClock

pytest.importorskip("solders")
pytestmark = pytest.mark.anyio
DRAINING = Draft(last=(transfer(source=account_of(FEES), authority=FEES, amount=1),))
_BLOCK = 0.4  # seconds
_LIFE = 150 * _BLOCK


@pytest.fixture
async def world(database: Database, clock: ManualClock) -> AsyncIterator[SolanaWorld]:
    opened = await _process(database, clock).open()
    yield opened
    await opened.chain.stop()


def _process(database: Database, clock: ManualClock) -> SolanaWorld:
    """Return what a process makes of the database when it starts, with the attempts that all processes share."""
    return SolanaWorld(database, clock, attempts=StoredAttempts(database, clock))


def _claim(world: SolanaWorld, raw: bytes) -> str:
    payment = world.payment(raw)
    world.rail.check(payment, world.asked)
    return world.rail.identify(payment).saved


def _patch(world: SolanaWorld, method: str, change: Any) -> None:
    world.wire.results[method] = change


async def test_fifty_copies_at_once_make_one_transfer(world: SolanaWorld) -> None:
    saved = _claim(world, good(world))

    outcomes = await asyncio.gather(*(world.rail.settle(saved) for _ in range(50)))

    assert {type(outcome) for outcome in outcomes} == {Settled}
    assert len(set(outcomes)) == 1
    assert await world.paid() == PRICE
    assert world.wire.asked.count("sendTransaction") == 1


async def test_two_processes_with_the_same_payment_make_one_transfer(world: SolanaWorld, clock: ManualClock) -> None:
    other = _process(world.database, clock)
    saved = _claim(world, good(world))

    outcomes = await asyncio.gather(*(each.rail.settle(saved) for each in (world, other) * 10))

    assert {told(outcome) for outcome in outcomes} == {"settled"}
    assert await world.paid() == PRICE


async def test_an_answer_lost_after_the_transfer_is_settled_all_the_same(world: SolanaWorld) -> None:
    world.wire.after["sendTransaction"] = lost

    assert isinstance(await world.rail.settle(_claim(world, good(world))), Settled)
    assert await world.paid() == PRICE


async def test_a_question_lost_before_the_transfer_is_unknown_and_is_made_good_later(world: SolanaWorld) -> None:
    saved = _claim(world, good(world))
    world.wire.before["sendTransaction"] = lost

    with world.hasty():
        first = await world.rail.settle(saved)
    assert isinstance(first, Unknown)
    assert await world.paid() == 0
    world.wire.before.clear()

    assert isinstance(await world.rail.find(saved), Unknown)
    assert isinstance(await world.rail.settle(saved), Settled)
    assert await world.paid() == PRICE


async def test_bytes_that_a_node_dropped_are_sent_again(database: Database, clock: ManualClock) -> None:
    world = await SolanaWorld(database, clock).open()
    calls = 0

    async def once() -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            await lost()

    world.wire.before["sendTransaction"] = once

    assert isinstance(await world.rail.settle(_claim(world, good(world))), Settled)
    assert calls == 2


@pytest.mark.parametrize("method", ["simulateTransaction", "getSignatureStatuses", "getTransaction"])
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_node_that_cannot_be_read_leaves_it_unknown(world: SolanaWorld, method: str, moment: str) -> None:
    saved = _claim(world, good(world))
    spoiled = getattr(world.wire, moment)
    spoiled[method] = lost

    with world.hasty():
        assert isinstance(await world.rail.settle(saved), Unknown)
    spoiled.clear()

    assert isinstance(await world.rail.settle(saved), Settled)
    assert await world.paid() == PRICE


async def test_a_transfer_in_a_block_that_may_still_go_is_not_settled(world: SolanaWorld) -> None:
    saved = _claim(world, good(world))
    _patch(world, "getSignatureStatuses", _young)

    with world.hasty():
        outcome = await world.rail.settle(saved)

    assert isinstance(outcome, Unknown)
    assert isinstance(await world.rail.find(saved), Unknown)


async def test_a_failure_in_a_block_that_may_still_go_is_not_a_rejection(world: SolanaWorld) -> None:
    saved = _claim(world, good(world))
    world.wire.after["simulateTransaction"] = lambda: world.move(BUYER, THIEF, FUNDS)
    _patch(world, "getSignatureStatuses", _young)
    with world.hasty():
        assert isinstance(await world.rail.settle(saved), Unknown)

    world.wire.results.clear()
    assert told(await world.rail.find(saved)) == "transaction_reverted"


async def test_a_failed_transaction_is_not_paid_even_once_there_is_money(world: SolanaWorld) -> None:
    saved = _claim(world, good(world))
    world.wire.after["simulateTransaction"] = lambda: world.move(BUYER, THIEF, FUNDS)
    assert told(await world.rail.settle(saved)) == "transaction_reverted"
    world.wire.after.clear()
    await world.ledger.mint(BUYER.address, FUNDS)

    assert told(await world.rail.settle(saved)) == "transaction_reverted"
    assert told(await world.rail.find(saved)) == "transaction_reverted"
    assert await world.paid() == 0


@pytest.mark.parametrize(
    "lie",
    [
        lambda told: told | {"meta": told["meta"] | {"err": {"InstructionError": [2, {"Custom": 1}]}}},
        lambda told: told | {"meta": told["meta"] | {"postTokenBalances": told["meta"]["preTokenBalances"]}},
        lambda told: told | {"meta": told["meta"] | {"postTokenBalances": []}},
    ],
    ids=["an error in the receipt", "no change of balance", "no balances"],
)
async def test_a_receipt_that_does_not_show_the_money_settles_nothing(world: SolanaWorld, lie: Any) -> None:
    saved = _claim(world, good(world))
    _patch(world, "getTransaction", lie)

    with world.hasty():
        assert isinstance(await world.rail.settle(saved), Unknown)


@pytest.mark.parametrize("amount", [PRICE, 1])
async def test_another_transaction_under_the_signature_settles_nothing(world: SolanaWorld, amount: int) -> None:
    other = await world.move(BUYER, SHOP, amount)
    foreign = await world.node._transaction([other])
    saved = _claim(world, good(world))
    _patch(world, "getTransaction", lambda _: foreign)

    with world.hasty():
        assert isinstance(await world.rail.settle(saved), Unknown)


async def test_a_history_that_lags_behind_the_status_is_waited_for(database: Database, clock: ManualClock) -> None:
    world = await SolanaWorld(database, clock).open()
    answers = [None, None]
    _patch(world, "getTransaction", lambda told: answers.pop() if answers else told)

    assert isinstance(await world.rail.settle(_claim(world, good(world))), Settled)


async def test_what_was_never_sent_expires_by_the_chain_and_not_by_the_clock(
    world: SolanaWorld, clock: ManualClock
) -> None:
    saved = _claim(world, good(world))
    assert isinstance(await world.rail.find(saved), Unknown)
    clock.advance(_LIFE)
    assert isinstance(await world.rail.find(saved), Unknown)

    clock.advance(_BLOCK)

    assert told(await world.rail.find(saved)) == "payment_expired"
    assert told(await world.rail.settle(saved)) == "payment_expired"


async def test_a_blockhash_that_the_node_does_not_know_is_waited_for_longer(
    world: SolanaWorld, clock: ManualClock
) -> None:
    raw = good(world)
    clock.advance(2 * _LIFE)
    saved = world.rail.identify(world.payment(raw)).saved
    assert isinstance(await world.rail.find(saved), Unknown)
    clock.advance(2 * _LIFE)
    assert isinstance(await world.rail.find(saved), Unknown)
    clock.advance(1.1 * _LIFE)

    assert told(await world.rail.find(saved)) == "payment_expired"


async def test_what_landed_just_before_its_end_is_found_after_it(world: SolanaWorld, clock: ManualClock) -> None:
    saved = _claim(world, good(world))
    assert isinstance(await world.rail.find(saved), Unknown)
    clock.advance(_LIFE)
    assert isinstance(await world.rail.settle(saved), Settled)
    clock.advance(10 * _LIFE)

    assert isinstance(await world.rail.find(saved), Settled)


@pytest.mark.parametrize(
    ("method", "lie"),
    [
        ("getEpochInfo", lambda told: told | {"blockHeight": told["blockHeight"] - 200}),
        ("isBlockhashValid", lambda told: told | {"value": True}),
        ("getSignatureStatuses", lambda told: told | {"context": {"slot": 1}}),
    ],
    ids=["its final head is behind", "it still takes the blockhash", "its status is of an older slot"],
)
async def test_a_node_that_lags_cannot_call_a_payment_expired(
    world: SolanaWorld, clock: ManualClock, method: str, lie: Any
) -> None:
    saved = _claim(world, good(world))
    assert isinstance(await world.rail.find(saved), Unknown)
    clock.advance(_LIFE + 60)
    _patch(world, method, lie)

    assert isinstance(await world.rail.find(saved), Unknown)
    world.wire.results.clear()
    assert told(await world.rail.find(saved)) == "payment_expired"


async def test_a_node_that_says_that_it_lags_does_not_start_the_count(world: SolanaWorld, clock: ManualClock) -> None:
    saved = _claim(world, good(world))
    world.wire.before["getHealth"] = lost
    assert isinstance(await world.rail.find(saved), Unknown)
    world.wire.before.clear()
    clock.advance(3 * _LIFE)

    assert isinstance(await world.rail.find(saved), Unknown)


async def test_a_node_that_has_forgotten_those_blocks_cannot_call_a_payment_expired(
    world: SolanaWorld, clock: ManualClock
) -> None:
    saved = _claim(world, good(world))
    assert isinstance(await world.rail.find(saved), Unknown)
    clock.advance(_LIFE + 60)
    first = world.ledger.blocks.height - 10
    _patch(world, "getFirstAvailableBlock", lambda _: first)

    assert await world.rail.find(saved) == Unknown(reason="history_too_short")


async def test_a_refusal_is_final_only_for_what_was_never_sent(world: SolanaWorld, clock: ManualClock) -> None:
    saved = _claim(world, good(world))
    world.wire.before["sendTransaction"] = lost
    with world.hasty():
        assert isinstance(await world.rail.settle(saved), Unknown)  # for all we know it is on its way
    await world.move(BUYER, THIEF, FUNDS)

    again = _process(world.database, clock)

    assert isinstance(await again.rail.settle(saved), Unknown)


async def test_after_a_final_refusal_nobody_who_came_second_sends_it(world: SolanaWorld, clock: ManualClock) -> None:
    saved = _claim(world, good(world))
    other = _process(world.database, clock)
    simulated, refused = asyncio.Event(), asyncio.Event()
    await world.move(BUYER, THIEF, FUNDS)

    async def hand_over() -> None:  # the first is about to hear that the buyer is poor
        await world.move(THIEF, BUYER, FUNDS)
        second = asyncio.create_task(other.rail.settle(saved))
        late.append(second)
        await simulated.wait()

    async def hold() -> None:  # the second has heard that the buyer is rich
        simulated.set()
        await refused.wait()

    late: list[asyncio.Task[Any]] = []
    world.wire.after["simulateTransaction"] = hand_over
    other.wire.after["simulateTransaction"] = hold

    with other.hasty(seconds=3):
        assert told(await world.rail.settle(saved)) == "insufficient_funds"
    refused.set()
    assert isinstance(await late[0], Unknown)
    assert await world.paid() == 0


async def test_payments_of_a_former_fee_payer_are_looked_up_and_never_signed(
    world: SolanaWorld, clock: ManualClock
) -> None:
    settled, open_ = (_claim(world, good(world)) for _ in range(2))
    await world.rail.settle(settled)
    chain = RpcSolanaChain(world.facts, network=DEVNET, fee_payer=THIRD, clock=clock)
    today = rail_on(chain, clock)

    for ask in (today.find, today.settle):
        assert isinstance(await ask(settled), Settled)
        assert isinstance(await ask(open_), Unknown)
    clock.advance(_LIFE + 1)
    assert told(await today.settle(open_)) == "payment_expired"
    assert await world.paid() == PRICE


async def test_a_refused_payment_may_be_presented_again(world: SolanaWorld) -> None:
    saved = _claim(world, good(world))
    await world.move(BUYER, THIEF, FUNDS)
    assert told(await world.rail.settle(saved)) == "insufficient_funds"
    await world.move(THIEF, BUYER, FUNDS)

    assert isinstance(await world.rail.settle(saved), Settled)


async def test_an_unpaid_fee_is_not_called_the_buyers_fault(world: SolanaWorld) -> None:
    saved = _claim(world, good(world))
    _patch(
        world, "simulateTransaction", lambda told: told | {"value": told["value"] | {"err": "InsufficientFundsForFee"}}
    )

    assert told(await world.rail.settle(saved)) == "settlement_unavailable"
    assert "sendTransaction" not in world.wire.asked


async def test_the_same_question_after_a_restart_finds_the_same_answer(world: SolanaWorld, clock: ManualClock) -> None:
    saved = _claim(world, good(world))
    settled = await world.rail.settle(saved)
    failing = _claim(world, Draft().make(world))
    world.wire.after["simulateTransaction"] = lambda: world.move(BUYER, THIEF, FUNDS - PRICE)
    failed = await world.rail.settle(failing)

    again = _process(world.database, clock)

    assert [await again.rail.find(one) for one in (saved, failing)] == [settled, failed]
    assert [await again.rail.settle(one) for one in (saved, failing)] == [settled, failed]
    assert await again.paid() == PRICE


async def test_after_a_restart_the_count_to_the_end_begins_anew(world: SolanaWorld, clock: ManualClock) -> None:
    saved = _claim(world, good(world))
    assert isinstance(await world.rail.find(saved), Unknown)
    clock.advance(_LIFE - 10)
    again = _process(world.database, clock)

    assert isinstance(await again.rail.find(saved), Unknown)
    clock.advance(20)
    assert isinstance(await again.rail.find(saved), Unknown)
    clock.advance(_LIFE)
    assert told(await again.rail.find(saved)) == "payment_expired"


@pytest.mark.parametrize(
    "draft", [Draft(fee_payer=BUYER), Draft(units=1_400_000), DRAINING], ids=["one signer", "dear", "drain"]
)
async def test_saved_text_that_was_changed_is_not_signed(world: SolanaWorld, draft: Draft) -> None:
    saved = json.loads(_claim(world, good(world)))
    saved["transaction"] = base64.b64encode(draft.make(world)).decode()

    with pytest.raises(PaymentRefused):
        await world.rail.settle(json.dumps(saved))
    assert "sendTransaction" not in world.wire.asked


def _young(told: dict[str, Any]) -> dict[str, Any]:
    value = [None if one is None else one | {"confirmationStatus": "processed"} for one in told["value"]]
    return told | {"value": value}


async def test_the_same_adapter_settles_over_http(world: SolanaWorld) -> None:
    async with serve(world.node) as url, plain_http() as http:
        facts = SolanaFacts(SolanaRpc(HttpWire(url, http=http)), commitment="finalized")
        rail = rail_on(RpcSolanaChain(facts, network=DEVNET, fee_payer=FEES, clock=world.clock), world.clock)
        await rail.start()
        payment = world.payment(x402_sign(rail.offer(world.asked), b58encode(world.blockhash)))
        credential = rail.identify(payment)
        assert await rail.admit(credential) is None

        assert isinstance(await rail.settle(credential.saved), Settled)
        assert isinstance(await rail.find(credential.saved), Settled)
    assert await world.paid() == PRICE
