"""The Tempo rail on a real Tempo EVM, through a node that breaks at the worst moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from stablestudio.payments.evm.chain import FINALITY_SECONDS
from stablestudio.payments.evm.rpc import EvmRpc
from stablestudio.payments.rail import Rejected, Settled, Unknown
from stablestudio.payments.tempo.chain import WrongTempoChain
from stablestudio.payments.tempo.rail import TempoRail
from stablestudio.payments.tempo.rpc_chain import TempoRpcChain
from stablestudio.payments.tempo.settlement import TempoPayment, TempoSettlement
from stablestudio.protocols import tempo
from stablestudio.protocols.eip3009_calls import TRANSFER
from stablestudio.protocols.evm import keccak256
from tests.chain.anvil import NOW
from tests.chain.proxy import ARRIVES, TIMEOUT, Fault, Proxy, plain_http
from tests.chain.tempo_node import Node
from tests.chain.tempo_vectors import FUNDS, MINED, RICH_SECRET, signed, transfer
from tests.doubles import BUYER, PAY_TO, REFUNDS
from tests.unit.payments.tempo_buyer import ASKED, CHAIN_ID, PRICE, STRANGER, TOKEN, pay, rail_on

pytestmark = [pytest.mark.anyio, pytest.mark.npm]
SEND, RECEIPT, HEAD = "eth_sendRawTransactionSync", "eth_getTransactionReceipt", "eth_getBlockByNumber"
TRANSFER_WITH_MEMO = "0x57bc7354aa85aed339e000bccffabbc529466af35f0772c8f8ee1145927de7f0"
each_fault = pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: fault.name.lower())


@pytest.fixture(scope="module")
def _running() -> Iterator[Node]:
    with Node() as node:
        yield node


@pytest.fixture
def node(_running: Node) -> Iterator[Node]:
    with _running.undone():
        _running.ask("evm_setAutomine", True)  # noqa: FBT003
        yield _running
        _running.ask("evm_setAutomine", False)  # noqa: FBT003
        _running.ask("anvil_setNextBlockBaseFeePerGas", "0x0")


@pytest.fixture
async def proxy(node: Node) -> AsyncIterator[Proxy]:
    async with Proxy(node._url) as standing:
        yield standing


@pytest.fixture
async def rail(proxy: Proxy) -> AsyncIterator[TempoRail]:
    async with plain_http() as http:
        yield rail_on(TempoRpcChain(EvmRpc(proxy.url, http=http, timeout=TIMEOUT), chain_id=CHAIN_ID))


@pytest.fixture
async def direct(node: Node) -> AsyncIterator[TempoRail]:
    """A rail whose node keeps it waiting while nothing is mined, until the answer is given up for lost."""
    async with plain_http() as http:
        yield _impatient(rail_on(TempoRpcChain(EvmRpc(node._url, http=http, timeout=TIMEOUT), chain_id=CHAIN_ID)))


def _impatient(rail: TempoRail) -> TempoRail:
    rail._settlement = rail._refunds._settlement = TempoSettlement(rail._chain, patience=4 * TIMEOUT)
    return rail


def _fund(node: Node, address: str, amount: int) -> None:
    raw = signed(transfer(address, amount), key=RICH_SECRET)
    node.ask("evm_setAutomine", False)  # noqa: FBT003
    assert node.send(raw) == MINED
    node.ask("evm_setAutomine", True)  # noqa: FBT003


def _transfers(node: Node, recipient: str = PAY_TO) -> list[str]:
    topics = [TRANSFER, None, "0x" + recipient[2:].lower().rjust(64, "0")]
    logs = node.ask("eth_getLogs", {"address": TOKEN, "topics": topics, "fromBlock": "0x0"})
    return [log["transactionHash"] for log in logs]


def _saved(rail: TempoRail) -> str:
    given = pay(rail.challenge(ASKED))
    rail.check(given, ASKED)
    return rail.identify(given).saved


async def test_a_payment_is_settled_and_found_under_its_own_hash(node: Node, rail: TempoRail) -> None:
    saved = _saved(rail)
    outcome = await rail.settle(saved)
    assert outcome == Settled(transaction=TempoPayment.load(saved).transaction.hash)
    assert await rail.find(saved) == outcome == await rail.settle(saved)
    assert node.balance(PAY_TO) == PRICE.micros
    assert _transfers(node) == [outcome.transaction]


async def test_fifty_settlements_of_one_credential_are_one_transfer(node: Node, rail: TempoRail) -> None:
    saved = _saved(rail)
    outcomes = await asyncio.gather(*(rail.settle(saved) for _ in range(50)))
    assert [type(outcome) for outcome in set(outcomes)] == [Settled]
    assert len(_transfers(node)) == 1


async def test_fifty_credentials_are_fifty_transfers(node: Node, rail: TempoRail) -> None:
    _fund(node, BUYER.address, 50 * PRICE.micros)
    outcomes = await asyncio.gather(*(rail.settle(_saved(rail)) for _ in range(50)))
    assert len({outcome.transaction for outcome in outcomes if isinstance(outcome, Settled)}) == 50
    assert node.balance(PAY_TO) == 50 * PRICE.micros


async def test_the_other_spelling_of_a_signature_has_the_hash_that_the_node_gives_it(
    node: Node, rail: TempoRail
) -> None:
    raw = TempoPayment.load(_saved(rail)).transaction.raw
    respelt = raw[:-1] + bytes([raw[-1] - 27])
    assert node.ask("eth_sendRawTransaction", "0x" + respelt.hex()) == tempo.decode(respelt).hash
    assert tempo.decode(respelt).raw == raw


@each_fault
async def test_a_lost_answer_to_the_sending_loses_no_payment(
    node: Node, proxy: Proxy, rail: TempoRail, fault: Fault
) -> None:
    proxy.faults[SEND] = [fault]
    saved = _saved(rail)
    outcome = await rail.settle(saved)
    assert isinstance(outcome, Settled)
    assert _transfers(node) == [outcome.transaction]


@each_fault
@pytest.mark.parametrize("method", [RECEIPT, HEAD])
async def test_a_read_that_fails_after_a_lost_answer_settles_nothing_twice(
    node: Node, proxy: Proxy, rail: TempoRail, fault: Fault, method: str
) -> None:
    proxy.faults = {SEND: [Fault.DROP_ANSWER], method: [fault]}
    outcome = await rail.settle(_saved(rail))
    assert isinstance(outcome, Settled)
    assert _transfers(node) == [outcome.transaction]


@each_fault
async def test_a_node_that_never_answers_leaves_it_unknown_and_the_chain_tells_later(
    node: Node, proxy: Proxy, rail: TempoRail, fault: Fault
) -> None:
    proxy.faults = {method: [fault] * 50 for method in (SEND, RECEIPT, HEAD, "eth_call")}
    saved = _saved(rail)
    assert isinstance(await _impatient(rail).settle(saved), Unknown)
    proxy.faults.clear()
    found = await rail.find(saved)
    assert isinstance(found, Settled if fault in ARRIVES else Unknown)
    assert len(_transfers(node)) == (1 if fault in ARRIVES else 0)


async def test_a_payment_that_waits_in_the_pool_is_unknown_until_it_is_mined(node: Node, direct: TempoRail) -> None:
    node.ask("evm_setAutomine", False)  # noqa: FBT003
    saved = _saved(direct)
    assert isinstance(await direct.settle(saved), Unknown)
    assert await direct.find(saved) == Unknown(reason="not_seen_on_chain")
    node.ask("anvil_mine", "0x1")
    assert isinstance(await direct.find(saved), Settled)


@pytest.mark.parametrize("pooled", [False, True], ids=["refused", "pooled"])
async def test_a_payment_that_ends_unmined_is_rejected_by_the_chains_clock_only(
    node: Node, direct: TempoRail, *, pooled: bool
) -> None:
    saved = _saved(direct)
    if pooled:
        node.ask("evm_setAutomine", False)  # noqa: FBT003
        assert isinstance(await direct.settle(saved), Unknown)
    node.move_to(NOW + 25 + FINALITY_SECONDS - 1)
    assert isinstance(await direct.find(saved), Unknown)
    node.move_to(NOW + 25 + FINALITY_SECONDS)
    for outcome in (await direct.find(saved), await direct.settle(saved)):
        assert isinstance(outcome, Rejected)
        assert outcome.reason == "payment_expired"
    assert _transfers(node) == []


async def test_a_payer_without_money_is_told_before_and_after(node: Node, rail: TempoRail) -> None:
    named = rail.identify(pay(rail.challenge(ASKED), key=STRANGER))
    for outcome in (await rail.admit(named), await rail.settle(named.saved)):
        assert isinstance(outcome, Rejected)
        assert outcome.reason == "insufficient_funds"
    assert _transfers(node) == []


async def test_a_failed_transaction_is_not_paid(node: Node, rail: TempoRail) -> None:
    _fund(node, STRANGER.address, PRICE.micros - 1)
    saved = rail.identify(pay(rail.challenge(ASKED), key=STRANGER, max_fee_per_gas=0)).saved
    outcome = await rail.settle(saved)
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "transaction_reverted"
    _fund(node, STRANGER.address, FUNDS)
    assert await rail.settle(saved) == await rail.find(saved) == outcome
    assert _transfers(node) == []


async def test_a_payer_is_admitted_with_the_price_and_the_fee(node: Node, rail: TempoRail) -> None:
    named = rail.identify(pay(rail.challenge(ASKED)))
    assert await rail.admit(named) is None
    assert await rail.admit(named, held=FUNDS) is not None


async def _refund(rail: TempoRail, now: int = NOW) -> str:
    return await rail.sign_refund(order_id="order-1", recipient=STRANGER.address, amount=PRICE.micros, now_s=now)


@each_fault
async def test_a_refund_is_paid_once_however_often_it_is_sent(
    node: Node, proxy: Proxy, rail: TempoRail, fault: Fault
) -> None:
    _fund(node, REFUNDS.address, FUNDS)
    node.ask("anvil_setNextBlockBaseFeePerGas", hex(2 * 10**10))
    proxy.faults[SEND] = [fault]
    owed = await _refund(rail)
    outcomes = [await rail.send_refund(owed) for _ in range(3)]
    assert [type(outcome) for outcome in set(outcomes)] == [Settled]
    assert await rail.find_refund(owed) == outcomes[0]
    assert node.balance(STRANGER.address) == PRICE.micros


async def test_a_refund_names_its_order_on_the_chain(node: Node, rail: TempoRail) -> None:
    _fund(node, REFUNDS.address, FUNDS)
    outcome = await rail.send_refund(await _refund(rail))
    assert isinstance(outcome, Settled)
    receipt = node.ask(RECEIPT, outcome.transaction)
    memos = [log["topics"][3] for log in receipt["logs"] if log["topics"][0] == TRANSFER_WITH_MEMO]
    assert memos == ["0x" + keccak256(b"refund:order-1").hex()]


async def test_new_refund_bytes_follow_only_bytes_that_can_never_be_mined(node: Node, direct: TempoRail) -> None:
    """The whole life of a refund that waited in a pool: unknown until the chain is past it, then signed anew, paid once."""
    _fund(node, REFUNDS.address, FUNDS)
    node.ask("evm_setAutomine", False)  # noqa: FBT003
    first = await _refund(direct)
    assert isinstance(await direct.send_refund(first), Unknown)
    node.move_to(NOW + 25 + FINALITY_SECONDS)
    outcome = await direct.find_refund(first)
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "payment_expired"
    node.ask("evm_setAutomine", True)  # noqa: FBT003
    second = await _refund(direct, NOW + 25 + FINALITY_SECONDS)
    assert isinstance(await direct.send_refund(second), Settled)
    assert isinstance(await direct.send_refund(first), Rejected)
    assert node.balance(STRANGER.address) == PRICE.micros


async def test_an_empty_purse_keeps_a_refund_owed(node: Node, rail: TempoRail) -> None:
    owed = await _refund(rail)
    assert await rail.send_refund(owed) == Unknown(reason="insufficient_funds")
    _fund(node, REFUNDS.address, FUNDS)
    assert isinstance(await rail.send_refund(owed), Settled)


async def test_the_start_asks_the_node_for_chain_and_token(node: Node) -> None:
    async with plain_http() as http:
        rpc = EvmRpc(node._url, http=http)
        await TempoRpcChain(rpc, chain_id=CHAIN_ID).start(TOKEN)
        with pytest.raises(WrongTempoChain, match="serves chain 42431, configured is 4217"):
            await TempoRpcChain(rpc, chain_id=4217).start(TOKEN)
        with pytest.raises(WrongTempoChain, match="no token"):
            await TempoRpcChain(rpc, chain_id=CHAIN_ID).start("0x" + "12" * 20)
