"""A node that breaks at the worst moment: money moves once, and nothing that moved is called rejected."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from stablestudio.payments.evm.rpc import EvmRpc
from stablestudio.payments.rail import Settled, Unknown
from tests.chain.anvil import Anvil
from tests.chain.proxy import ARRIVES, TIMEOUT, Fault, Proxy, plain_http
from tests.chain.signing import FUNDS, GOOD, PRICE, nonce_of, signed
from tests.chain.worlds import chain_on
from tests.doubles import BUYER, PAY_TO

pytestmark = [pytest.mark.anyio, pytest.mark.npm]
each_fault = pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: fault.name.lower())
SEND = "eth_sendRawTransaction"
READS = [
    "eth_getBlockByNumber",
    "eth_call",
    "eth_estimateGas",
    "eth_maxPriorityFeePerGas",
    "eth_getTransactionCount",
    "eth_getTransactionReceipt",
]


@pytest.fixture
async def proxy(anvil: Anvil) -> AsyncIterator[Proxy]:
    anvil.fund(BUYER.address, FUNDS)
    async with Proxy(anvil.url) as running:
        yield running


@pytest.fixture
async def weak(proxy: Proxy) -> AsyncIterator[EvmRpc]:
    """A client behind the proxy."""
    async with plain_http() as http:
        yield EvmRpc(proxy.url, http=http, timeout=TIMEOUT)


@each_fault
@pytest.mark.parametrize("times", [1, 2])
async def test_a_broadcast_that_breaks_moves_the_money_once(
    anvil: Anvil, rpc: EvmRpc, proxy: Proxy, weak: EvmRpc, fault: Fault, times: int
) -> None:
    chain = chain_on(
        weak, patience=20 if fault in ARRIVES else 1
    )  # what arrives is seen at once, on a slow machine later
    proxy.faults[SEND] = times * [fault]
    outcome = await chain.submit(*signed())
    assert isinstance(outcome, Settled | Unknown)
    # Sent once more by itself, so that it takes two faults on the way there to leave it open.
    assert isinstance(outcome, Settled) or (fault not in ARRIVES and (times == 2 or fault is Fault.REFUSED))
    proxy.faults.clear()
    again = await chain.submit(*signed())
    assert isinstance(again, Settled)
    assert await chain_on(rpc).find(GOOD) == again
    assert (anvil.transfers(), anvil.failures()) == ([again.transaction], 0)
    # The nonce of a broadcast that failed was given back.
    assert isinstance(await chain.submit(*signed(nonce=nonce_of(2))), Settled)
    assert anvil.balance(PAY_TO) == 2 * PRICE


@each_fault
async def test_a_broadcast_that_breaks_before_the_process_ends_is_found_on_the_chain(
    anvil: Anvil, rpc: EvmRpc, proxy: Proxy, weak: EvmRpc, fault: Fault
) -> None:
    proxy.faults = {SEND: 2 * [fault], "eth_getTransactionReceipt": 100 * [Fault.ERROR_BEFORE]}
    outcome = await chain_on(weak, patience=0.6).submit(*signed())
    assert isinstance(outcome, Unknown)
    found = await chain_on(rpc).find(GOOD)
    assert isinstance(found, Settled if fault in ARRIVES else Unknown)
    if isinstance(found, Settled):
        assert outcome.reason.endswith(f":{found.transaction}")
    assert isinstance(await chain_on(rpc).submit(*signed()), Settled)
    assert len(anvil.transfers()) == 1


@pytest.mark.parametrize("fault", [Fault.DROP_ANSWER, Fault.ERROR_BEFORE, Fault.REFUSED], ids=lambda fault: fault.name)
@pytest.mark.parametrize("method", READS)
async def test_a_read_that_breaks_once_is_made_up_for(
    anvil: Anvil, proxy: Proxy, weak: EvmRpc, method: str, fault: Fault
) -> None:
    proxy.faults[method] = [fault]
    outcome = await chain_on(weak, patience=3).submit(*signed())
    assert isinstance(outcome, Settled)
    assert method in proxy.seen
    assert (anvil.transfers(), anvil.failures()) == ([outcome.transaction], 0)


@pytest.mark.parametrize("method", READS)
async def test_a_read_that_stays_broken_is_unknown_and_never_rejected(
    anvil: Anvil, rpc: EvmRpc, proxy: Proxy, weak: EvmRpc, method: str
) -> None:
    proxy.faults[method] = 1000 * [Fault.ERROR_BEFORE]
    outcome = await chain_on(weak, patience=0.5).submit(*signed())
    assert isinstance(outcome, Unknown)
    assert isinstance(await chain_on(rpc).submit(*signed()), Settled)
    assert len(anvil.transfers()) == 1


@pytest.mark.parametrize("method", ["eth_getBlockByNumber", "eth_call", "eth_getLogs", "eth_getTransactionReceipt"])
async def test_a_look_up_that_breaks_is_unknown(anvil: Anvil, proxy: Proxy, weak: EvmRpc, method: str) -> None:
    ours = anvil.transfer(*signed())
    proxy.faults[method] = [Fault.ERROR_BEFORE]
    chain = chain_on(weak)
    assert await chain.find(GOOD) == Unknown(reason="chain_not_readable")
    assert await chain.find(GOOD) == Settled(transaction=ours)


@pytest.mark.parametrize("method", ["eth_call", "eth_getLogs", "eth_getTransactionReceipt"])
async def test_a_submission_of_what_a_stranger_sent_outlives_a_fault(
    anvil: Anvil, proxy: Proxy, weak: EvmRpc, method: str
) -> None:
    theirs = anvil.transfer(*signed())
    proxy.faults[method] = [Fault.RESET_BEFORE]
    assert await chain_on(weak).submit(*signed()) == Settled(transaction=theirs)


async def test_a_node_that_is_down_is_unknown_and_nothing_was_sent(anvil: Anvil) -> None:
    nobody = EvmRpc("http://127.0.0.1:9", timeout=TIMEOUT)
    chain = chain_on(nobody)
    assert await chain.submit(*signed()) == await chain.find(GOOD) == Unknown(reason="chain_not_readable")
    assert await chain.balance(BUYER.address) is None
    await nobody.close()


async def test_many_at_once_over_a_bad_line_all_arrive_in_the_end(
    anvil: Anvil, rpc: EvmRpc, proxy: Proxy, weak: EvmRpc
) -> None:
    proxy.faults[SEND] = list(Fault)
    chain = chain_on(weak, patience=2)
    calls = [signed(nonce=nonce_of(number)) for number in range(12)]
    outcomes = await asyncio.gather(*(chain.submit(*call) for call in calls))
    assert all(isinstance(outcome, Settled | Unknown) for outcome in outcomes)
    again = [await chain.submit(*call) for call in calls]
    assert all(isinstance(outcome, Settled) for outcome in again)
    assert (len(anvil.transfers()), anvil.balance(PAY_TO)) == (12, 12 * PRICE)
