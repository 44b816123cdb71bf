"""What a submission makes of a node's answers; the same against a real node is in tests/chain."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from stablestudio.payments.evm.facts import TokenFacts
from stablestudio.payments.evm.gas import GasAccount
from stablestudio.payments.evm.rpc_chain import RpcTokenChain
from stablestudio.payments.rail import Rejected, Settled, Unknown
from stablestudio.protocols.eip3009_calls import state_call
from stablestudio.protocols.evm import EvmKey
from tests.doubles import USDC

from .nodes import BLOCK, HASH, Node, Refusal
from .test_evm_facts import MADE, NO, OURS, YES, moved, receipt, used

pytestmark = pytest.mark.anyio
KEY = EvmKey.from_hex("0x" + "9a" * 32)
SIGNATURE = bytes(64) + b"\x1b"
STATE = "0x" + state_call(MADE).hex()
POOR = Refusal(3, "execution reverted: ERC20: transfer amount exceeds balance")
FORGED = Refusal(3, "execution reverted: FiatTokenV2: invalid signature")
EXPIRED = Refusal(3, "execution reverted: FiatTokenV2: authorization is expired")
NOT_FOUND = Refusal(-32001, "Resource not found")
FAILED = {"status": "0x0", "blockNumber": "0x64", "blockHash": HASH, "logs": []}


def _calls(state: list[Any], transfer: list[Any]) -> Any:
    """Answer eth_call by what is called; each list's last answer holds."""

    def answer(parameters: list[Any]) -> Any:
        answers = state if parameters[0]["data"] == STATE else transfer
        told = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(told, Exception):
            raise told
        return told

    return answer


def _node(*, state: list[Any] | None = None, transfer: list[Any] | None = None, **answers: Any) -> Node:
    usual = {
        "eth_getBlockByNumber": BLOCK,
        "eth_call": _calls(state or [NO], transfer or ["0x"]),
        "eth_estimateGas": "0x15f90",
        "eth_maxPriorityFeePerGas": "0x3e8",
        "eth_getTransactionCount": "0x5",
        "eth_sendRawTransaction": OURS,
        "eth_getTransactionReceipt": receipt(used(0), moved(1)),
        "eth_getLogs": [[used(0)]],
    }
    return Node(**(usual | answers))


def _chain(node: Node, *, patience: float = 0.3) -> RpcTokenChain:
    account = GasAccount(node.rpc, KEY, chain_id=USDC.chain_id)
    return RpcTokenChain(TokenFacts(node.rpc, domain=USDC), gas=account, patience=patience)


async def test_everything_is_looked_at_before_anything_is_sent() -> None:
    node = _node()
    assert isinstance(await _chain(node).submit(MADE, SIGNATURE), Settled)
    assert [method for method, _ in node.asked] == [
        "eth_getBlockByNumber",
        "eth_call",
        "eth_call",
        "eth_estimateGas",
        "eth_maxPriorityFeePerGas",
        "eth_getTransactionCount",
        "eth_getTransactionCount",
        "eth_sendRawTransaction",
        "eth_getTransactionReceipt",
        "eth_getBlockByNumber",
    ]
    assert [state for _, state in node.parameters("eth_call")] == 2 * [{"blockHash": HASH}]


@pytest.mark.parametrize(
    ("revert", "reason"),
    [(POOR, "insufficient_funds"), (FORGED, "invalid_signature"), (EXPIRED, "payment_expired")],
)
async def test_what_the_simulation_refuses_is_not_sent(revert: Refusal, reason: str) -> None:
    node = _node(transfer=[revert])
    outcome = await _chain(node).submit(MADE, SIGNATURE)
    assert isinstance(outcome, Rejected)
    assert outcome.reason == reason
    assert (node.count("eth_estimateGas"), node.count("eth_sendRawTransaction")) == (0, 0)


async def test_a_node_that_does_not_know_the_block_yet_is_asked_again_from_a_new_head() -> None:
    node = _node(state=[NOT_FOUND, NOT_FOUND, NO])
    assert isinstance(await _chain(node, patience=2).submit(MADE, SIGNATURE), Settled)
    assert node.count("eth_sendRawTransaction") == 1


async def test_a_node_that_never_knows_it_is_unknown() -> None:
    node = _node(state=[NOT_FOUND])
    assert await _chain(node, patience=2).submit(MADE, SIGNATURE) == Unknown(reason="chain_not_readable")


async def test_a_token_that_contradicts_itself_is_unknown() -> None:
    node = _node(transfer=[Refusal(3, "execution reverted: FiatTokenV2: authorization is used or canceled")])
    assert await _chain(node).submit(MADE, SIGNATURE) == Unknown(reason="not_seen_in_time")
    assert node.count("eth_sendRawTransaction") == 0


async def test_an_estimate_that_reverts_means_that_something_waits_already() -> None:
    node = _node(eth_estimateGas=FORGED, state=[NO, NO, NO, NO, YES])
    assert await _chain(node, patience=5).submit(MADE, SIGNATURE) == Settled(transaction=OURS)
    assert (node.count("eth_estimateGas"), node.count("eth_sendRawTransaction")) == (1, 0)


async def test_a_failed_transaction_whose_nonce_was_used_by_another_is_settled() -> None:
    node = _node(state=[NO, YES], eth_getTransactionReceipt=[FAILED, receipt(used(0), moved(1))])
    assert await _chain(node).submit(MADE, SIGNATURE) == Settled(transaction=OURS)


@pytest.mark.parametrize(("then", "reason"), [(POOR, "insufficient_funds"), ("0x", "transaction_reverted")])
async def test_a_failed_transaction_is_rejected_only_while_the_nonce_is_free(then: Any, reason: str) -> None:
    outcome = await _chain(_node(transfer=["0x", then], eth_getTransactionReceipt=FAILED)).submit(MADE, SIGNATURE)
    assert isinstance(outcome, Rejected)
    assert outcome.reason == reason


async def test_a_failed_transaction_is_no_rejection_while_the_state_cannot_be_read() -> None:
    node = _node(state=[NO, NOT_FOUND], eth_getTransactionReceipt=FAILED)
    assert isinstance(await _chain(node).submit(MADE, SIGNATURE), Unknown)


async def test_a_failed_transaction_is_no_rejection_on_a_node_that_lags_behind_its_block() -> None:
    node = _node(transfer=["0x", POOR], eth_getTransactionReceipt=FAILED | {"blockNumber": "0x65"})
    assert isinstance(await _chain(node).submit(MADE, SIGNATURE), Unknown)


@pytest.mark.parametrize(
    "answer", [httpx2.ReadTimeout(""), httpx2.Response(502), OURS], ids=["lost", "gateway", "taken"]
)
async def test_what_left_and_is_not_mined_is_unknown_under_its_hash(answer: Any) -> None:
    node = _node(eth_sendRawTransaction=answer, eth_getTransactionReceipt=None)
    outcome = await _chain(node).submit(MADE, SIGNATURE)
    assert isinstance(outcome, Unknown)
    [asked] = {transaction for [transaction] in node.parameters("eth_getTransactionReceipt")}
    assert outcome.reason == f"not_seen_in_time:{asked}"


async def test_a_second_submission_sends_the_same_bytes_while_they_can_be_mined() -> None:
    node = _node(eth_getTransactionReceipt=None)
    chain = _chain(node)
    outcomes = [await chain.submit(MADE, SIGNATURE) for _ in range(3)]
    assert len({str(outcome) for outcome in outcomes}) == 1
    assert len({raw for [raw] in node.parameters("eth_sendRawTransaction")}) == 1
    assert node.count("eth_estimateGas") == 1


async def test_a_replaced_transaction_is_sent_anew() -> None:
    node = _node(eth_getTransactionReceipt=None, eth_getTransactionCount=["0x5", "0x5", "0x6"])
    chain = _chain(node)
    first, second = [await chain.submit(MADE, SIGNATURE) for _ in range(2)]
    assert first != second
    assert len({raw for [raw] in node.parameters("eth_sendRawTransaction")}) == 2


async def test_a_refusal_is_no_rejection_while_an_earlier_transaction_may_still_be_mined() -> None:
    dear = BLOCK | {"baseFeePerGas": hex(10**7)}
    node = _node(eth_getBlockByNumber=[BLOCK, *3 * [dear]], transfer=["0x", POOR], eth_getTransactionReceipt=None)
    chain = _chain(node, patience=0.05)
    first, second = [await chain.submit(MADE, SIGNATURE) for _ in range(2)]
    assert isinstance(first, Unknown)
    assert isinstance(second, Unknown)
    assert first.reason.partition(":")[2] == second.reason.partition(":")[2] != ""


async def test_a_failure_to_send_anew_keeps_what_was_sent() -> None:
    dear = BLOCK | {"baseFeePerGas": hex(10**18)}
    node = _node(eth_getBlockByNumber=[BLOCK, dear], eth_getTransactionReceipt=None)
    chain = _chain(node)
    first, second = [await chain.submit(MADE, SIGNATURE) for _ in range(2)]
    assert isinstance(first, Unknown)
    assert second == Unknown(reason="gas_price_above_cap:" + first.reason.partition(":")[2])


async def test_a_broadcast_that_never_left_is_made_again() -> None:
    node = _node(eth_sendRawTransaction=[httpx2.ConnectError(""), OURS])
    assert isinstance(await _chain(node, patience=2).submit(MADE, SIGNATURE), Settled)


async def test_success_without_the_events_is_no_payment() -> None:
    outcome = await _chain(_node(eth_getTransactionReceipt=receipt(moved(0)))).submit(MADE, SIGNATURE)
    assert isinstance(outcome, Unknown)
