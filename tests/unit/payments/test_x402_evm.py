"""Whose signature a rail takes at sight, whose it leaves to the chain, and whose it refuses."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from stablestudio.money import Money
from stablestudio.payments.evm.rail import ExactEvmRail
from stablestudio.payments.rail import Asked, Rejected
from stablestudio.protocols import x402
from stablestudio.protocols.contract_wallets import MAX_SIGNATURE
from stablestudio.protocols.eip3009 import Authorization
from stablestudio.protocols.evm import EvmKey
from tests.doubles import BUYER, NOW_MS, ScriptedChain, rail_on

pytestmark = pytest.mark.anyio
NO = Rejected(reason="contract_wallet_refused", message="no")
STRANGER = EvmKey.from_hex("0x" + "5e" * 32)
ASKED = Asked(path="/x", body=b"{}", price=Money(45_000), now_s=NOW_MS // 1000)


class AskingChain(ScriptedChain):
    """A chain that can ask contract wallets, and says what it is told to."""

    judges_contract_wallets = True

    def __init__(self, verdict: Rejected | None = None, *, holds: int | None = None) -> None:
        super().__init__()
        self.verdict = verdict
        self.holds = holds
        self.judged: list[tuple[Authorization, bytes]] = []

    async def judge_wallet(self, authorization: Authorization, signature: bytes) -> Rejected | None:
        self.judged.append((authorization, signature))
        return self.verdict

    async def balance(self, owner: str) -> int | None:
        return self.holds


class ForgetfulChain(AskingChain):
    """One that could ask, but not as it is configured."""

    judges_contract_wallets = False


def _payment(rail: ExactEvmRail, signature: bytes | None = None, *, key: EvmKey = BUYER) -> x402.PaymentPayload:
    offer = rail.offer(ASKED)
    signed = x402.sign_exact(x402.PaymentRequired(accepts=[offer]), offer, key, now_s=ASKED.now_s)
    return signed if signature is None else replace(signed, signature=signature)


@pytest.mark.parametrize("chain", [ScriptedChain(), ForgetfulChain()])
@pytest.mark.parametrize("signature", [b"", bytes(66), bytes(65), bytes(64) + b"\x1b"], ids=bytes.hex)
def test_without_a_chain_to_ask_a_signature_is_an_accounts_or_refused(chain: ScriptedChain, signature: bytes) -> None:
    rail = rail_on(chain)
    with pytest.raises(x402.PaymentRefused) as refused:
        rail.identify(_payment(rail, signature))
    assert refused.value.code == (
        "payment_signature_invalid" if len(signature) == 65 else "contract_wallet_unsupported"
    )


@pytest.mark.parametrize("signature", [b"", bytes(65), bytes(64) + b"\x00", bytes(MAX_SIGNATURE)], ids=len)
async def test_what_may_be_a_wallets_signature_is_kept_as_it_is_and_left_to_the_chain(signature: bytes) -> None:
    chain = AskingChain(NO)
    rail = rail_on(chain)
    payment = _payment(rail, signature)
    credential = rail.identify(payment)
    assert not credential.proved
    assert json.loads(credential.saved)["signature"] == "0x" + signature.hex()
    assert credential.key == payment.authorization.key
    assert credential.payer == BUYER.address
    assert await rail.admit(credential) == NO
    assert chain.judged == [(payment.authorization, signature)]


async def test_an_accounts_own_signature_is_not_asked_about() -> None:
    chain = AskingChain(NO)
    rail = rail_on(chain)
    credential = rail.identify(_payment(rail))
    assert credential.proved
    assert await rail.admit(credential) is None
    assert chain.judged == []


def test_a_hardware_wallets_v_is_made_what_the_token_wants() -> None:
    rail = rail_on(AskingChain())
    good = _payment(rail)
    raw = replace(good, signature=good.signature[:64] + bytes((good.signature[64] - 27,)))
    assert rail.identify(raw).saved == rail.identify(good).saved


def test_what_is_too_long_for_a_chain_is_refused_at_once() -> None:
    rail = rail_on(AskingChain())
    with pytest.raises(x402.ContractWalletUnsupported):
        rail.identify(_payment(rail, bytes(MAX_SIGNATURE + 1)))


@pytest.mark.parametrize(("holds", "held", "admitted"), [(45_000, 0, True), (45_000, 1, False), (44_999, 0, False)])
async def test_a_wallet_that_signed_must_have_the_money_too(holds: int, held: int, *, admitted: bool) -> None:
    rail = rail_on(AskingChain(holds=holds))
    credential = rail.identify(_payment(rail, b"owner"))
    refused = await rail.admit(credential, held=held)
    assert (refused is None) is admitted
    assert refused is None or refused.reason == "insufficient_funds"


async def test_a_wrong_signature_is_told_before_the_balance() -> None:
    rail = rail_on(AskingChain(NO, holds=0))
    assert await rail.admit(rail.identify(_payment(rail, b"owner"))) == NO


async def test_two_signatures_of_one_authorization_have_one_key_and_two_forms() -> None:
    """Only the form that was taken is answered again; a stranger may put any bytes below another's authorization."""
    rail = rail_on(AskingChain())
    payment = _payment(rail, b"owner")
    ours, theirs = rail.identify(payment), rail.identify(replace(payment, signature=b"stranger"))
    assert ours.key == theirs.key
    assert ours.saved != theirs.saved
