"""What a Solana rail offers and takes, without a chain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stablestudio.money import Money
from stablestudio.payments.rail import Asked, Rejected
from stablestudio.payments.solana.rail import ExactSvmRail, MemoMismatch
from stablestudio.protocols import x402
from stablestudio.protocols.x402.errors import UnsupportedOffer
from stablestudio.protocols.x402.exact_svm import sign_exact_svm
from tests.chain.solana_world import BUYER, DEVNET, FEES, PRICE, SHOP, THIEF, USDC, rail_on
from tests.doubles import NOW_MS, ManualClock

pytestmark = pytest.mark.anyio
ASKED = Asked(path="/api/generate/a/b", body=b"{}", price=Money(PRICE), now_s=NOW_MS // 1000)
BLOCKHASH = "4uQeVj5tqViQh7yWWGStvkEG1Zmhx6uasJtWCJziofM"


class Chain:
    """A chain that knows balances only."""

    network = DEVNET

    def __init__(self, balance: int | None = None) -> None:
        self.held = balance
        self.fee_payer = FEES.address
        self.asked: list[str] = []

    def pays_fees(self, account: str) -> bool:
        return account == FEES.address

    async def balance(self, address: str) -> int | None:
        self.asked.append(address)
        return self.held


@pytest.fixture
def rail() -> ExactSvmRail:
    return rail_on(Chain(), ManualClock())


def _sign(rail: ExactSvmRail, asked: Asked = ASKED) -> x402.SolanaPayload:
    offer = rail.offer(asked)
    return sign_exact_svm(x402.PaymentRequired(accepts=[offer]), offer, BUYER, blockhash=BLOCKHASH, decimals=6)


def test_an_offer_names_all_that_a_client_needs(rail: ExactSvmRail) -> None:
    offer = rail.offer(ASKED)

    assert (offer.scheme, offer.network, offer.asset, offer.pay_to) == ("exact", DEVNET, USDC, SHOP.address)
    assert (offer.amount, offer.max_timeout_seconds) == (str(PRICE), 60)
    assert offer.extra == {"feePayer": FEES.address, "memo": rail.memo(ASKED)}


def test_one_request_has_one_memo_and_the_next_one_another(rail: ExactSvmRail) -> None:
    offer = rail.offer(ASKED)
    assert offer.extra["memo"] == rail.memo(ASKED) == rail.memo(ASKED)

    again = replace(ASKED)
    assert rail.memo(again) != offer.extra["memo"]
    assert {**rail.offer(again).wire(), "extra": None} == {**offer.wire(), "extra": None}


def test_an_offer_follows_the_fee_payer(rail: ExactSvmRail) -> None:
    chain: Any = rail._chain
    chain.fee_payer = THIEF.address

    assert rail.offer(ASKED).extra["feePayer"] == rail.fee_payer == THIEF.address


def test_the_price_is_in_the_tokens_units() -> None:
    assert rail_on(Chain(), ManualClock(), decimals=9).offer(ASKED).amount == str(PRICE * 1000)


def test_a_rail_takes_its_own_network_and_token_only(rail: ExactSvmRail) -> None:
    payment = _sign(rail)

    assert rail.takes(payment)
    assert not rail.takes(
        replace(payment, accepted=replace(payment.accepted, network="solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"))
    )
    assert not rail.takes(replace(payment, accepted=replace(payment.accepted, asset=THIEF.address)))


def test_a_payment_survives_its_header(rail: ExactSvmRail) -> None:
    payment = _sign(rail)

    assert x402.decode_payment(x402.encode_payment(payment)) == payment


def test_a_payment_is_named_by_its_message(rail: ExactSvmRail) -> None:
    payment = _sign(rail)
    credential = rail.identify(payment)

    assert credential.key == rail.identify(replace(payment, accepted=replace(payment.accepted, amount="1"))).key
    assert len(credential.key) == 64
    assert str(credential.wallet) == f"solana:{BUYER.address}"
    assert (credential.payer, credential.amount, credential.asset) == (BUYER.address, PRICE, USDC)
    assert (credential.network, credential.expires_at, credential.proved) == (DEVNET, None, True)


def test_two_payments_for_equal_requests_are_two(rail: ExactSvmRail) -> None:
    assert rail.identify(_sign(rail)).key != rail.identify(_sign(rail, replace(ASKED))).key


@pytest.mark.parametrize(
    "change",
    [{"scheme": "upto"}, {"amount": "1"}, {"pay_to": THIEF.address}, {"network": "solana:x"}, {"asset": THIEF.address}],
    ids=str,
)
def test_what_was_chosen_must_be_our_offer(rail: ExactSvmRail, change: dict[str, Any]) -> None:
    payment = _sign(rail)

    with pytest.raises(x402.PaymentTermsMismatch):
        rail.check(replace(payment, accepted=replace(payment.accepted, **change)), ASKED)


def test_a_mismatch_names_what_is_signed_and_what_was_expected(rail: ExactSvmRail) -> None:
    dearer = replace(ASKED, price=Money(PRICE + 1))

    with pytest.raises(x402.PaymentTermsMismatch) as error:
        rail.check(_sign(rail), dearer)
    assert "payload.transaction.amount is 45000, expected 45001" in error.value.message


def test_extra_fields_of_the_echo_do_not_matter(rail: ExactSvmRail) -> None:
    payment = _sign(rail)

    rail.check(replace(payment, accepted=replace(payment.accepted, extra={}, max_timeout_seconds=0)), ASKED)


@pytest.mark.parametrize(
    ("balance", "held", "refused"),
    [(None, 0, False), (PRICE, 0, False), (PRICE - 1, 0, True), (0, 0, True), (PRICE, 1, True), (None, 1, False)],
)
async def test_a_payer_must_hold_the_amount(balance: int | None, held: int, refused: bool) -> None:  # noqa: FBT001
    chain = Chain(balance)
    rail = rail_on(chain, ManualClock())

    told = await rail.admit(rail.identify(_sign(rail)), held=held)

    assert told == (Rejected(reason="insufficient_funds", message="") if refused else None)
    assert len(chain.asked) == 1


@pytest.mark.parametrize(
    "change",
    [{"scheme": "upto"}, {"asset": "0x12"}, {"pay_to": "me"}, {"extra": {}}, {"extra": {"feePayer": 7}}],
    ids=str,
)
def test_an_offer_that_cannot_be_signed_is_not(rail: ExactSvmRail, change: dict[str, Any]) -> None:
    offer = replace(rail.offer(ASKED), **change)

    with pytest.raises(UnsupportedOffer):
        sign_exact_svm(x402.PaymentRequired(accepts=[offer]), offer, BUYER, blockhash=BLOCKHASH, decimals=6)


@pytest.mark.parametrize(
    ("memo", "taken"),
    [
        ("0123456789abcdef" * 2, True),
        ("0123456789ABCDEF" * 2, False),
        ("0123456789abcdef" * 2 + "0", False),
        ("", False),
    ],
)
def test_random_memos_of_older_clients_are_taken_where_that_is_wished(memo: str, taken: bool) -> None:  # noqa: FBT001
    strict = rail_on(Chain(), ManualClock())
    offer = strict.offer(ASKED)
    signed = replace(offer, extra={**offer.extra, "memo": memo})
    payment = sign_exact_svm(x402.PaymentRequired(accepts=[signed]), signed, BUYER, blockhash=BLOCKHASH, decimals=6)

    with pytest.raises(MemoMismatch):
        strict.check(payment, ASKED)
    lenient = rail_on(Chain(), ManualClock(), unbound_memos=True)
    lenient.check(_sign(lenient), ASKED)
    if taken:
        lenient.check(payment, ASKED)
    else:
        with pytest.raises(MemoMismatch):
            lenient.check(payment, ASKED)
