"""Nonces, fees and refusals of the gas key, on a node that answers from a table."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from hexbytes import HexBytes

from stablestudio.payments.evm.gas import GasAccount, GasLimits, Holds, LocalLease, NotSent, Sent
from stablestudio.payments.evm.rpc import RpcError, RpcUnreachable
from stablestudio.protocols.evm import EvmKey
from tests.doubles import USDC

from .nodes import Node, Refusal

pytestmark = pytest.mark.anyio
KEY = EvmKey.from_hex("0x" + "9a" * 32)
BASE_FEE, TIP, ESTIMATE = 1_000_000, 1_000, 90_000
OK = "0x" + "aa" * 32


def _node(**answers: Any) -> Node:
    usual = {
        "eth_estimateGas": hex(ESTIMATE),
        "eth_maxPriorityFeePerGas": hex(TIP),
        "eth_getTransactionCount": "0x5",
        "eth_sendRawTransaction": OK,
    }
    return Node(**(usual | answers))


def _account(node: Node, **options: Any) -> GasAccount:
    return GasAccount(node.rpc, KEY, chain_id=USDC.chain_id, **options)


async def _send(account: GasAccount, *, base_fee: int = BASE_FEE, signed: list[Sent] | None = None) -> Sent:
    heard = [] if signed is None else signed
    return await account.send(USDC.contract, b"\xe3\xee", base_fee=base_fee, on_signed=heard.append)


def _broadcast(node: Node) -> list[dict[str, Any]]:
    raws = [HexBytes(raw) for [raw] in node.parameters("eth_sendRawTransaction")]
    assert all(Account.recover_transaction(raw) == KEY.address for raw in raws)
    return [TypedTransaction.from_bytes(raw).as_dict() for raw in raws]


def _counts(mined: int, pending: int) -> dict[str, Any]:
    return {"eth_getTransactionCount": lambda asked: hex(pending if asked[1] == "pending" else mined)}


async def test_a_transaction_is_priced_by_eip_1559() -> None:
    node = _node()
    sent = await _send(_account(node))
    [made] = _broadcast(node)
    assert (made["nonce"], made["chainId"], made["gas"]) == (5, USDC.chain_id, ESTIMATE * 5 // 4)
    assert (made["maxFeePerGas"], made["maxPriorityFeePerGas"]) == (2 * BASE_FEE + TIP, TIP)
    assert (made["to"], made["data"], made["value"]) == (HexBytes(USDC.contract), HexBytes("0xe3ee"), 0)
    assert (sent.nonce, sent.max_fee, sent.priority_fee) == (5, 2 * BASE_FEE + TIP, TIP)
    assert node.parameters("eth_sendRawTransaction") == [["0x" + sent.signed.raw.hex()]]


async def test_advice_on_tips_is_followed_up_to_a_limit() -> None:
    node = _node(eth_maxPriorityFeePerGas=hex(10**12))
    assert (await _send(_account(node, limits=GasLimits(max_tip=7)))).priority_fee == 7


@pytest.mark.parametrize(
    ("cost", "fee"), [(3_000_000, 2_001_000), (2_001_000, 2_001_000), (1_500_000, 1_500_000), (1_001_000, 1_001_000)]
)
async def test_the_cap_bounds_gas_times_fee(cost: int, fee: int) -> None:
    gas = ESTIMATE * 5 // 4
    node = _node()
    sent = await _send(_account(node, limits=GasLimits(max_cost=cost * gas)))
    assert sent.max_fee == fee
    with pytest.raises(NotSent, match="gas_price_above_cap"):
        await _send(_account(node, limits=GasLimits(max_cost=1_001_000 * gas - 1)))
    assert node.count("eth_sendRawTransaction") == 1


@pytest.mark.parametrize(("estimate", "gas"), [(80_000, 100_000), (90_000, 100_000), (100_000, 100_000)])
async def test_the_margin_ends_at_the_gas_limit(estimate: int, gas: int) -> None:
    node = _node(eth_estimateGas=hex(estimate))
    await _send(_account(node, limits=GasLimits(max_gas=100_000)))
    assert _broadcast(node)[0]["gas"] == gas


async def test_an_estimate_above_the_limit_is_not_sent() -> None:
    node = _node(eth_estimateGas=hex(100_001))
    with pytest.raises(NotSent, match="gas_limit_exceeded"):
        await _send(_account(node, limits=GasLimits(max_gas=100_000)))
    assert node.count("eth_sendRawTransaction") == 0


async def test_nonces_go_on_though_the_node_lags() -> None:
    node = _node()
    account = _account(node)
    assert [(await _send(account)).nonce for _ in range(3)] == [5, 6, 7]


async def test_a_node_that_knows_of_more_is_believed() -> None:
    node = _node(**_counts(5, 9))
    assert (await _send(_account(node))).nonce == 9


@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        (Refusal(-32000, "txpool is full"), NotSent),
        (Refusal(-32000, "insufficient funds for gas * price + value"), NotSent),
        (httpx2.Response(200, text="<html>"), None),
        (httpx2.ReadTimeout(""), None),
        (httpx2.ConnectError(""), RpcUnreachable),
    ],
)
async def test_a_broadcast_that_failed_gives_its_nonce_back(fault: Any, raised: type[Exception] | None) -> None:
    node = _node(eth_sendRawTransaction=[fault, OK])
    account = _account(node)
    if raised is None:
        await _send(account)
    else:
        with pytest.raises(raised):
            await _send(account)
    assert (await _send(account)).nonce == 5


async def test_a_broadcast_without_answer_is_made_once_more_with_the_same_bytes() -> None:
    node = _node(eth_sendRawTransaction=[httpx2.ReadTimeout(""), Refusal(-32000, "already known")])
    sent = await _send(_account(node))
    assert node.parameters("eth_sendRawTransaction") == 2 * [["0x" + sent.signed.raw.hex()]]


@pytest.mark.parametrize(
    "message", ["already known", "AlreadyKnown", "transaction already imported", "known transaction: ab"]
)
async def test_a_node_that_has_it_already_has_taken_it(message: str) -> None:
    assert (await _send(_account(_node(eth_sendRawTransaction=Refusal(-32000, message))))).nonce == 5


@pytest.mark.parametrize(
    "message", ["nonce too low: next nonce 6", "replacement transaction underpriced", "Nonce too low"]
)
async def test_a_nonce_that_another_took_is_asked_for_anew(message: str) -> None:
    node = _node(
        eth_sendRawTransaction=[Refusal(-32000, message), OK], eth_getTransactionCount=["0x5", "0x5", "0x6", "0x6"]
    )
    heard: list[Sent] = []
    sent = await _send(_account(node), signed=heard)
    assert [each.nonce for each in heard] == [5, 6]
    assert heard[-1] == sent


async def test_a_nonce_that_is_always_taken_is_given_up() -> None:
    node = _node(eth_sendRawTransaction=Refusal(-32000, "nonce too low"))
    with pytest.raises(NotSent, match="nonce_contended"):
        await _send(_account(node))
    assert node.count("eth_sendRawTransaction") == 3


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("insufficient funds for gas * price + value: balance 0", "gas_key_unfunded"),
        ("max fee per gas less than block base fee", "broadcast_refused"),
        ("rate limit", "broadcast_refused"),
    ],
)
async def test_a_refusal_has_a_word_and_a_log_line(message: str, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(NotSent, match=reason):
        await _send(_account(_node(eth_sendRawTransaction=Refusal(-32000, message))))
    assert [record.message for record in caplog.records] == [reason]


async def test_it_is_heard_of_before_it_leaves() -> None:
    heard: list[Sent] = []
    node = _node(eth_sendRawTransaction=lambda _: heard[0].hash)
    assert heard == [await _send(_account(node), signed=heard)]


async def test_the_first_in_the_queue_makes_place_if_its_fee_fell_behind() -> None:
    # Mined and pending, for each of three transactions.
    node = _node(eth_getTransactionCount=["0x5", "0x5", "0x5", "0x6", "0x5", "0x7"])
    account = _account(node)
    stuck = await _send(account)
    assert (await _send(account, base_fee=stuck.max_fee)).nonce == 6, "it can still be mined"
    raised = await _send(account, base_fee=stuck.max_fee + 1)
    assert raised.nonce == 5
    assert raised.priority_fee * 10 >= stuck.priority_fee * 11
    assert raised.max_fee * 10 >= stuck.max_fee * 11


async def test_a_doubt_forgets_what_the_node_does_not_know() -> None:
    account = _account(_node())
    assert [(await _send(account)).nonce for _ in range(2)] == [5, 6]
    account.doubt()
    assert (await _send(account)).nonce == 5


async def test_a_nonce_is_spent_once_it_is_mined_by_whatever() -> None:
    account = _account(_node(**_counts(6, 9)))
    assert [await account.is_spent(nonce) for nonce in (5, 6, 8)] == [True, False, False]


async def test_one_writer_at_a_time_from_nonce_to_broadcast() -> None:
    inside = 0

    class Watched:
        def __init__(self) -> None:
            self._inner = LocalLease()

        @asynccontextmanager
        async def hold(self) -> AsyncIterator[Holds]:
            nonlocal inside
            async with self._inner.hold() as holds:
                inside += 1
                assert inside == 1
                yield holds
                inside -= 1

    node = _node()
    account = _account(node, lease=Watched())
    sent = await asyncio.gather(*(_send(account) for _ in range(10)))
    assert sorted(each.nonce for each in sent) == list(range(5, 15))


async def test_a_writer_that_lost_its_lease_sends_nothing_under_it() -> None:
    class Lost:
        @asynccontextmanager
        async def hold(self) -> AsyncIterator[Holds]:
            yield lambda: False

    node, heard = _node(), list[Sent]()
    with pytest.raises(NotSent, match="gas_key_lost"):
        await _send(_account(node, lease=Lost()), signed=heard)
    assert (node.count("eth_sendRawTransaction"), heard) == (0, [])


async def test_a_cancelled_broadcast_leaves_the_lease_and_the_nonce() -> None:
    async def hang(_: list[Any]) -> None:
        await asyncio.sleep(60)

    account = _account(_node(eth_sendRawTransaction=[OK, hang, OK]))
    await _send(account)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(_send(account), 0.1)
    assert (await _send(account)).nonce == 5, "the node is asked again, since nobody knows what left"


async def test_faults_before_the_broadcast_are_the_callers() -> None:
    for method in ("eth_estimateGas", "eth_maxPriorityFeePerGas", "eth_getTransactionCount"):
        node = _node(**{method: Refusal(-32000, "limit exceeded")})
        with pytest.raises(RpcError):
            await _send(_account(node))
        assert node.count("eth_sendRawTransaction") == 0


def test_the_key_never_shows_itself() -> None:
    account = _account(_node())
    assert account.address == KEY.address
    assert KEY.hex()[2:] not in repr(vars(account))
