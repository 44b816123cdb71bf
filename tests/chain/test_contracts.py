"""What only a real chain has: contract wallets, wallets that burn gas, tokens that lie, nodes of another chain."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from stablestudio.payments.evm.facts import TokenFacts, WrongChain
from stablestudio.payments.evm.gas import GasAccount, GasLimits
from stablestudio.payments.evm.rpc import EvmRpc
from stablestudio.payments.rail import Outcome, Rejected, Settled, Unknown
from stablestudio.protocols import eip3009
from stablestudio.protocols.eip3009 import TokenDomain
from tests.chain.anvil import GAS_KEY, NOW, Anvil
from tests.chain.signing import FUNDS, GOOD, PRICE, Call, nonce_of, signed
from tests.chain.vectors import THIEF
from tests.chain.worlds import chain_on
from tests.doubles import BUYER, PAY_TO, USDC

pytestmark = [pytest.mark.anyio, pytest.mark.npm]
WALLET = "0x" + "c0" * 20


def _reason(outcome: Outcome) -> str:
    assert isinstance(outcome, Rejected), outcome
    return outcome.reason


def _by_wallet(*, tail: bytes = b"", **more: Any) -> Call:
    """Sign with the owner's key for a contract wallet; a tail makes it a signature that no plain account has."""
    made, signature = signed(sender=WALLET, **more)
    return made, signature + tail


@pytest.mark.parametrize("tail", [b"", b"\x01", bytes(32), bytes(100)], ids=len)
async def test_a_contract_wallet_pays_by_either_overload(anvil: Anvil, rpc: EvmRpc, tail: bytes) -> None:
    anvil.put_wallet(WALLET, owner=BUYER.address)
    anvil.fund(WALLET, FUNDS)
    chain = chain_on(rpc)
    settled = await chain.submit(*_by_wallet(tail=tail))
    assert isinstance(settled, Settled)
    assert await chain.find(_by_wallet()[0]) == settled
    assert anvil.balance(PAY_TO) == PRICE


async def test_a_contract_wallet_refuses_a_stranger(anvil: Anvil, rpc: EvmRpc) -> None:
    anvil.put_wallet(WALLET, owner=BUYER.address)
    anvil.fund(WALLET, FUNDS)
    for tail in (b"", bytes(32)):
        assert _reason(await chain_on(rpc).submit(*_by_wallet(tail=tail, key=THIEF))) == "invalid_signature"
    assert (anvil.transfers(), anvil.failures()) == ([], 0)


async def test_a_wallet_that_burns_gas_costs_us_none(anvil: Anvil, rpc: EvmRpc) -> None:
    anvil.put("EndlessWallet", WALLET)
    anvil.fund(WALLET, FUNDS)
    before = anvil.ask("eth_getBalance", GAS_KEY.address, "latest")
    assert _reason(await chain_on(rpc).submit(*_by_wallet(tail=bytes(1)))) in ("invalid_signature", "simulation_failed")
    assert anvil.ask("eth_getBalance", GAS_KEY.address, "latest") == before


async def test_a_transfer_dearer_than_the_gas_limit_is_not_sent(anvil: Anvil, rpc: EvmRpc) -> None:
    anvil.fund(BUYER.address, FUNDS)
    account = GasAccount(rpc, GAS_KEY, chain_id=USDC.chain_id, limits=GasLimits(max_gas=70_000))
    assert _reason(await chain_on(rpc, gas=account).submit(*signed())) == "simulation_failed"
    assert anvil.failures() == 0


async def test_a_token_that_says_nothing_has_paid_nothing(anvil: Anvil, rpc: EvmRpc) -> None:
    """Some tokens do not revert on a spent nonce: success without the events is no payment (facts: attack 11)."""
    anvil.put("SilentToken", USDC.contract)
    chain = chain_on(rpc, patience=0.5)
    outcome = await chain.submit(*signed())
    assert isinstance(outcome, Unknown)
    assert isinstance(await chain.find(GOOD), Unknown)


async def test_a_use_long_ago_is_found_by_the_time_that_it_was_valid_in(anvil: Anvil, rpc: EvmRpc) -> None:
    anvil.fund(BUYER.address, FUNDS)
    anvil.mine(7)
    theirs = anvil.transfer(*signed())
    anvil.move_to(NOW + 400)
    anvil.mine(200)
    facts = TokenFacts(rpc, domain=USDC, log_window=5, lookback=20)
    assert await facts.find(GOOD) == Settled(transaction=theirs)


async def test_a_late_cancellation_is_found_after_a_use_was_looked_for(anvil: Anvil, rpc: EvmRpc) -> None:
    anvil.mine(30)
    anvil.move_to(NOW + 400)
    anvil.mine(30)
    anvil.cancel(BUYER, nonce_of(1))
    facts = TokenFacts(rpc, domain=USDC, log_window=5, lookback=20)
    assert _reason(await facts.find(GOOD)) == "nonce_already_used"


async def test_a_use_out_of_sight_is_unknown_and_not_rejected(anvil: Anvil, rpc: EvmRpc) -> None:
    anvil.fund(BUYER.address, FUNDS)
    anvil.transfer(*signed())
    anvil.mine(40)
    facts = TokenFacts(rpc, domain=USDC, log_window=5, lookback=20)
    assert await facts.find(GOOD) == Unknown(reason="used_without_trace")


async def test_balances_are_read_from_the_chain(anvil: Anvil, rpc: EvmRpc) -> None:
    anvil.fund(BUYER.address, 2**200)
    assert await chain_on(rpc).balance(BUYER.address) == 2**200
    assert await chain_on(rpc).balance(THIEF.address.lower()) == 0


async def test_the_configured_token_on_the_configured_chain_is_accepted(anvil: Anvil, rpc: EvmRpc) -> None:
    await chain_on(rpc).start()


@pytest.mark.parametrize(
    ("domain", "told"),
    [
        (replace(USDC, chain_id=8453), "127.0.0.1 serves chain 84532, configured is 8453."),
        (replace(USDC, contract="0x" + "12" * 20), f"There is no contract at 0x{'12' * 20} on chain 84532."),
        (replace(USDC, contract=WALLET), f"{WALLET} is no EIP-3009 token"),
        (replace(USDC, name="USD Coin"), f"{USDC.contract} signs as 'USDC' version '2', configured are 'USD Coin'"),
        (replace(USDC, version="1"), f"{USDC.contract} signs as 'USDC' version '2', configured are 'USDC' and '1'."),
    ],
    ids=["chain", "no contract", "no token", "name", "version"],
)
async def test_another_chain_or_token_stops_the_start(
    anvil: Anvil, rpc: EvmRpc, domain: TokenDomain, told: str
) -> None:
    anvil.put_wallet(WALLET, owner=BUYER.address)
    with pytest.raises(WrongChain) as wrong:
        await TokenFacts(rpc, domain=domain).verify_network()
    assert wrong.value.message.startswith(told)


async def test_a_node_that_is_down_stops_the_start() -> None:
    node = EvmRpc("http://key:secret@127.0.0.1:9/v2/secret", timeout=0.2)
    with pytest.raises(WrongChain, match="cannot be asked") as wrong:
        await TokenFacts(node, domain=USDC).verify_network()
    assert "secret" not in wrong.value.message
    await node.close()


async def test_two_tokens_on_one_chain_share_the_gas_key(anvil: Anvil, rpc: EvmRpc) -> None:
    other = replace(USDC, contract="0x" + "70" * 20, name="Euro")
    anvil.put_token(other)
    anvil.fund(BUYER.address, FUNDS)
    anvil.fund(BUYER.address, FUNDS, token=other.contract)
    account = GasAccount(rpc, GAS_KEY, chain_id=USDC.chain_id)
    chains = [chain_on(rpc, facts=TokenFacts(rpc, domain=domain), gas=account) for domain in (USDC, other)]
    calls = [(signed(domain=chain.domain, nonce=nonce_of(number)), chain) for number in range(5) for chain in chains]
    outcomes = await asyncio.gather(*(chain.submit(*call) for call, chain in calls))
    assert all(isinstance(outcome, Settled) for outcome in outcomes)
    assert (anvil.balance(PAY_TO), anvil.balance(PAY_TO, token=other.contract)) == (5 * PRICE, 5 * PRICE)
    assert anvil.failures() == 0


def test_the_domain_of_the_test_token_is_that_of_the_real_one(anvil: Anvil) -> None:
    separator = anvil.ask("eth_call", {"to": USDC.contract, "data": "0x3644e515"}, "latest")
    assert separator == "0x" + eip3009.separator(USDC).hex()
