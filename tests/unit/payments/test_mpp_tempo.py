"""The Tempo rail believes a credential only if each part of it is the payment that was asked for."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytempo import Call, TempoTransaction

from stablestudio.errors import StudioError
from stablestudio.payments.rail import Rejected, Settled
from stablestudio.payments.tempo.rail import TempoRail
from stablestudio.protocols import mpp, tempo, x402
from stablestudio.protocols.evm import keccak256
from stablestudio.protocols.tempo import TempoCall
from stablestudio.sandbox.tempo_ledger import TempoLedger
from stablestudio.store.database import Database
from tests.doubles import BUYER, PAY_TO, ManualClock
from tests.unit.payments.tempo_buyer import (
    ASKED,
    BODY,
    CHAIN_ID,
    FEE_CAP,
    FUNDS,
    KEYS,
    NOW,
    OTHER_TOKEN,
    PRICE,
    STRANGER,
    TOKEN,
    credential,
    ledger_rail,
    local_rail,
    pay,
    pay_call,
    read_challenge,
    read_part,
    sent,
    signed,
    with_challenge,
)
from tests.unit.payments.tempo_spoils import (
    DEX,
    MISMATCH,
    NOT_ISSUED,
    REFUSED,
    Spoil,
    approve,
    quote,
    swap,
    swapped,
    words,
)


@pytest.fixture
def rail() -> TempoRail:
    return local_rail()


@pytest.fixture
def ledger(database: Database, clock: ManualClock) -> TempoLedger:
    return TempoLedger(database, clock=clock)


def _vectors(of: dict[str, Spoil]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("spoil", list(of.values()), ids=list(of))


def _present(rail: TempoRail, given: mpp.Credential, **changes: Any) -> None:
    rail.identify(given)
    rail.check(given, replace(ASKED, **changes))


def _type(error: StudioError) -> object:
    return error.body()["type"]


def test_a_good_payment_names_its_payer_and_all_that_settles_it(rail: TempoRail) -> None:
    given = sent(pay(rail.challenge(ASKED)))
    assert rail.takes(given)
    named = rail.identify(given)
    rail.check(given, ASKED)
    signed_hash = tempo.decode(bytes.fromhex(given.payload["signature"][2:])).signing_hash
    assert (str(named.wallet), named.payer) == (f"eip155:{BUYER.address.lower()}", BUYER.address)
    assert named.key == f"{BUYER.address.lower()}:0x{signed_hash.hex()}"
    assert (named.network, named.asset, named.amount) == ("eip155:42431", TOKEN, PRICE.micros)
    assert (named.expires_at, named.proved) == (NOW + 25, True)
    assert rail.name == f"mpp:eip155:42431:{TOKEN}"


@_vectors(NOT_ISSUED)
def test_a_challenge_that_was_not_issued_here_is_refused(rail: TempoRail, spoil: Spoil) -> None:
    with pytest.raises(mpp.ChallengeNotIssued) as refused:
        rail.identify(spoil(rail))
    assert _type(refused.value) == "https://paymentauth.org/problems/invalid-challenge"


@_vectors(NOT_ISSUED)
def test_a_check_alone_does_not_believe_a_challenge_either(rail: TempoRail, spoil: Spoil) -> None:
    with pytest.raises(mpp.ChallengeNotIssued):
        rail.check(spoil(rail), ASKED)


@_vectors(MISMATCH)
def test_a_challenge_for_something_else_is_refused(rail: TempoRail, spoil: Spoil) -> None:
    given = spoil(rail)
    rail.identify(given)
    with pytest.raises(mpp.ChallengeMismatch) as refused:
        rail.check(given, ASKED)
    assert _type(refused.value) == "https://paymentauth.org/problems/invalid-challenge"


@pytest.mark.parametrize(
    ("why", "spoil"),
    [pytest.param(why, spoil, id=name) for why, vectors in REFUSED.items() for name, spoil in vectors.items()],
)
def test_a_transaction_that_is_not_the_payment_is_refused(rail: TempoRail, why: str, spoil: Spoil) -> None:
    with pytest.raises(mpp.TransferRefused, match=why) as refused:
        _present(rail, spoil(rail))
    assert _type(refused.value) == "https://paymentauth.org/problems/verification-failed"
    assert refused.value.status == 402


def test_a_payment_that_was_sent_already_is_refused_by_name(rail: TempoRail) -> None:
    given = replace(pay(rail.challenge(ASKED)), payload={"type": "hash", "hash": "0x" + "ab" * 32})
    with pytest.raises(mpp.PushUnsupported):
        rail.identify(given)


@pytest.mark.parametrize(
    "before", [[], [approve(), swap()], [approve(), swap(amount=1)]], ids=["plain", "swapped", "swapped in part"]
)
def test_a_payer_may_swap_before_paying(rail: TempoRail, before: list[TempoCall]) -> None:
    _present(rail, swapped(*before)(rail))


def test_a_payment_without_a_source_is_its_signers(rail: TempoRail) -> None:
    given = replace(pay(rail.challenge(ASKED)), source=None)
    _present(rail, given)
    assert rail.identify(given).payer == BUYER.address


def test_a_signature_may_spell_its_last_byte_as_0_or_1_and_stays_the_same_payment(rail: TempoRail) -> None:
    line = rail.challenge(ASKED)
    usual = pay(line)
    raw = bytes.fromhex(usual.payload["signature"][2:])
    other = credential(usual.challenge, raw[:-1] + bytes([raw[-1] - 27]))
    _present(rail, other)
    assert rail.identify(other) == rail.identify(usual)


def test_two_accounts_that_sign_the_same_content_made_two_payments(rail: TempoRail) -> None:
    line = rail.challenge(ASKED)
    first, second = rail.identify(pay(line)), rail.identify(pay(line, key=STRANGER))
    assert first.key.partition(":")[2] == second.key.partition(":")[2]
    assert first.key != second.key


@pytest.mark.parametrize("at", [299, 300, 301], ids=["in time", "in the last second", "later"])
def test_a_challenge_is_good_for_five_minutes(rail: TempoRail, at: int) -> None:
    challenge = quote(rail)
    given = credential(challenge, signed(pay_call(challenge), valid_before=NOW + at + 25).raw)
    if at < 300:
        return _present(rail, given, now_s=NOW + at)
    with pytest.raises(mpp.ChallengeExpired) as refused:
        _present(rail, given, now_s=NOW + at)
    assert _type(refused.value) == "https://paymentauth.org/problems/payment-expired"


@pytest.mark.parametrize("left", [4, 3, 0, -1])
def test_a_transaction_must_outlive_its_way_to_the_chain(rail: TempoRail, left: int) -> None:
    given = pay(rail.challenge(ASKED), valid_before=NOW + left)
    if left > 3:
        return _present(rail, given)
    with pytest.raises(mpp.TransferExpired):
        _present(rail, given)


def test_a_payment_need_not_outlive_the_work(rail: TempoRail) -> None:
    """None on this chain can; it is settled when the work is accepted."""
    _present(rail, pay(rail.challenge(replace(ASKED, hold_s=3600))), hold_s=3600)


def test_a_replaced_key_is_recognised_as_long_as_it_is_listed() -> None:
    old, new = local_rail(keys=[KEYS[1]]), local_rail(keys=KEYS)
    _present(new, pay(old.challenge(ASKED)))
    _present(new, pay(new.challenge(ASKED)))
    with pytest.raises(mpp.ChallengeNotIssued):
        old.identify(pay(new.challenge(ASKED)))


def test_older_buyers_send_opaque_as_the_object_that_it_holds(rail: TempoRail) -> None:
    given = pay(rail.challenge(ASKED))
    echo = {name: getattr(given.challenge, name) for name in given.challenge.__slots__}
    wire = {"challenge": {**echo, "opaque": read_part(given.challenge.opaque)}, "payload": given.payload}
    arrived = mpp.decode_credential(f"Payment {mpp.messages._base64url(json.dumps(wire).encode())}")
    assert arrived == replace(given, source=None)
    _present(rail, arrived)


def test_a_rail_takes_its_own_token_on_its_own_chain_only(rail: TempoRail) -> None:
    other = local_rail(token=OTHER_TOKEN)
    given = pay(other.challenge(ASKED))
    assert (rail.takes(given), other.takes(given)) == (False, True)
    elsewhere = read_part(given.challenge.request) | {"methodDetails": {"chainId": 4217}}
    assert not other.takes(with_challenge(given, request=mpp.messages.canonical(elsewhere)))


@pytest.mark.parametrize(
    "part",
    ["", "e30", "bnVsbA", "!!!", mpp.messages.canonical({"currency": TOKEN}), mpp.messages.canonical({"amount": "-1"})],
)
def test_what_is_no_request_is_nobodys(rail: TempoRail, part: str) -> None:
    assert not rail.takes(with_challenge(pay(rail.challenge(ASKED)), request=part))


def test_payments_of_the_other_protocol_are_not_taken(rail: TempoRail) -> None:
    offer = x402.PaymentRequirements(
        network="eip155:42431", amount="1", asset=TOKEN, pay_to=PAY_TO, max_timeout_seconds=60, extra={}
    )
    assert not rail.takes(x402.SolanaPayload(transaction=b"", accepted=offer))


def test_a_signature_that_only_the_chain_can_judge_opens_no_order(rail: TempoRail) -> None:
    challenge = quote(rail)
    unsigned = TempoTransaction.create(
        chain_id=CHAIN_ID,
        gas_limit=1,
        nonce_key=2**256 - 1,
        valid_before=NOW + 25,
        calls=(Call.create(to=TOKEN, data=pay_call(challenge).data),),
    )
    raw = unsigned.sign_access_key(STRANGER.hex(), BUYER.address).encode()
    given = credential(challenge, raw)
    with pytest.raises(mpp.TransferRefused, match="own secp256k1 key"):
        rail.identify(given)


def test_each_quote_is_paid_by_a_transaction_of_its_own(rail: TempoRail) -> None:
    """Or two equal requests in one second would be paid once, and only one of them delivered."""
    first, second = (rail.identify(pay(rail.challenge(ASKED))) for _ in range(2))
    assert first.key != second.key


async def _funded(ledger: TempoLedger) -> TempoRail:
    await ledger.mint(TOKEN, BUYER.address, FUNDS)
    return ledger_rail(ledger)


@pytest.mark.anyio
async def test_a_payment_moves_the_price_and_is_found_again(ledger: TempoLedger) -> None:
    rail = await _funded(ledger)
    saved = rail.identify(pay(rail.challenge(ASKED))).saved
    outcome = await rail.settle(saved)
    assert isinstance(outcome, Settled)
    assert await rail.find(saved) == outcome == await rail.settle(saved)
    assert await ledger.balance_of(TOKEN, PAY_TO) == PRICE.micros


@pytest.mark.anyio
async def test_fifty_settlements_of_one_credential_are_one_transfer(ledger: TempoLedger) -> None:
    rail = await _funded(ledger)
    saved = rail.identify(pay(rail.challenge(ASKED))).saved
    outcomes = await asyncio.gather(*(rail.settle(saved) for _ in range(50)))
    assert len(set(outcomes)) == 1
    assert isinstance(outcomes[0], Settled)
    assert await ledger.balance_of(TOKEN, PAY_TO) == PRICE.micros


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("funds", "held", "good"),
    [
        (PRICE.micros + FEE_CAP, 0, True),
        (PRICE.micros + FEE_CAP - 1, 0, False),
        (PRICE.micros, 0, False),
        (PRICE.micros + FEE_CAP, 1, False),
        (PRICE.micros + FEE_CAP + 1, 1, True),
    ],
)
async def test_a_payer_must_hold_the_price_and_the_fee_and_what_it_signed_before(
    ledger: TempoLedger, funds: int, held: int, *, good: bool
) -> None:
    rail = ledger_rail(ledger)
    await ledger.mint(TOKEN, STRANGER.address, funds)
    refused = await rail.admit(rail.identify(pay(rail.challenge(ASKED), key=STRANGER)), held=held)
    assert (refused is None) is good
    assert refused is None or refused.reason == "insufficient_funds"


@pytest.mark.anyio
async def test_a_payer_who_swaps_first_may_be_without_the_token(ledger: TempoLedger) -> None:
    rail = ledger_rail(ledger)
    assert await rail.admit(rail.identify(swapped(approve(), swap())(rail))) is None


@pytest.mark.anyio
async def test_a_fee_in_another_token_is_not_asked_of_this_one(ledger: TempoLedger) -> None:
    rail = await _funded(ledger)
    await ledger.mint(TOKEN, STRANGER.address, PRICE.micros)
    named = rail.identify(pay(rail.challenge(ASKED), key=STRANGER, fee_token=OTHER_TOKEN))
    assert await rail.admit(named) is None


@pytest.mark.anyio
async def test_a_failed_transaction_is_not_paid(ledger: TempoLedger) -> None:
    rail = await _funded(ledger)
    await ledger.mint(TOKEN, STRANGER.address, PRICE.micros - 1)
    saved = rail.identify(pay(rail.challenge(ASKED), key=STRANGER, max_fee_per_gas=0)).saved
    outcome = await rail.settle(saved)
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "transaction_reverted"
    await ledger.mint(TOKEN, STRANGER.address, FUNDS)
    assert await rail.settle(saved) == await rail.find(saved) == outcome


@pytest.mark.anyio
async def test_the_start_checks_the_token(ledger: TempoLedger) -> None:
    rail = await _funded(ledger)
    await rail.start()
    await rail.stop()
    with pytest.raises(StudioError, match="no token"):
        await ledger_rail(ledger, token="0x" + "12" * 20).start()


def test_a_saved_payment_is_equal_however_often_it_is_identified(rail: TempoRail) -> None:
    """A signature that only the chain can judge is recognised by what was saved of it."""
    given = pay(rail.challenge(ASKED))
    assert rail.identify(given).saved == rail.identify(sent(given)).saved


_TARGETS = st.sampled_from([TOKEN, OTHER_TOKEN, DEX, PAY_TO.lower()])
_SELECTORS = st.sampled_from(["a9059cbb", "95777d59", "095ea7b3", "b30d91d5", "00000000", ""])
_WORDS = st.lists(st.sampled_from([0, 1, PRICE.micros, int(PAY_TO, 16), int(TOKEN, 16), 2**256 - 1]), max_size=5)
_CALLS = st.builds(
    lambda to, selector, numbers, tail: TempoCall(to=to, data=words(selector, *numbers) + tail),
    _TARGETS,
    _SELECTORS,
    _WORDS,
    st.sampled_from([b"", b"\0"]),
)


@given(calls=st.lists(_CALLS, min_size=1, max_size=4))
def test_no_other_calls_are_a_payment(calls: list[TempoCall]) -> None:
    rail = local_rail()
    given = credential(quote(rail), signed(*calls).raw)
    with pytest.raises(mpp.TransferRefused):
        _present(rail, given)


@given(place=st.integers(0, 400), byte=st.integers(0, 255))
def test_damaged_bytes_are_refused_or_say_the_same(place: int, byte: int) -> None:
    rail = local_rail()
    good = pay(rail.challenge(ASKED))
    raw = bytearray.fromhex(good.payload["signature"][2:])
    raw[place % len(raw)] = byte
    damaged = replace(good, payload={"type": "transaction", "signature": "0x" + raw.hex()})
    try:
        _present(rail, damaged)
    except StudioError as refused:
        assert refused.status == 402  # noqa: PT017
    else:
        assert rail.identify(damaged) == rail.identify(good)


def test_pympp_is_imported_by_the_first_payment_and_not_before() -> None:
    """It takes a second, and the command line has a tenth of one."""
    heavy = ("mpp", "eth_account", "pytempo", "web3")
    code = f"import stablestudio.payments.tempo.rail, sys; print([name for name in {heavy} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.strip() == "[]"


def test_the_answer_names_no_secret(rail: TempoRail) -> None:
    assert KEYS[0].decode() not in repr(dataclasses.asdict(read_challenge(rail.challenge(ASKED))))
    assert keccak256(BODY).hex() not in rail.challenge(ASKED)
