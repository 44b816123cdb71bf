"""Refunds on Solana: signed before sent, sent again at will, paid once per order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from stablestudio.payments.rail import Rejected, Settled, Unknown
from stablestudio.payments.solana.chain import ChainNotReadable
from stablestudio.payments.stored import StoredAttempts
from stablestudio.protocols import solana_programs as programs
from stablestudio.protocols.solana import b58encode
from stablestudio.store.database import Database
from tests.chain.solana_world import (
    BUYER,
    FUNDS,
    PRICE,
    REFUNDS,
    THIEF,
    SolanaWorld,
    account_of,
    lost,
    rail_on,
    told,
    transfer,
)
from tests.doubles import ManualClock

pytest.importorskip("solders")
pytestmark = pytest.mark.anyio
_LIFE = 60.0


@pytest.fixture
async def world(database: Database, clock: ManualClock) -> AsyncIterator[SolanaWorld]:
    opened = await SolanaWorld(database, clock, attempts=StoredAttempts(database, clock)).open()
    yield opened
    await opened.chain.stop()


async def _sign(
    world: SolanaWorld, *, order: str = "job_1", recipient: str = BUYER.address, amount: int = PRICE
) -> str:
    return await world.rail.sign_refund(order_id=order, recipient=recipient, amount=amount, now_s=world.clock.now_s)


async def _spent(world: SolanaWorld) -> int:
    return FUNDS - (await world.ledger.balance_of(REFUNDS.address) or 0)


async def test_a_refund_is_paid_once_however_often_it_is_sent(world: SolanaWorld) -> None:
    signed = await _sign(world)

    outcomes = [await world.rail.send_refund(signed) for _ in range(3)]
    outcomes += await asyncio.gather(*(world.rail.send_refund(signed) for _ in range(20)))

    assert len(set(outcomes)) == 1
    assert isinstance(outcomes[0], Settled)
    assert await world.rail.find_refund(signed) == outcomes[0]
    assert await _spent(world) == PRICE
    assert await world.ledger.balance_of(BUYER.address) == FUNDS + PRICE


async def test_a_refund_names_its_order(world: SolanaWorld) -> None:
    outcome = await world.rail.send_refund(await _sign(world, order="job_42"))

    assert isinstance(outcome, Settled)
    entries = await world.node._history([b58encode(account_of(REFUNDS)), {"limit": 10}])
    assert [entry["memo"] for entry in entries if entry["signature"] == outcome.transaction] == ["[13] refund:job_42"]


async def test_a_refund_whose_answer_was_lost_is_found(world: SolanaWorld) -> None:
    world.wire.after["sendTransaction"] = lost
    signed = await _sign(world)

    assert isinstance(await world.rail.send_refund(signed), Settled)
    assert await _spent(world) == PRICE


async def test_a_refund_that_was_not_sent_expires_after_its_last_block_and_not_before(
    world: SolanaWorld, clock: ManualClock
) -> None:
    signed = await _sign(world)
    clock.advance(_LIFE)
    assert isinstance(await world.rail.find_refund(signed), Unknown)
    clock.advance(0.4)

    assert told(await world.rail.find_refund(signed)) == "payment_expired"
    assert told(await world.rail.send_refund(signed)) == "payment_expired"
    assert await _spent(world) == 0


async def test_what_expired_is_signed_anew_and_paid_once(world: SolanaWorld, clock: ManualClock) -> None:
    signed = await _sign(world)
    clock.advance(_LIFE + 1)
    assert told(await world.rail.send_refund(signed)) == "payment_expired"

    renewed = await _sign(world)

    assert isinstance(await world.rail.send_refund(renewed), Settled)
    assert told(await world.rail.send_refund(signed)) == "payment_expired"
    assert await _spent(world) == PRICE


async def test_a_refund_in_flight_at_its_end_is_not_called_expired(world: SolanaWorld, clock: ManualClock) -> None:
    signed = await _sign(world)
    clock.advance(_LIFE)
    assert isinstance(await world.rail.send_refund(signed), Settled)
    clock.advance(10 * _LIFE)

    assert isinstance(await world.rail.find_refund(signed), Settled)


async def test_a_node_that_lags_cannot_call_a_refund_expired(world: SolanaWorld, clock: ManualClock) -> None:
    signed = await _sign(world)
    clock.advance(_LIFE + 60)
    world.wire.results["getEpochInfo"] = lambda told: told | {"blockHeight": told["blockHeight"] - 300}

    assert isinstance(await world.rail.find_refund(signed), Unknown)


async def test_a_failed_refund_moved_nothing_and_is_signed_anew(world: SolanaWorld, clock: ManualClock) -> None:
    signed = await _sign(world)
    world.wire.after["simulateTransaction"] = lambda: world.move(REFUNDS, THIEF, FUNDS)
    assert told(await world.rail.send_refund(signed)) == "transaction_reverted"
    world.wire.after.clear()
    await world.move(THIEF, REFUNDS, FUNDS)
    assert told(await world.rail.find_refund(signed)) == "transaction_reverted"
    clock.advance(1)

    assert isinstance(await world.rail.send_refund(await _sign(world)), Settled)
    assert await _spent(world) == PRICE


async def test_a_buyer_that_closed_its_account_needs_a_person(world: SolanaWorld) -> None:
    await world.move(BUYER, THIEF, FUNDS)
    await world.close(BUYER)

    outcome = await world.rail.send_refund(await _sign(world))

    assert isinstance(outcome, Rejected)
    assert outcome.reason == "recipient_account_missing"
    assert await _spent(world) == 0


async def test_a_missing_account_is_not_the_last_word_on_a_refund_that_may_be_on_its_way(world: SolanaWorld) -> None:
    signed = await _sign(world)
    world.wire.before["sendTransaction"] = lost
    with world.hasty():
        assert isinstance(await world.rail.send_refund(signed), Unknown)
    await world.move(BUYER, THIEF, FUNDS)
    await world.close(BUYER)

    assert isinstance(await world.rail.send_refund(signed), Unknown)


async def test_a_buyer_that_opened_its_account_again_is_paid(world: SolanaWorld) -> None:
    await world.move(BUYER, THIEF, FUNDS)
    await world.close(BUYER)
    signed = await _sign(world)
    assert told(await world.rail.send_refund(signed)) == "recipient_account_missing"
    await world.ledger.mint(BUYER.address, 0)

    assert isinstance(await world.rail.send_refund(signed), Settled)


async def test_an_empty_purse_is_told(world: SolanaWorld) -> None:
    await world.move(REFUNDS, THIEF, FUNDS)

    assert told(await world.rail.send_refund(await _sign(world))) == "insufficient_funds"


async def test_a_refund_that_a_lost_database_forgot_is_not_paid_again(world: SolanaWorld, clock: ManualClock) -> None:
    first = await world.rail.send_refund(await _sign(world))
    clock.advance(3600)

    again = await world.rail.send_refund(await _sign(world))

    assert again == first
    assert await _spent(world) == PRICE


async def test_a_failed_refund_of_an_order_does_not_pass_for_a_paid_one(world: SolanaWorld, clock: ManualClock) -> None:
    world.wire.after["simulateTransaction"] = lambda: world.move(REFUNDS, THIEF, FUNDS)
    assert told(await world.rail.send_refund(await _sign(world))) == "transaction_reverted"
    world.wire.after.clear()
    await world.move(THIEF, REFUNDS, FUNDS)
    clock.advance(3600)

    assert isinstance(await world.rail.send_refund(await _sign(world)), Settled)
    assert await _spent(world) == PRICE


async def test_a_strangers_memo_holds_no_refund_back(world: SolanaWorld) -> None:
    await world.ledger.mint(THIEF.address, 2 * PRICE)
    # It pays the same buyer the same amount under the same memo, and names our account to be in its history.
    spoof = transfer(source=account_of(THIEF), destination=account_of(BUYER), authority=THIEF)
    mention = transfer(source=account_of(THIEF), destination=account_of(REFUNDS), authority=THIEF, amount=0)
    await world.run(THIEF, [spoof, mention, programs.memo("refund:job_1")])

    assert isinstance(await world.rail.send_refund(await _sign(world)), Settled)
    assert await _spent(world) == PRICE


@pytest.mark.parametrize("orders", [("job_1", "job_11"), ("job_11", "job_1")])
async def test_refunds_of_two_orders_are_two_refunds(world: SolanaWorld, orders: tuple[str, str]) -> None:
    for order in orders:
        assert isinstance(await world.rail.send_refund(await _sign(world, order=order)), Settled)

    assert await _spent(world) == 2 * PRICE


@pytest.mark.parametrize(
    ("method", "lie"),
    [
        ("isBlockhashValid", lambda told: told | {"value": False}),
        ("getEpochInfo", lambda told: told | {"blockHeight": told["blockHeight"] + 10_000}),
    ],
)
async def test_one_wrong_fact_does_not_make_a_refund_expired(
    world: SolanaWorld, clock: ManualClock, method: str, lie: Any
) -> None:
    """Signing anew needs both: final blocks beyond the last one, and a node that takes the blockhash no more."""
    signed = await _sign(world)
    world.wire.results[method] = lie
    clock.advance(_LIFE)

    assert isinstance(await world.rail.find_refund(signed), Unknown)


async def test_a_history_that_cannot_be_read_sends_nothing(world: SolanaWorld) -> None:
    signed = await _sign(world)
    world.wire.before["getSignaturesForAddress"] = lost

    assert isinstance(await world.rail.send_refund(signed), Unknown)
    assert "sendTransaction" not in world.wire.asked


async def test_without_a_recent_blockhash_nothing_is_signed(world: SolanaWorld) -> None:
    world.wire.before["getLatestBlockhash"] = lost

    with pytest.raises(ChainNotReadable, match="nothing was charged"):
        await _sign(world)


@pytest.mark.parametrize("recipient", ["", "0x209693Bc6afc0C5328bA36FaF03C514EF312287C", "lord of the rings"])
async def test_a_recipient_that_is_no_wallet_is_named(world: SolanaWorld, recipient: str) -> None:
    with pytest.raises(Exception, match="no Solana wallet"):
        await _sign(world, recipient=recipient)


async def test_a_signed_refund_tells_all_that_is_needed_after_a_restart(world: SolanaWorld) -> None:
    signed = json.loads(await _sign(world))

    assert set(signed) == {"transaction", "recipient", "signedAt", "lastValidBlockHeight"}
    again = rail_on(world.chain, world.clock, refund_key=THIEF)  # the key has been changed since
    assert isinstance(await again.send_refund(json.dumps(signed)), Settled)
    assert await _spent(world) == PRICE
