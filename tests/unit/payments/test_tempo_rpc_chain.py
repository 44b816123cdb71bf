"""What a node's answers and faults mean for a Tempo chain."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from stablestudio.payments.tempo.chain import (
    TempoReceipt,
    TempoRefused,
    TempoTransfer,
    TempoUnreachable,
    WrongTempoChain,
)
from stablestudio.payments.tempo.rpc_chain import TempoRpcChain
from stablestudio.protocols.eip3009_calls import TRANSFER
from stablestudio.protocols.evm import keccak256
from tests.unit.payments.nodes import BLOCK, HASH, Node, Refusal

pytestmark = pytest.mark.anyio
RAW = b"\x76signed"
TRANSACTION = "0x" + keccak256(RAW).hex()
TOKEN, SENDER, RECIPIENT = "0x20C0" + "0" * 36, "0x" + "Aa" * 20, "0x" + "bB" * 20
WITH_MEMO = "0x57bc7354aa85aed339e000bccffabbc529466af35f0772c8f8ee1145927de7f0"


def _word(address: str) -> str:
    return "0x" + address[2:].rjust(64, "0")


def _log(**changes: Any) -> dict[str, Any]:
    return {
        "address": TOKEN,
        "topics": [TRANSFER, _word(SENDER), _word(RECIPIENT)],
        "data": "0x" + (45_000).to_bytes(32).hex(),
        "logIndex": "0x0",
        "transactionHash": TRANSACTION,
        **changes,
    }


def _receipt(*logs: dict[str, Any], status: str = "0x1") -> dict[str, Any]:
    return {"status": status, "blockNumber": "0x64", "blockHash": HASH, "logs": list(logs)}


MOVED = TempoTransfer(token=TOKEN.lower(), sender=SENDER.lower(), recipient=RECIPIENT.lower(), amount=45_000)
PAID = TempoReceipt(transaction=TRANSACTION, succeeded=True, transfers=(MOVED,))
SYNC, PLAIN = "eth_sendRawTransactionSync", "eth_sendRawTransaction"


def _chain(**answers: Any) -> TempoRpcChain:
    return TempoRpcChain(Node(**answers).rpc, chain_id=42431)


async def test_a_sending_returns_what_the_transaction_moved() -> None:
    node = Node(**{SYNC: _receipt(_log())})
    assert await TempoRpcChain(node.rpc, chain_id=42431).send(RAW) == PAID
    assert node.asked == [(SYNC, ["0x" + RAW.hex()])]


async def test_a_receipt_is_read_the_same_way() -> None:
    assert await _chain(eth_getTransactionReceipt=_receipt(_log())).receipt(TRANSACTION) == PAID
    assert await _chain(eth_getTransactionReceipt=None).receipt(TRANSACTION) is None
    failed = await _chain(eth_getTransactionReceipt=_receipt(status="0x0")).receipt(TRANSACTION)
    assert failed == TempoReceipt(transaction=TRANSACTION, succeeded=False, transfers=())


@pytest.mark.parametrize(
    "change",
    [
        {"topics": [WITH_MEMO, _word(SENDER), _word(RECIPIENT), HASH]},
        {"topics": [TRANSFER, _word(SENDER)]},
        {"topics": [TRANSFER, _word(SENDER), _word(RECIPIENT), HASH]},
        {"data": "0x"},
        {"data": "0x" + "00" * 64},
        {"transactionHash": HASH},
        {"removed": True},
        {"topics": []},
    ],
    ids=["memo", "two topics", "four topics", "no amount", "two words", "of another", "removed", "anonymous"],
)
async def test_what_is_no_transfer_of_this_transaction_moved_nothing(change: dict[str, Any]) -> None:
    read = await _chain(eth_getTransactionReceipt=_receipt(_log(**change))).receipt(TRANSACTION)
    assert read is not None
    assert read.transfers == ()


@pytest.mark.parametrize(
    "told",
    [
        Refusal(4, "The transaction was added to the mempool but wasn't processed in 2s"),
        Refusal(-32000, "already known"),
        Refusal(-32000, "AlreadyKnown"),
        Refusal(-32603, "known transaction: 0xab"),
        None,
    ],
    ids=["eip-7966", "geth", "nethermind", "parity", "null"],
)
async def test_a_transaction_that_waits_is_taken(told: object) -> None:
    assert await _chain(**{SYNC: told}).send(RAW) is None


@pytest.mark.parametrize("code", [-32003, -32000, -32603, -32005])
async def test_any_other_error_is_a_refusal_in_the_nodes_words(code: int) -> None:
    with pytest.raises(TempoRefused, match="insufficient fee token balance"):
        await _chain(**{SYNC: Refusal(code, "insufficient fee token balance: have 0, need 6")}).send(RAW)


async def test_a_node_without_the_method_is_sent_to_in_the_old_way() -> None:
    node = Node(**{SYNC: Refusal(-32601, "the method does not exist"), PLAIN: TRANSACTION})
    assert await TempoRpcChain(node.rpc, chain_id=42431).send(RAW) is None
    assert [method for method, _ in node.asked] == [SYNC, PLAIN]


@pytest.mark.parametrize(
    ("fault", "sent"),
    [
        (httpx2.ConnectError("no"), False),
        (httpx2.ConnectTimeout("no"), False),
        (httpx2.ReadTimeout("no"), True),
        (httpx2.RemoteProtocolError("no"), True),
        (httpx2.Response(502, text="Bad gateway"), True),
        (httpx2.Response(200, text='{"jsonrpc"'), True),
        ({"status": "0x1"}, True),
    ],
    ids=["refused", "no connection", "no answer", "cut", "gateway", "nonsense", "no receipt"],
)
async def test_a_lost_answer_is_told_from_a_lost_question(fault: object, sent: bool) -> None:  # noqa: FBT001
    with pytest.raises(TempoUnreachable) as lost:
        await _chain(**{SYNC: fault}).send(RAW)
    assert lost.value.sent is sent
    assert "secret" not in str(lost.value)


@pytest.mark.parametrize("fault", [httpx2.ReadTimeout("no"), Refusal(-32005, "limit exceeded")])
async def test_a_read_that_fails_raises(fault: Exception) -> None:
    chain = _chain(eth_getTransactionReceipt=fault, eth_getBlockByNumber=fault, eth_call=fault)
    with pytest.raises(TempoUnreachable):
        await chain.receipt(TRANSACTION)
    with pytest.raises(TempoUnreachable):
        await chain.now()
    assert await chain.balance(TOKEN, SENDER) is None


async def test_time_and_balance_are_the_newest_blocks() -> None:
    chain = _chain(eth_getBlockByNumber=BLOCK, eth_call="0x" + (7).to_bytes(32).hex())
    assert await chain.now() == int(BLOCK["timestamp"], 16)
    assert await chain.balance(TOKEN, SENDER) == 7
    assert await _chain(eth_call="0x").balance(TOKEN, SENDER) is None


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ({"eth_chainId": "0x1079"}, "node.example serves chain 4217, configured is 42431."),
        ({"eth_getCode": "0x"}, f"There is no token at {TOKEN} on chain 42431."),
        ({"eth_chainId": httpx2.ConnectError("no")}, "The node cannot be asked: node.example"),
        ({"eth_chainId": Refusal(-32601, "no")}, "node.example cannot serve payments: -32601"),
    ],
    ids=["chain", "token", "down", "no node"],
)
async def test_another_chain_or_token_stops_the_start(answers: dict[str, Any], told: str) -> None:
    chain = _chain(**({"eth_chainId": "0xa5bf", "eth_getCode": "0xef"} | answers))
    with pytest.raises(WrongTempoChain) as wrong:
        await chain.start(TOKEN)
    assert wrong.value.message.startswith(told)


async def test_the_right_chain_with_the_token_starts() -> None:
    chain = _chain(eth_chainId="0xa5bf", eth_getCode="0xef")
    await chain.start(TOKEN)
    await chain.stop()
    await chain.stop()
