"""Many at once, strangers who are quicker, and blocks that come late: one authorization is one transfer and one answer."""

from __future__ import annotations

import asyncio

import pytest

from stablestudio.payments.evm.facts import TokenFacts, confirmations_by
from stablestudio.payments.evm.gas import GasAccount, GasLimits
from stablestudio.payments.evm.rpc import EvmRpc
from stablestudio.payments.rail import Outcome, Rejected, Settled, Unknown
from stablestudio.protocols import eip3009_calls
from tests.chain.anvil import GAS_KEY, Anvil
from tests.chain.signing import FUNDS, GOOD, PRICE, nonce_of, signed
from tests.chain.vectors import OTHER
from tests.chain.worlds import chain_on
from tests.doubles import BUYER, PAY_TO, USDC, eventually

pytestmark = [pytest.mark.anyio, pytest.mark.npm]


@pytest.fixture(autouse=True)
def _funded(anvil: Anvil) -> None:
    anvil.fund(BUYER.address, FUNDS)


def _hash(outcome: Outcome) -> str:
    assert isinstance(outcome, Settled), outcome
    return outcome.transaction


def _hash_in(outcome: Outcome) -> str:
    assert isinstance(outcome, Unknown), outcome
    return "0x" + outcome.reason.partition(":0x")[2]


async def test_copies_at_once_are_one_transfer_and_one_answer(anvil: Anvil, rpc: EvmRpc) -> None:
    chain = chain_on(rpc)
    outcomes = await asyncio.gather(*(chain.submit(*signed()) for _ in range(20)))
    assert {_hash(outcome) for outcome in outcomes} == set(anvil.transfers())
    assert (len(anvil.transfers()), anvil.failures()) == (1, 0)


async def test_different_ones_at_once_all_arrive(anvil: Anvil, rpc: EvmRpc) -> None:
    chain = chain_on(rpc)
    calls = [signed(nonce=nonce_of(number)) for number in range(20)]
    outcomes = await asyncio.gather(*(chain.submit(*call) for call in calls))
    assert sorted(map(_hash, outcomes)) == sorted(anvil.transfers())
    assert (len(set(anvil.transfers())), anvil.balance(PAY_TO)) == (20, 20 * PRICE)


async def test_two_processes_with_one_key_and_no_common_lease_lose_nothing(anvil: Anvil, rpc: EvmRpc) -> None:
    chains = [chain_on(rpc) for _ in range(2)]
    calls = [signed(nonce=nonce_of(number)) for number in range(10)]
    outcomes = await asyncio.gather(*(chain.submit(*call) for chain in chains for call in calls))
    assert not any(isinstance(outcome, Rejected) for outcome in outcomes)
    again = [_hash(await chains[0].submit(*call)) for call in calls]
    assert sorted(again) == sorted(anvil.transfers())
    assert anvil.balance(PAY_TO) == 10 * PRICE


async def test_a_balance_committed_twice_in_one_block_is_settled_once(anvil: Anvil, rpc: EvmRpc) -> None:
    chain = chain_on(rpc)
    anvil.automine(on=False)
    calls = [signed(value=FUNDS, nonce=nonce_of(number)) for number in (1, 2)]
    waiting = [asyncio.create_task(chain.submit(*call)) for call in calls]
    # The node may already refuse the second while the first waits.
    await eventually(lambda: _pending(anvil) == 2 or any(task.done() for task in waiting))
    anvil.mine()
    outcomes = await asyncio.gather(*waiting)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Rejected", "Settled"]
    assert [outcome.reason for outcome in outcomes if isinstance(outcome, Rejected)] == ["insufficient_funds"]
    assert anvil.balance(PAY_TO) == FUNDS


async def test_a_stranger_who_is_mined_before_us_has_paid_for_the_buyer(anvil: Anvil, rpc: EvmRpc) -> None:
    chain = chain_on(rpc)
    anvil.automine(on=False)
    waiting = asyncio.create_task(chain.submit(*signed()))
    await _until_waiting(anvil, 1)
    theirs = anvil.transfer(*signed(), maxFeePerGas=hex(10**11), maxPriorityFeePerGas=hex(10**11))
    anvil.mine()
    assert await waiting == Settled(transaction=theirs) == await chain.find(GOOD)
    assert (anvil.transfers(), anvil.failures()) == ([theirs], 1)


async def test_a_transfer_in_the_same_bundle_pays_for_one_authorization_only(anvil: Anvil, rpc: EvmRpc) -> None:
    """The buyer uses the first for us and the second, whose nonce it signed twice, for itself; in one receipt."""
    first, second = signed(), signed(nonce=nonce_of(2))
    diverted = signed(nonce=nonce_of(2), recipient=OTHER)
    bundled = anvil.bundle([eip3009_calls.transfer_call(*call) for call in (first, diverted)])
    assert anvil.transfers() == [bundled, bundled]
    chain = chain_on(rpc)
    assert await chain.submit(*first) == Settled(transaction=bundled)
    for outcome in (await chain.submit(*second), await chain.find(second[0])):
        assert isinstance(outcome, Rejected)
        assert outcome.reason == "nonce_already_used"


async def test_authorizations_bundled_by_a_stranger_are_each_settled(anvil: Anvil, rpc: EvmRpc) -> None:
    calls = [signed(nonce=nonce_of(number), value=number) for number in (1, 2, 3)]
    bundled = anvil.bundle([eip3009_calls.transfer_call(*call) for call in calls])
    chain = chain_on(rpc)
    assert [await chain.submit(*call) for call in calls] == 3 * [Settled(transaction=bundled)]
    assert anvil.balance(PAY_TO) == 6


async def test_what_is_not_mined_in_time_is_unknown_and_settled_later(anvil: Anvil, rpc: EvmRpc) -> None:
    chain = chain_on(rpc, patience=0.5)
    anvil.automine(on=False)
    ours = _hash_in(await chain.submit(*signed()))
    assert isinstance(await chain.find(GOOD), Unknown)
    assert _hash_in(await chain.submit(*signed())) == ours, "no second transaction while the first can be mined"
    anvil.mine()
    assert await chain.find(GOOD) == await chain.submit(*signed()) == Settled(transaction=ours)
    assert (anvil.transfers(), anvil.failures()) == ([ours], 0)


async def test_what_the_node_forgot_is_sent_again_as_it_was(anvil: Anvil, rpc: EvmRpc) -> None:
    chain = chain_on(rpc, patience=0.5)
    anvil.automine(on=False)
    ours = _hash_in(await chain.submit(*signed()))
    anvil.ask("anvil_dropTransaction", ours)
    anvil.automine(on=True)
    assert await chain.submit(*signed()) == Settled(transaction=ours)
    # And the nonces go on without a gap.
    assert isinstance(await chain.submit(*signed(nonce=nonce_of(2))), Settled)


async def test_a_forgotten_transaction_leaves_no_gap_for_the_next(anvil: Anvil, rpc: EvmRpc) -> None:
    chain = chain_on(rpc, patience=0.5)
    anvil.automine(on=False)
    anvil.ask("anvil_dropTransaction", _hash_in(await chain.submit(*signed())))
    anvil.automine(on=True)
    assert isinstance(await chain.submit(*signed(nonce=nonce_of(2))), Settled)
    assert isinstance(await chain.submit(*signed()), Settled)
    assert anvil.balance(PAY_TO) == 2 * PRICE


async def test_a_restart_forgets_what_was_sent_and_still_moves_the_money_once(anvil: Anvil, rpc: EvmRpc) -> None:
    anvil.automine(on=False)
    ours = _hash_in(await chain_on(rpc, patience=0.5).submit(*signed()))
    waiting = asyncio.create_task(chain_on(rpc).submit(*signed()))
    await asyncio.sleep(0.2)  # whether a second transaction waits by then is the node's choice
    anvil.mine()
    assert await waiting == Settled(transaction=ours)
    assert anvil.transfers() == [ours]


async def test_a_transaction_too_cheap_for_the_base_fee_makes_place(anvil: Anvil, rpc: EvmRpc) -> None:
    chain = chain_on(rpc, patience=0.5, gas=_account(rpc, max_cost=10**16))
    anvil.automine(on=False)
    stuck = _hash_in(await chain.submit(*signed()))
    await _raise_base_fee(anvil, above=stuck)
    later = signed(nonce=nonce_of(2))
    waiting = asyncio.create_task(chain.submit(*later))
    await _until_waiting(anvil, 1)
    anvil.mine()
    assert isinstance(await waiting, Settled)
    anvil.automine(on=True)
    assert isinstance(await chain.submit(*signed()), Settled)
    assert (len(anvil.transfers()), anvil.failures()) == (2, 0)


async def test_an_authorization_stuck_at_a_low_fee_is_sent_with_a_higher_one(anvil: Anvil, rpc: EvmRpc) -> None:
    chain = chain_on(rpc, patience=0.5, gas=_account(rpc, max_cost=10**16))
    anvil.automine(on=False)
    stuck = _hash_in(await chain.submit(*signed()))
    await _raise_base_fee(anvil, above=stuck)
    anvil.automine(on=True)
    raised = _hash(await chain.submit(*signed()))
    assert raised != stuck
    assert (anvil.transfers(), anvil.failures()) == ([raised], 0)


async def test_dollars_wait_for_more_blocks_than_cents(anvil: Anvil, rpc: EvmRpc) -> None:
    facts = TokenFacts(rpc, domain=USDC, confirmations=confirmations_by(((0, 1), (FUNDS, 3))))
    chain = chain_on(rpc, facts=facts, patience=0.6)
    dollar = signed(value=FUNDS, nonce=nonce_of(2))
    anvil.fund(BUYER.address, 2 * FUNDS)
    assert isinstance(await chain.submit(*signed()), Settled)
    ours = _hash_in(await chain.submit(*dollar))
    assert await chain.find(dollar[0]) == Unknown(reason=f"awaiting_confirmations:{ours}")
    anvil.mine()
    assert isinstance(await chain.find(dollar[0]), Unknown)
    anvil.mine()
    assert await chain.find(dollar[0]) == await chain.submit(*dollar) == Settled(transaction=ours)


async def test_a_submission_waits_for_its_confirmations(anvil: Anvil, rpc: EvmRpc) -> None:
    chain = chain_on(rpc, facts=TokenFacts(rpc, domain=USDC, confirmations=lambda _: 3))
    waiting = asyncio.create_task(chain.submit(*signed()))
    await eventually(lambda: bool(anvil.transfers()))
    assert not waiting.done()
    anvil.mine(2)
    assert [_hash(await waiting)] == anvil.transfers()


@pytest.mark.parametrize("seconds", [0.02, 0.05, 0.1, 0.2])
async def test_a_caller_who_gives_up_leaves_nothing_behind(anvil: Anvil, rpc: EvmRpc, seconds: float) -> None:
    chain = chain_on(rpc)
    anvil.automine(on=False)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(chain.submit(*signed()), seconds)
    anvil.automine(on=True)
    outcomes = await asyncio.gather(chain.submit(*signed()), chain.submit(*signed(nonce=nonce_of(2))))
    assert {_hash(outcome) for outcome in outcomes} == set(anvil.transfers())
    assert len(anvil.transfers()) == 2


async def test_gas_above_the_cap_is_not_paid(anvil: Anvil, rpc: EvmRpc) -> None:
    outcome = await chain_on(rpc, gas=_account(rpc, max_cost=10**9)).submit(*signed())
    assert outcome == Unknown(reason="gas_price_above_cap")
    assert anvil.transfers() == []


async def test_a_key_without_coins_says_so_and_rejects_nobody(anvil: Anvil, rpc: EvmRpc) -> None:
    anvil.ask("anvil_setBalance", GAS_KEY.address, "0x0")
    chain = chain_on(rpc)
    assert await chain.submit(*signed()) == Unknown(reason="gas_key_unfunded")
    anvil.ask("anvil_setBalance", GAS_KEY.address, hex(10**18))
    assert isinstance(await chain.submit(*signed()), Settled)


def _account(rpc: EvmRpc, *, max_cost: int) -> GasAccount:
    return GasAccount(rpc, GAS_KEY, chain_id=USDC.chain_id, limits=GasLimits(max_cost=max_cost))


async def _raise_base_fee(anvil: Anvil, *, above: str) -> None:
    fee = int(anvil.ask("eth_getTransactionByHash", above)["maxFeePerGas"], 16)
    anvil.ask("anvil_setNextBlockBaseFeePerGas", hex(fee + 1))
    anvil.mine()
    anvil.ask("anvil_setNextBlockBaseFeePerGas", hex(fee + 1))
    assert anvil.transfers() == []


async def _until_waiting(anvil: Anvil, count: int) -> None:
    await eventually(lambda: _pending(anvil) >= count)


def _pending(anvil: Anvil) -> int:
    return int(anvil.ask("txpool_status")["pending"], 16)
