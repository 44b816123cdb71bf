"""Asking strangers' wallets: a few at a time, not for long, and not again those that lied; the rest is in tests/chain."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from stablestudio.payments.evm import contract_wallets
from stablestudio.payments.evm.contract_wallets import ContractWallets
from stablestudio.payments.evm.reverts import UNAVAILABLE
from stablestudio.payments.rail import Rejected
from stablestudio.protocols.contract_wallets import Counterfactual, wrap
from stablestudio.protocols.eip3009_calls import state_call
from tests.doubles import USDC

from .nodes import Node, Refusal
from .test_evm_facts import MADE

pytestmark = pytest.mark.anyio
YES, NO = "0x1626ba7e" + 56 * "0", "0x" + 64 * "0"
WALLET, FACTORY = MADE.sender.lower(), "0x" + "fa" * 20
WRAPPED = wrap(Counterfactual(factory=FACTORY, call=b"\x01", signature=b"owner"))
USED = "0x" + 63 * "0" + "1"


def _node(*, wallet: Any = YES, token: Any = "0x", state: str = NO, **answers: Any) -> Node:
    told = {WALLET: wallet, USDC.contract.lower(): token}

    def call(parameters: list[Any]) -> Any:
        asked = parameters[0]
        if asked["data"] == "0x" + state_call(MADE).hex():
            return state
        answer = told[asked["to"].lower()]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return Node(**({"eth_getCode": "0x60", "eth_call": call} | answers))


def _wallets(node: Node, **options: Any) -> ContractWallets:
    return ContractWallets(node.rpc, domain=USDC, **options)


async def _judge(node: Node, signature: bytes = b"owner") -> Rejected | None:
    return await _wallets(node).judge(MADE, signature)


def _reason(refused: Rejected | None) -> str:
    assert refused is not None
    return refused.reason


async def test_a_wallet_is_asked_with_a_limit_and_then_its_token() -> None:
    node = _node()
    assert await _judge(node) is None
    assert [method for method, _ in node.asked] == ["eth_getCode", "eth_call", "eth_call"]
    assert [(call["to"].lower(), call["gas"]) for call, _ in node.parameters("eth_call")] == [
        (WALLET, hex(300_000)),
        (USDC.contract.lower(), hex(300_000)),
    ]


@pytest.mark.parametrize(
    ("wallet", "reason"),
    [
        (NO, "contract_wallet_refused"),
        ("0x", "contract_wallet_refused"),
        (Refusal(3, "execution reverted"), "contract_wallet_refused"),
        (Refusal(-32000, "out of gas"), "contract_wallet_refused"),
        (Refusal(-32005, "limit exceeded"), "settlement_unavailable"),
    ],
)
async def test_anything_but_yes_is_no(wallet: Any, reason: str) -> None:
    assert _reason(await _judge(_node(wallet=wallet))) == reason


@pytest.mark.parametrize("fault", [Refusal(-32005, "limit exceeded"), httpx2.ReadTimeout(""), httpx2.Response(502)])
@pytest.mark.parametrize("method", ["eth_getCode", "eth_call"])
async def test_a_node_at_fault_is_neither_yes_nor_no(fault: Any, method: str) -> None:
    assert await _judge(_node(**{method: fault})) == UNAVAILABLE


async def test_a_refusal_of_the_token_is_none_where_the_money_may_have_moved() -> None:
    expired = Refusal(3, "execution reverted: FiatTokenV2: authorization is expired")
    assert _reason(await _judge(_node(token=expired))) == "payment_expired"
    assert await _judge(_node(token=expired, state=USED)) is None


async def test_a_factory_not_on_the_list_costs_one_question() -> None:
    node = _node(eth_getCode="0x")
    assert _reason(await _judge(node, WRAPPED)) == "wallet_factory_not_allowed"
    assert [method for method, _ in node.asked] == ["eth_getCode"]


async def test_a_rehearsal_has_no_address_and_a_limit() -> None:
    node = _node(eth_getCode="0x", eth_call=[YES, "0x"])
    assert await _wallets(node, factories=[FACTORY]).judge(MADE, WRAPPED) is None
    calls = [call for call, _ in node.parameters("eth_call")]
    assert [sorted(call) for call in calls] == 2 * [["data", "gas"]]
    assert {call["gas"] for call in calls} == {hex(1_500_000)}


async def test_few_wallets_are_asked_at_a_time() -> None:
    inside, most = 0, 0

    async def slowly(_: list[Any]) -> str:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.01)
        inside -= 1
        return "0x60"

    wallets = _wallets(_node(eth_getCode=slowly))
    told = await asyncio.gather(*(wallets.judge(MADE, b"owner") for _ in range(40)))
    assert told == 40 * [None]
    assert most == contract_wallets._AT_ONCE


async def test_who_cannot_be_asked_in_time_is_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract_wallets, "_PATIENCE", 0.05)

    async def hang(_: list[Any]) -> str:
        await asyncio.sleep(60)
        return "0x60"

    wallets = _wallets(_node(eth_getCode=hang))
    told = await asyncio.gather(*(wallets.judge(MADE, b"owner") for _ in range(20)))
    assert told == 20 * [UNAVAILABLE]


async def test_distrust_ends_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract_wallets, "_MOST_DISTRUSTED", 3)
    monkeypatch.setattr(contract_wallets, "_DISTRUST_SECONDS", 0.1)
    node = _node()
    wallets = _wallets(node)
    for wallet in (MADE.sender.upper().replace("X", "x"), *(f"0x{number:040x}" for number in range(5))):
        wallets.distrust(wallet)
    assert len(wallets._distrusted) == 3
    assert _reason(await wallets.judge(MADE, b"owner")) == "contract_wallet_refused"
    assert node.asked == []
    await asyncio.sleep(0.15)
    assert await wallets.judge(MADE, b"owner") is None
    wallets.distrust("0x" + "11" * 20)
    assert len(wallets._distrusted) == 1
