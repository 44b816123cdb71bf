"""What is concluded from a node's answers; the same on real software is in tests/chain."""

from __future__ import annotations

from typing import Any

import pytest

from stablestudio.payments.evm.facts import TokenFacts, WrongChain, confirmations_by
from stablestudio.payments.evm.reverts import rejection_of
from stablestudio.payments.evm.rpc import Receipt, RpcUnreachable
from stablestudio.payments.rail import Outcome, Rejected, Settled, Unknown
from stablestudio.protocols import eip3009
from stablestudio.protocols.eip3009 import Authorization
from stablestudio.protocols.eip3009_calls import (
    AUTHORIZATION_CANCELED,
    AUTHORIZATION_USED,
    TRANSFER,
    address_word,
    state_call,
)
from tests.doubles import BUYER, NOW_MS, PAY_TO, USDC

from .nodes import BLOCK, HASH, Node, Refusal

pytestmark = pytest.mark.anyio
NOW = NOW_MS // 1000
MADE = Authorization(
    sender=BUYER.address, recipient=PAY_TO, value=45_000, valid_after=0, valid_before=NOW + 300, nonce=b"\x07" * 32
)
NONCE = "0x" + "07" * 32
OURS, OTHER_NONCE = "0x" + "0a" * 32, "0x" + "08" * 32
YES, NO = "0x" + "1".zfill(64), "0x" + "0" * 64
Event = dict[str, Any]


def _topic(address: str) -> str:
    return "0x" + address_word(address).hex()


def _event(index: int, topics: list[str], *, data: str = "0x", address: str = USDC.contract.lower()) -> Event:
    return {"address": address, "topics": topics, "data": data, "logIndex": hex(index), "transactionHash": OURS}


def used(index: int, *, nonce: str = NONCE) -> Event:
    return _event(index, [AUTHORIZATION_USED, _topic(BUYER.address), nonce])


def moved(index: int, *, to: str = PAY_TO, value: int = 45_000, sender: str = BUYER.address, **more: str) -> Event:
    return _event(index, [TRANSFER, _topic(sender), _topic(to)], data=f"0x{value:064x}", **more)


def receipt(*logs: Event, block: int = 100) -> dict[str, Any]:
    return {"status": "0x1", "blockNumber": hex(block), "blockHash": HASH, "logs": list(logs)}


def facts_on(node: Node, **options: Any) -> TokenFacts:
    return TokenFacts(node.rpc, domain=USDC, **options)


def _judge(*logs: Event) -> Outcome:
    return facts_on(Node()).judge(MADE, Receipt.model_validate(receipt(*logs)), OURS, height=100)


SETTLED = Settled(transaction=OURS)
STRANGE = "0x" + "77" * 20


@pytest.mark.parametrize(
    "logs",
    [
        (used(0), moved(1)),
        (moved(1), used(0)),
        (used(3), moved(9)),
        (moved(0, to=STRANGE), used(1), moved(2), moved(3, to=STRANGE)),
        (used(0, nonce=OTHER_NONCE), moved(1, to=STRANGE), used(2), moved(3)),
        (moved(0, to=STRANGE, address=STRANGE), used(1), moved(2)),
    ],
)
def test_the_transfer_after_its_own_event_is_the_payment(logs: tuple[Event, ...]) -> None:
    assert _judge(*logs) == SETTLED


@pytest.mark.parametrize(
    "logs",
    [
        (used(0), moved(1, to=STRANGE)),
        (used(0), moved(1, value=44_999)),
        (used(0), moved(1, value=45_001)),
        (used(0), moved(1, to=STRANGE), used(2, nonce=OTHER_NONCE), moved(3)),
        (used(0, nonce=OTHER_NONCE), moved(1), used(2), moved(3, to=STRANGE)),
        (_event(0, [AUTHORIZATION_CANCELED, _topic(BUYER.address), NONCE]),),
    ],
)
def test_a_transfer_of_something_else_is_no_payment(logs: tuple[Event, ...]) -> None:
    outcome = _judge(*logs)
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "nonce_already_used"


@pytest.mark.parametrize(
    "logs",
    [
        (),
        (moved(0),),
        (used(0),),
        (used(0, nonce=OTHER_NONCE), moved(1)),
        (used(0), moved(1, sender=STRANGE)),
        (used(0), used(1, nonce=OTHER_NONCE), moved(2)),
        (used(0), _event(1, [TRANSFER, _topic(BUYER.address)], data=_topic(PAY_TO) + f"{45_000:064x}")),
        (used(0) | {"address": STRANGE}, moved(1)),
        (used(0), moved(1, address=STRANGE)),
        (_event(0, [AUTHORIZATION_USED, _topic(STRANGE), NONCE]), moved(1)),
        (_event(0, []), moved(1)),
    ],
)
def test_events_that_are_not_understood_are_unknown(logs: tuple[Event, ...]) -> None:
    outcome = _judge(*logs)
    assert isinstance(outcome, Unknown)
    assert OURS in outcome.reason


@pytest.mark.parametrize(("height", "settled"), [(99, False), (100, False), (101, False), (102, True), (150, True)])
def test_a_payment_counts_under_as_many_blocks_as_its_amount_asks(height: int, settled: bool) -> None:  # noqa: FBT001
    facts = facts_on(Node(), confirmations=lambda amount: {45_000: 3}[amount])
    outcome = facts.judge(MADE, Receipt.model_validate(receipt(used(0), moved(1))), OURS, height=height)
    assert outcome == (SETTLED if settled else Unknown(reason=f"awaiting_confirmations:{OURS}"))


def test_a_foreign_transfer_too_becomes_a_fact_only_under_its_blocks() -> None:
    facts = facts_on(Node(), confirmations=lambda _: 2)
    shallow = Receipt.model_validate(receipt(used(0), moved(1, to=STRANGE)))
    assert isinstance(facts.judge(MADE, shallow, OURS, height=100), Unknown)


@pytest.mark.parametrize(
    ("amount", "blocks"), [(0, 1), (999_999, 1), (1_000_000, 3), (9_999_999, 3), (10_000_000, 12), (2**256, 12)]
)
def test_dollars_ask_for_more_blocks_than_cents(amount: int, blocks: int) -> None:
    assert confirmations_by(((1_000_000, 3), (10_000_000, 12)))(amount) == blocks
    assert confirmations_by(())(amount) == 1


async def test_state_and_head_are_of_one_block() -> None:
    node = Node(eth_getBlockByNumber=BLOCK, eth_call=NO)
    assert await facts_on(node).find(MADE) == Unknown(reason="not_seen_on_chain")
    call = {"to": USDC.contract.lower(), "data": "0x" + state_call(MADE).hex()}
    assert node.parameters("eth_call") == [[call, {"blockHash": HASH}]]


@pytest.mark.parametrize(("after", "over"), [(0, False), (59, False), (60, True), (10**6, True)])
async def test_an_unused_authorization_is_over_a_minute_after_its_end_by_the_chains_clock(
    after: int,
    over: bool,  # noqa: FBT001
) -> None:
    head = BLOCK | {"timestamp": hex(MADE.valid_before + after)}
    outcome = await facts_on(Node(eth_getBlockByNumber=head, eth_call=NO)).find(MADE)
    assert isinstance(outcome, Rejected if over else Unknown)


@pytest.mark.parametrize("answer", ["0x", "0x01", Refusal(3, "execution reverted"), Refusal(-32000, "not found"), None])
async def test_a_state_that_is_not_told_is_never_taken_for_unused(answer: object) -> None:
    head = BLOCK | {"timestamp": hex(2**40)}
    node = Node(eth_getBlockByNumber=head, eth_call=answer)
    assert await facts_on(node).find(MADE) == Unknown(reason="chain_not_readable")


@pytest.mark.parametrize(
    "missing",
    [{"eth_getLogs": [[]]}, {"eth_getTransactionReceipt": None}, {"eth_getLogs": [[used(0) | {"removed": True}]]}],
)
async def test_a_used_nonce_without_its_events_is_unknown_even_when_it_is_over(missing: dict[str, Any]) -> None:
    answers: dict[str, Any] = {
        "eth_getBlockByNumber": BLOCK | {"timestamp": hex(2**40)},
        "eth_call": YES,
        "eth_getLogs": [[used(0)]],
        "eth_getTransactionReceipt": receipt(used(0), moved(1)),
    }
    assert await facts_on(Node(**answers)).find(MADE) == SETTLED
    assert await facts_on(Node(**(answers | missing))).find(MADE) == Unknown(reason="used_without_trace")


async def test_logs_are_asked_for_in_windows_from_the_newest_down() -> None:
    node = Node(eth_getBlockByNumber=BLOCK, eth_call=YES, eth_getLogs=[[]])
    await facts_on(node, log_window=30, lookback=70).find(MADE)
    ranges = [(int(each["fromBlock"], 16), int(each["toBlock"], 16)) for [each] in node.parameters("eth_getLogs")]
    assert ranges == [(71, 100), (41, 70), (30, 40)]
    [wanted] = node.parameters("eth_getLogs")[0]
    assert wanted["address"] == USDC.contract.lower()
    assert wanted["topics"] == [[AUTHORIZATION_USED, AUTHORIZATION_CANCELED], _topic(BUYER.address), NONCE]


async def test_an_old_use_is_looked_for_before_its_end_first() -> None:
    """Blocks of ten seconds, the 30th at the end of the validity."""

    def block(parameters: list[Any]) -> dict[str, Any]:
        number = 100 if parameters[0] == "latest" else int(parameters[0], 16)
        return BLOCK | {"number": hex(number), "timestamp": hex(MADE.valid_before + 10 * (number - 30))}

    node = Node(eth_getBlockByNumber=block, eth_call=YES, eth_getLogs=[[]])
    await facts_on(node, log_window=20, lookback=60).find(MADE)
    ranges = [(int(each["fromBlock"], 16), int(each["toBlock"], 16)) for [each] in node.parameters("eth_getLogs")]
    assert ranges == [(11, 30), (0, 10), (81, 100), (61, 80), (41, 60), (40, 40)]
    assert node.count("eth_getBlockByNumber") <= 9


@pytest.mark.parametrize(
    ("answer", "told"), [("0x" + "f" * 64, 2**256 - 1), (NO, 0), ("0x", None), (Refusal(3, "no"), None)]
)
async def test_a_balance_is_a_number_or_not_told(answer: object, told: int | None) -> None:
    assert await facts_on(Node(eth_call=answer)).balance(BUYER.address) == told


def _token(**answers: Any) -> Node:
    usual = {
        "eth_chainId": hex(USDC.chain_id),
        "eth_getCode": "0xfe",
        "eth_getBlockByNumber": BLOCK,
        "eth_call": [NO, "0x" + eip3009.separator(USDC).hex()],
    }
    return Node(**(usual | answers))


def _text(text: str) -> str:
    return f"0x{32:064x}{len(text):064x}" + text.encode().hex().ljust(64, "0")


async def test_a_token_without_a_domain_separator_is_known_by_name_and_version() -> None:
    await facts_on(_token()).verify_network()
    silent = Refusal(3, "execution reverted")
    await facts_on(_token(eth_call=[NO, silent, _text("USDC"), _text("2")])).verify_network()
    for name, version in (("USDC", "1"), ("USD Coin", "2"), ("USDC", "")):
        with pytest.raises(WrongChain):
            await facts_on(_token(eth_call=[NO, silent, _text(name), _text(version)])).verify_network()
    with pytest.raises(WrongChain):
        await facts_on(_token(eth_call=[NO, silent])).verify_network()


async def test_the_same_name_under_another_separator_is_another_domain() -> None:
    """Some bridged tokens sign with a salt instead of the chain id."""
    with pytest.raises(WrongChain):
        await facts_on(_token(eth_call=[NO, "0x" + "ab" * 32, _text("USDC"), _text("2")])).verify_network()


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ({"eth_chainId": "0x2105"}, "chain 8453"),
        ({"eth_getCode": "0x"}, "no contract"),
        ({"eth_getBlockByNumber": BLOCK | {"baseFeePerGas": None}}, "no base fee"),
        ({"eth_call": Refusal(3, "execution reverted")}, "no EIP-3009 token"),
        ({"eth_getBlockByNumber": Refusal(-32601, "method not found")}, "method not found"),
        ({"eth_call": "0x"}, "does not tell"),
    ],
)
async def test_what_is_wrong_with_a_node_is_said(answers: dict[str, Any], told: str) -> None:
    with pytest.raises(WrongChain, match=told):
        await facts_on(_token(**answers)).verify_network()


@pytest.mark.parametrize(
    ("revert", "reason"),
    [
        ("FiatTokenV2: authorization is not yet valid", "payment_not_yet_valid"),
        ("FiatTokenV2: authorization is expired", "payment_expired"),
        ("FiatTokenV2: authorization is used or canceled", "nonce_already_used"),
        ("FiatTokenV2: invalid signature", "invalid_signature"),
        ("ECRecover: invalid signature 's' value", "invalid_signature"),
        ("ECRecover: invalid signature length", "invalid_signature"),
        ("ERC20: transfer amount exceeds balance", "insufficient_funds"),
        ("Blacklistable: account is blacklisted", "payment_refused"),
        ("Pausable: paused", "simulation_failed"),
        ("insufficient funds for gas * price + value", "simulation_failed"),
        ("", "simulation_failed"),
    ],
)
def test_revert_strings_become_our_reasons(revert: str, reason: str) -> None:
    assert rejection_of(revert).reason == reason


async def test_reads_raise_for_those_who_decide_themselves() -> None:
    with pytest.raises(RpcUnreachable):
        await facts_on(Node(eth_call="0x")).is_used(MADE, at=HASH)
