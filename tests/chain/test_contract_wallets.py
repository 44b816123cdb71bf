"""Contract wallets as payers on a real EVM: asked before they are believed, and never at our cost where it can be helped."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from stablestudio.payments.errors import SettlementUnavailable, rejection
from stablestudio.payments.evm.facilitated import FacilitatedChain
from stablestudio.payments.evm.facts import TokenFacts
from stablestudio.payments.evm.gas import GasAccount, GasLimits
from stablestudio.payments.evm.rail import ExactEvmRail
from stablestudio.payments.evm.rpc import EvmRpc
from stablestudio.payments.facilitators.client import Facilitator
from stablestudio.payments.rail import Credential, Outcome, Rejected, Settled, Unknown
from stablestudio.protocols import x402
from stablestudio.protocols.contract_wallets import MAX_SIGNATURE, Counterfactual, unwrap, wrap
from stablestudio.protocols.eip3009 import Authorization
from stablestudio.protocols.eip3009_calls import address_word
from stablestudio.protocols.evm import EvmKey, keccak256
from tests.chain.anvil import GAS_KEY, NOW, Anvil
from tests.chain.proxy import Fault, Proxy, plain_http
from tests.chain.signing import FUNDS, GOOD, PRICE, Call, high_s, nonce_of, signed
from tests.chain.vectors import THIEF
from tests.chain.worlds import chain_on
from tests.doubles import BUYER, PAY_TO, REFUNDS, USDC, ManualClock

pytestmark = [pytest.mark.anyio, pytest.mark.npm]
WALLET, FACTORY, OTHER_FACTORY = "0x" + "c0" * 20, "0x" + "fa" * 20, "0x" + "fb" * 20
YES = bytes.fromhex("1626ba7e")
SALT = bytes(32)


def _rail(rpc: EvmRpc, *factories: str, gas: GasAccount | None = None, patience: float = 10.0) -> ExactEvmRail:
    facts = TokenFacts(rpc, domain=USDC, factories=factories)
    return ExactEvmRail(chain_on(rpc, facts=facts, gas=gas, patience=patience), pay_to=PAY_TO, refund_key=REFUNDS)


def _payment(call: Call) -> x402.PaymentPayload:
    authorization, signature = call
    offer = x402.PaymentRequirements(
        network="eip155:84532",
        amount=str(authorization.value),
        asset=USDC.contract,
        pay_to=PAY_TO,
        max_timeout_seconds=300,
        extra={"name": USDC.name, "version": USDC.version},
    )
    return x402.PaymentPayload(accepted=offer, authorization=authorization, signature=signature)


def _by_wallet(wallet: str = WALLET, *, tail: bytes = b"", key: EvmKey = BUYER, **more: Any) -> Call:
    """Sign with an owner's key for a contract wallet."""
    made, signature = signed(key=key, sender=wallet, **more)
    return made, signature + tail


async def _admit(rail: ExactEvmRail, call: Call) -> tuple[Credential, Rejected | None]:
    credential = rail.identify(_payment(call))
    return credential, await rail.admit(credential)


async def _refusal(rail: ExactEvmRail, call: Call) -> str:
    _, refused = await _admit(rail, call)
    assert isinstance(refused, Rejected), refused
    return refused.reason


async def _pay(rail: ExactEvmRail, call: Call) -> Outcome:
    credential, refused = await _admit(rail, call)
    assert refused is None
    return await rail.settle(credential.saved)


def _coins(anvil: Anvil) -> int:
    return int(anvil.ask("eth_getBalance", GAS_KEY.address, "latest"), 16)


@pytest.fixture
def wallet(anvil: Anvil) -> str:
    """A wallet of the buyer with money in it."""
    anvil.put_wallet(WALLET, owner=BUYER.address)
    anvil.fund(WALLET, FUNDS)
    return WALLET


@pytest.mark.parametrize("tail", [b"", b"\x01", bytes(700)], ids=len)
async def test_a_wallet_whose_owner_signed_pays(anvil: Anvil, rpc: EvmRpc, wallet: str, tail: bytes) -> None:
    rail = _rail(rpc)
    credential, refused = await _admit(rail, _by_wallet(tail=tail))
    assert (credential.proved, refused) == (False, None)
    assert (credential.payer.lower(), str(credential.wallet)) == (WALLET, f"eip155:{WALLET}")
    assert (credential.amount, credential.expires_at) == (PRICE, NOW + 300)
    settled = await rail.settle(credential.saved)
    assert isinstance(settled, Settled)
    assert await rail.find(credential.saved) == settled
    assert (anvil.balance(PAY_TO), anvil.failures()) == (PRICE, 0)


async def test_an_accounts_own_signature_is_proved_without_a_question(anvil: Anvil, rpc: EvmRpc) -> None:
    rail = _rail(EvmRpc("http://127.0.0.1:9"))
    assert rail.identify(_payment(signed())).proved


@pytest.mark.parametrize(
    ("contract", "word", "length"),
    [
        ("OwnedWallet", address_word(THIEF.address), None),
        ("Refusing", None, None),
        ("EndlessWallet", None, None),
        ("Babbler", None, 0),
        ("Babbler", YES, 31),
        ("Babbler", YES, 4),
        ("Babbler", YES.rjust(32, b"\0"), 32),
        ("Babbler", (1).to_bytes(32), 32),
        ("Babbler", YES + bytes(27) + b"\x01", 32),
        ("Babbler", bytes(32), 20_000),
        ("Token", None, None),
    ],
)
async def test_a_wallet_that_does_not_say_yes_is_refused_at_nobodys_cost(
    anvil: Anvil, rpc: EvmRpc, contract: str, word: bytes | None, length: int | None
) -> None:
    anvil.put(contract, WALLET)
    if word is not None:
        anvil.store(0, word.ljust(32, b"\0"), at=WALLET)
    if length is not None:
        anvil.store(1, length.to_bytes(32), at=WALLET)
    anvil.fund(WALLET, FUNDS)
    before = _coins(anvil)
    for tail in (b"", bytes(32)):
        assert await _refusal(_rail(rpc), _by_wallet(tail=tail)) == "contract_wallet_refused"
    assert (anvil.transfers(), anvil.failures(), _coins(anvil)) == ([], 0, before)


@pytest.mark.parametrize("length", [32, 64, 20_000])
@pytest.mark.parametrize(
    "signature", [b"", b"\x01", bytes(64) + b"\x1f", bytes(64) + b"\x00", bytes(65), bytes(MAX_SIGNATURE)], ids=len
)
async def test_what_a_signature_looks_like_is_the_wallets_own_affair(
    anvil: Anvil, rpc: EvmRpc, signature: bytes, length: int
) -> None:
    """Approved hashes have none, others end in a v of their own; it reaches the chain byte by byte."""
    anvil.put("Babbler", WALLET)
    anvil.store(0, YES.ljust(32, b"\0"), at=WALLET)
    anvil.store(1, length.to_bytes(32), at=WALLET)
    anvil.fund(WALLET, FUNDS)
    made, _ = _by_wallet()
    assert isinstance(await _pay(_rail(rpc), (made, signature)), Settled)


async def test_a_signature_too_long_to_carry_is_refused_at_once(rpc: EvmRpc) -> None:
    with pytest.raises(x402.ContractWalletUnsupported):
        _rail(rpc).identify(_payment((GOOD, bytes(MAX_SIGNATURE + 1))))


SPOILED: list[tuple[Callable[[bytes], bytes], str]] = [
    (lambda _: signed(key=THIEF)[1], "payment_sender_mismatch"),
    (high_s, "payment_signature_high_s"),
    (lambda good: good[:64] + b"\x1d", "payment_signature_invalid"),
    (lambda good: good + b"\0", "contract_wallet_unsupported"),
    (lambda _: b"", "contract_wallet_unsupported"),
]


@pytest.mark.parametrize(("spoil", "code"), SPOILED, ids=[code for _, code in SPOILED])
async def test_an_account_without_code_hears_what_is_wrong_with_its_own_signature(
    anvil: Anvil, rpc: EvmRpc, spoil: Callable[[bytes], bytes], code: str
) -> None:
    anvil.fund(BUYER.address, FUNDS)
    made, good = signed()
    credential, refused = await _admit(_rail(rpc), (made, spoil(good)))
    assert isinstance(refused, Rejected)
    error = rejection(refused, payer=credential.payer, network=credential.network)
    assert (error.code, error.status) == (code, 402)


async def test_a_wallet_that_says_yes_to_us_and_no_to_the_token_is_refused(anvil: Anvil, rpc: EvmRpc) -> None:
    anvil.put("TwoFaced", WALLET)
    anvil.fund(WALLET, FUNDS)
    assert await _refusal(_rail(rpc), _by_wallet()) == "invalid_signature"
    assert anvil.failures() == 0


async def test_a_poor_wallet_hears_so(anvil: Anvil, rpc: EvmRpc, wallet: str) -> None:
    assert await _refusal(_rail(rpc), _by_wallet(value=FUNDS + 1)) == "insufficient_funds"


async def test_an_admitted_wallet_that_changes_its_mind_is_rejected_before_gas_is_paid(
    anvil: Anvil, rpc: EvmRpc, wallet: str
) -> None:
    rail, before = _rail(rpc), _coins(anvil)
    credential, refused = await _admit(rail, _by_wallet())
    assert refused is None
    anvil.store(0, address_word(THIEF.address), at=WALLET)
    outcome = await rail.settle(credential.saved)
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "invalid_signature"
    assert (_coins(anvil), anvil.transfers()) == (before, [])
    anvil.store(0, address_word(BUYER.address), at=WALLET)
    assert isinstance(await rail.settle(credential.saved), Settled), "nothing had moved, so the same payment is good"


async def test_a_wallet_that_lies_to_every_rehearsal_costs_one_transaction(anvil: Anvil, rpc: EvmRpc) -> None:
    anvil.put("Fickle", WALLET)
    anvil.fund(WALLET, FUNDS)
    limits, before = GasLimits(), _coins(anvil)
    rail = _rail(rpc, gas=GasAccount(rpc, GAS_KEY, chain_id=USDC.chain_id, limits=limits))
    outcome = await _pay(rail, _by_wallet())
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "transaction_reverted"
    assert 0 < before - _coins(anvil) <= limits.max_cost
    for number in (2, 3):
        assert await _refusal(rail, _by_wallet(nonce=nonce_of(number))) == "contract_wallet_refused"
    assert (anvil.transfers(), anvil.failures()) == ([], 1)


async def test_a_payment_that_a_stranger_submitted_first_is_not_refused(anvil: Anvil, rpc: EvmRpc, wallet: str) -> None:
    theirs = anvil.transfer(*_by_wallet())
    assert await _pay(_rail(rpc), _by_wallet()) == Settled(transaction=theirs)
    anvil.move_to(NOW + 400)
    assert await _pay(_rail(rpc), _by_wallet()) == Settled(transaction=theirs)


async def test_a_used_nonce_does_not_make_a_strangers_signature_good(anvil: Anvil, rpc: EvmRpc, wallet: str) -> None:
    anvil.transfer(*_by_wallet())
    assert await _refusal(_rail(rpc), _by_wallet(key=THIEF)) == "contract_wallet_refused"


@pytest.mark.parametrize(("word", "settles"), [(YES, True), (bytes(32), False)])
async def test_an_account_that_lends_itself_code_is_asked_by_its_token(
    anvil: Anvil, rpc: EvmRpc, word: bytes, *, settles: bool
) -> None:
    """EIP-7702: the key's signature proves who pays; whether the token takes it is its code's to say."""
    anvil.put("Babbler", WALLET)
    anvil.ask("anvil_setCode", BUYER.address, "0xef0100" + WALLET[2:])
    anvil.store(0, word.ljust(32, b"\0"), at=BUYER.address)
    anvil.store(1, (32).to_bytes(32), at=BUYER.address)
    anvil.fund(BUYER.address, FUNDS)
    rail = _rail(rpc)
    credential, refused = await _admit(rail, signed())
    assert (credential.proved, refused) == (True, None)
    outcome = await rail.settle(credential.saved)
    assert isinstance(outcome, Settled if settles else Rejected)
    assert anvil.failures() == 0


async def test_a_node_that_cannot_be_asked_asks_for_patience_and_not_for_a_new_signature(anvil: Anvil) -> None:
    async with Proxy(anvil.url, faults={"eth_getCode": 9 * [Fault.ERROR_BEFORE]}) as proxy, plain_http() as http:
        credential, refused = await _admit(_rail(EvmRpc(proxy.url, http=http)), _by_wallet())
    assert isinstance(refused, Rejected)
    error = rejection(refused, payer=credential.payer, network=credential.network)
    assert isinstance(error, SettlementUnavailable)


# Wallets that do not exist yet (ERC-6492).


class Unborn:
    """A wallet that a factory could make, and its owner's payments."""

    def __init__(self, anvil: Anvil, factory: str = FACTORY, contract: str = "Factory") -> None:
        self._anvil = anvil
        self.factory = factory
        anvil.put(contract, factory)
        found = anvil.ask("eth_call", {"to": factory, "data": "0x" + self.call("find").hex()}, "latest")
        self.address = "0x" + found[-40:]

    def call(self, name: str = "deploy", owner: str = BUYER.address) -> bytes:
        return keccak256(f"{name}(address,bytes32)".encode())[:4] + address_word(owner) + SALT

    def sign(self, *, key: EvmKey = BUYER, call: bytes | None = None, factory: str | None = None, **more: Any) -> Call:
        made, signature = signed(key=key, sender=self.address, **more)
        wrapped = Counterfactual(
            factory=factory or self.factory, call=self.call() if call is None else call, signature=signature
        )
        return made, wrap(wrapped)

    def exists(self) -> bool:
        return bool(self._anvil.ask("eth_getCode", self.address, "latest") != "0x")


@pytest.fixture
def unborn(anvil: Anvil) -> Unborn:
    made = Unborn(anvil)
    anvil.fund(made.address, FUNDS)
    return made


async def test_a_wallet_not_deployed_yet_pays_where_its_factory_is_allowed(
    anvil: Anvil, rpc: EvmRpc, unborn: Unborn
) -> None:
    rail = _rail(rpc, FACTORY.upper().replace("X", "x"))
    first = await _pay(rail, unborn.sign())
    assert isinstance(first, Settled)
    assert unborn.exists()
    assert (anvil.balance(PAY_TO), anvil.failures()) == (PRICE, 0)
    height = int(anvil.ask("eth_blockNumber"), 16)
    # Once it is there, the wrapping counts for nothing, whatever factory it names.
    again = await _pay(rail, unborn.sign(nonce=nonce_of(2), factory=OTHER_FACTORY))
    assert isinstance(again, Settled)
    assert int(anvil.ask("eth_blockNumber"), 16) == height + 1


@pytest.mark.parametrize("allowed", [(), (OTHER_FACTORY,)])
async def test_a_factory_that_is_not_allowed_is_never_called(
    anvil: Anvil, rpc: EvmRpc, unborn: Unborn, allowed: tuple[str, ...]
) -> None:
    rail = _rail(rpc, *allowed)
    assert await _refusal(rail, unborn.sign()) == "wallet_factory_not_allowed"
    # And neither where the settlement comes to it first, after a restart with other settings.
    outcome = await rail.settle(_rail(rpc, FACTORY).identify(_payment(unborn.sign())).saved)
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "wallet_factory_not_allowed"
    assert not unborn.exists()


async def test_a_token_in_the_place_of_a_factory_moves_nothing_of_ours(
    anvil: Anvil, rpc: EvmRpc, unborn: Unborn
) -> None:
    anvil.fund(GAS_KEY.address, FUNDS)
    theft = keccak256(b"transfer(address,uint256)")[:4] + address_word(THIEF.address) + FUNDS.to_bytes(32)
    rail = _rail(rpc, FACTORY)
    assert await _refusal(rail, unborn.sign(factory=USDC.contract, call=theft)) == "wallet_factory_not_allowed"
    assert anvil.balance(GAS_KEY.address) == FUNDS


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"call": b""}, "wallet_not_deployable"),
        ({"call": b"\xde\xad\xbe\xef"}, "wallet_not_deployable"),
        ({"owner": THIEF.address}, "wallet_not_deployable"),
        ({"factory": WALLET}, "wallet_not_deployable"),
        ({"factory": "0x" + "ee" * 20}, "wallet_not_deployable"),
        ({"key": THIEF}, "contract_wallet_refused"),
        ({"value": FUNDS + 1}, "insufficient_funds"),
    ],
    ids=str,
)
async def test_what_the_rehearsal_refuses_is_not_deployed(
    anvil: Anvil, rpc: EvmRpc, unborn: Unborn, changes: dict[str, Any], reason: str
) -> None:
    anvil.put("Refusing", WALLET)
    if owner := changes.pop("owner", None):
        changes = {"call": unborn.call(owner=owner)}
    rail = _rail(rpc, FACTORY, WALLET, "0x" + "ee" * 20)
    before, call = _coins(anvil), unborn.sign(**changes)
    assert await _refusal(rail, call) == reason
    outcome = await rail.settle(rail.identify(_payment(call)).saved)
    assert isinstance(outcome, Rejected)
    assert outcome.reason == reason
    assert (unborn.exists(), anvil.transfers(), _coins(anvil)) == (False, [], before)


async def test_a_damaged_wrapping_is_refused(anvil: Anvil, rpc: EvmRpc, unborn: Unborn) -> None:
    made, whole = unborn.sign()
    assert await _refusal(_rail(rpc, FACTORY), (made, whole[40:])) == "contract_wallet_refused"


async def test_a_new_wallet_is_deployed_once_for_several_payments(anvil: Anvil, rpc: EvmRpc, unborn: Unborn) -> None:
    rail, height = _rail(rpc, FACTORY), int(anvil.ask("eth_blockNumber"), 16)
    calls = [unborn.sign(nonce=nonce_of(number)) for number in range(5)]
    outcomes = await asyncio.gather(*(_pay(rail, call) for call in calls))
    assert all(isinstance(outcome, Settled) for outcome in outcomes)
    assert (anvil.balance(PAY_TO), anvil.failures()) == (5 * PRICE, 0)
    assert int(anvil.ask("eth_blockNumber"), 16) == height + 6


async def test_a_deployment_above_the_gas_limit_is_not_sent(anvil: Anvil, rpc: EvmRpc, unborn: Unborn) -> None:
    gas = GasAccount(rpc, GAS_KEY, chain_id=USDC.chain_id, limits=GasLimits(max_gas=100_000))
    outcome = await _pay(_rail(rpc, FACTORY, gas=gas), unborn.sign())
    assert isinstance(outcome, Rejected)
    assert (outcome.reason, unborn.exists()) == ("wallet_not_deployable", False)


async def test_a_deployment_that_lies_to_every_rehearsal_costs_one_transaction(anvil: Anvil, rpc: EvmRpc) -> None:
    unborn = Unborn(anvil, contract="FickleFactory")
    anvil.fund(unborn.address, FUNDS)
    rail = _rail(rpc, FACTORY)
    outcome = await _pay(rail, unborn.sign(call=unborn.call("deployFree")))
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "wallet_not_deployable"
    again = unborn.sign(call=unborn.call("deployFree"), nonce=nonce_of(2))
    assert await _refusal(rail, again) == "contract_wallet_refused"
    assert anvil.failures() == 1


async def test_a_deployment_under_way_is_not_sent_twice(anvil: Anvil, rpc: EvmRpc, unborn: Unborn) -> None:
    rail = _rail(rpc, FACTORY, patience=0.6)
    credential, _ = await _admit(rail, unborn.sign())
    anvil.automine(on=False)
    assert [type(await rail.settle(credential.saved)) for _ in range(2)] == [Unknown, Unknown]
    assert int(anvil.ask("txpool_status")["pending"], 16) == 1
    anvil.automine(on=True)
    anvil.mine()
    assert isinstance(await rail.settle(credential.saved), Settled)
    assert anvil.failures() == 0


# Through facilitators, which get the wallet's bytes and ask it themselves.


def _facilitated(anvil: Anvil, rpc: EvmRpc, *factories: str) -> tuple[ExactEvmRail, list[bytes]]:
    """A facilitator that submits as a stranger would; and the signatures that it got."""
    got: list[bytes] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        payload = json.loads(request.content)["paymentPayload"]["payload"]
        got.append(bytes.fromhex(payload["signature"][2:]))
        wrapped = unwrap(got[-1])
        if wrapped is not None:
            anvil.send(wrapped.call, to=wrapped.factory)
        made = _read_authorization(payload["authorization"])
        transaction = anvil.transfer(made, wrapped.signature if wrapped else got[-1])
        body = {"success": True, "transaction": transaction, "network": "eip155:84532", "payer": made.sender}
        return httpx2.Response(200, content=_stream(json.dumps(body).encode()))

    chain = FacilitatedChain(
        USDC,
        [Facilitator("https://a.example", transport=httpx2.MockTransport(handle))],
        reader=TokenFacts(rpc, domain=USDC, factories=factories),
        clock=ManualClock(),
    )
    return ExactEvmRail(chain, pay_to=PAY_TO, refund_key=REFUNDS), got


def _read_authorization(fields: dict[str, str]) -> Authorization:
    return replace(
        GOOD,
        sender=fields["from"].lower(),
        valid_after=int(fields["validAfter"]),
        nonce=bytes.fromhex(fields["nonce"][2:]),
    )


async def _stream(body: bytes) -> Any:
    yield body


async def test_a_wallet_pays_through_a_facilitator(anvil: Anvil, rpc: EvmRpc, wallet: str) -> None:
    rail, got = _facilitated(anvil, rpc)
    call = _by_wallet(tail=bytes(32))
    outcome = await _pay(rail, call)
    assert isinstance(outcome, Settled)
    assert (got, anvil.transfers()) == ([call[1]], [outcome.transaction])
    assert await _refusal(rail, _by_wallet(key=THIEF)) == "contract_wallet_refused"
    assert len(got) == 1, "what the wallet refuses is not shown to anybody"


async def test_a_wallet_not_deployed_yet_pays_through_a_facilitator_if_its_factory_is_allowed(
    anvil: Anvil, rpc: EvmRpc, unborn: Unborn
) -> None:
    assert await _refusal(_facilitated(anvil, rpc)[0], unborn.sign()) == "wallet_factory_not_allowed"
    rail, got = _facilitated(anvil, rpc, FACTORY)
    assert isinstance(await _pay(rail, unborn.sign()), Settled)
    assert got == [unborn.sign()[1]]
