from __future__ import annotations

import logging

import httpx2
import pytest
from eth_abi.abi import encode

from stablestudio.payments.evm.rpc import Block, EvmRpc, RpcError, RpcUnreachable

from .nodes import BLOCK, HASH, Node, Refusal

pytestmark = pytest.mark.anyio
REASON = "FiatTokenV2: invalid signature"
DATA = "0x08c379a0" + encode(["string"], [REASON]).hex()


async def test_a_block_is_asked_for_by_number_or_as_the_newest() -> None:
    node = Node(eth_getBlockByNumber=BLOCK)
    assert await node.rpc.block() == await node.rpc.block(255)
    assert node.parameters("eth_getBlockByNumber") == [["latest", False], ["0xff", False]]
    assert await node.rpc.block() == Block(
        number="0x64",
        hash=HASH,
        timestamp="0x6b009b99",
        baseFeePerGas="0xf4240",
    )


async def test_a_call_may_name_the_block_whose_state_it_wants() -> None:
    node = Node(eth_call="0x01")
    assert await node.rpc.call("0xto", b"\xaa", at=HASH, sender="0xme", gas=255) == b"\x01"
    await node.rpc.call("0xto", b"")
    assert node.parameters("eth_call") == [
        [{"to": "0xto", "data": "0xaa", "from": "0xme", "gas": "0xff"}, {"blockHash": HASH}],
        [{"to": "0xto", "data": "0x"}, "latest"],
    ]


async def test_counts_are_of_mined_or_of_all_transactions() -> None:
    node = Node(eth_getTransactionCount="0x7")
    assert await node.rpc.transaction_count("0xme", pending=True) == 7
    await node.rpc.transaction_count("0xme", pending=False)
    assert node.parameters("eth_getTransactionCount") == [["0xme", "pending"], ["0xme", "latest"]]


async def test_a_receipt_may_not_be_there_yet() -> None:
    assert await Node(eth_getTransactionReceipt=None).rpc.receipt(HASH) is None


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        (Refusal(3, f"execution reverted: {REASON}", DATA), REASON),
        (Refusal(3, "execution reverted", DATA), REASON),
        (Refusal(-32000, f"execution reverted: {REASON}"), REASON),
        (Refusal(-32015, "VM execution error. reverted", {"data": DATA}), REASON),
        (Refusal(3, "execution reverted", "0x"), "execution reverted"),
        (Refusal(3, "execution reverted", "0xzz"), "execution reverted"),
        (Refusal(3, "execution reverted", "0x4e487b71"), "execution reverted"),
        (Refusal(-32000, "out of gas"), "out of gas"),
    ],
)
async def test_a_revert_is_told_in_the_contracts_words(refusal: Refusal, reason: str) -> None:
    with pytest.raises(RpcError) as error:
        await Node(eth_call=refusal).rpc.call("0xto", b"")
    assert error.value.reverted
    assert error.value.reason == reason


@pytest.mark.parametrize("message", ["header not found", "limit exceeded", "missing trie node", "Resource not found"])
async def test_a_fault_of_the_node_is_no_revert(message: str) -> None:
    with pytest.raises(RpcError) as error:
        await Node(eth_call=Refusal(-32000, message)).rpc.call("0xto", b"")
    assert not error.value.reverted


async def test_an_error_in_json_counts_under_any_status() -> None:
    body = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32005, "message": "x" * 5000}}
    with pytest.raises(RpcError) as error:
        await Node(eth_chainId=httpx2.Response(429, json=body)).rpc.chain_id()
    assert (error.value.code, len(error.value.message)) == (-32005, 200)


@pytest.mark.parametrize(
    "answer",
    [
        httpx2.Response(502, text="<html>"),
        httpx2.Response(200, text="<html>"),
        httpx2.Response(200, json=[]),
        httpx2.Response(200, json={"id": 1}),
        httpx2.Response(500, json={"result": "0x1"}),
        httpx2.Response(200, json={"error": "no"}),
        None,
        7,
        "84532",
        "0xzz",
        {},
    ],
)
async def test_what_is_no_answer_counts_as_silence(answer: object) -> None:
    with pytest.raises(RpcUnreachable, match=r"node\.example") as error:
        await Node(eth_chainId=answer).rpc.chain_id()
    assert error.value.sent


@pytest.mark.parametrize(
    ("fault", "sent"),
    [
        (httpx2.ConnectError("https://node.example/v2/secret"), False),
        (httpx2.ConnectTimeout(""), False),
        (httpx2.PoolTimeout(""), False),
        (httpx2.InvalidURL("https://node.example/v2/secret"), False),
        (httpx2.ReadTimeout(""), True),
        (httpx2.ReadError(""), True),
        (httpx2.WriteError(""), True),
        (httpx2.RemoteProtocolError(""), True),
    ],
)
async def test_it_is_known_what_certainly_never_left(
    fault: Exception, *, sent: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def break_down(_: httpx2.Request) -> httpx2.Response:
        raise fault

    caplog.set_level(logging.DEBUG)
    http = httpx2.AsyncClient(transport=httpx2.MockTransport(break_down))
    with pytest.raises(RpcUnreachable) as error:
        await EvmRpc("https://node.example/v2/secret", http=http).send_raw_transaction(b"")
    assert error.value.sent is sent
    assert "secret" not in f"{error.value}{caplog.text}"


async def test_a_client_that_was_given_stays_open() -> None:
    node = Node(eth_chainId="0x1")
    await node.rpc.close()
    assert await node.rpc.chain_id() == 1
    own = EvmRpc("http://127.0.0.1:9")
    await own.close()
    with pytest.raises(RuntimeError):
        await own.chain_id()
