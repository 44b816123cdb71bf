from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from stablestudio.client import PriceAboveLimit, PurchaseRefused, StudioApiError
from stablestudio.client.errors import (
    ForeignOffer,
    InvalidAddress,
    MainNetworkNotAllowed,
    NoUsableOffer,
    PurchaseDeclined,
    ServiceUnreachable,
    UnreadableAnswer,
)
from stablestudio.client.fakes import FakeSeller, error_reply
from stablestudio.client.offers import TOKENS, Wish, origin, read_quote
from stablestudio.client.steps import Reply
from stablestudio.money import Money
from stablestudio.protocols import x402

from .builders import WISH, buyer, journal_files

SEPOLIA, BASE = TOKENS
ANY_WISH = Wish(model="m", operation="o", url="http://seller.test/api/generate/m/o", body=b"{}")


def refused(seller: FakeSeller, folder: Path, **options: object) -> PurchaseRefused:
    with pytest.raises(PurchaseRefused) as caught:
        buyer(seller, folder, **options).submit("nano-banana", "generate", WISH)
    assert seller.signatures == []
    assert journal_files(folder) == []
    assert caught.value.money_moved is False
    return caught.value


def test_a_quote_signs_nothing(tmp_path: Path) -> None:
    seller = FakeSeller()
    quote = buyer(seller, tmp_path).quote("nano-banana", "generate", WISH)
    assert (str(quote.amount), quote.network, quote.pay_to) == ("0.067", "eip155:84532", seller.pay_to)
    assert seller.signatures == []
    assert not any("sign" in name.lower() for name in seller.calls[0].headers)


def test_a_price_above_the_limit_is_refused_before_anything_is_signed(tmp_path: Path) -> None:
    error = refused(FakeSeller(), tmp_path, max_price=Money.parse("0.066999"))
    assert (type(error), error.code) == (PriceAboveLimit, "price_above_limit")


def test_the_limit_itself_is_within_the_limit(tmp_path: Path) -> None:
    buyer(FakeSeller(), tmp_path, max_price=Money.parse("0.067")).submit("nano-banana", "generate", WISH)


def test_five_dollars_are_the_limit_where_none_is_given(tmp_path: Path) -> None:
    refused(FakeSeller(price=Money.parse("5.000001")), tmp_path)
    buyer(FakeSeller(price=Money.parse("5")), tmp_path).submit("nano-banana", "generate", WISH)


def test_a_limit_of_the_call_goes_before_that_of_the_client(tmp_path: Path) -> None:
    client = buyer(FakeSeller(), tmp_path, max_price=Money(1))
    client.submit("nano-banana", "generate", WISH, max_price=Money.parse("0.07"))
    with pytest.raises(PriceAboveLimit):
        client.submit("nano-banana", "generate", WISH, max_price=Money(0))


def test_an_offer_for_another_origin_is_refused(tmp_path: Path) -> None:
    assert isinstance(refused(FakeSeller(resource_origin="https://other.test"), tmp_path), ForeignOffer)


def test_a_main_network_needs_an_explicit_word(tmp_path: Path) -> None:
    assert isinstance(refused(FakeSeller(token=BASE), tmp_path), MainNetworkNotAllowed)
    job = buyer(FakeSeller(token=BASE), tmp_path, allow_mainnet=True).submit("nano-banana", "generate", WISH)
    assert job.payment is not None
    assert job.payment.network == "eip155:8453"


@pytest.mark.parametrize(
    "token",
    [
        replace(SEPOLIA, contract="0x2222222222222222222222222222222222222222"),
        replace(SEPOLIA, network="eip155:1"),
        replace(SEPOLIA, domain=("USD Coin", "2")),
        replace(BASE, domain=("USDC", "2")),
    ],
)
def test_a_token_that_is_not_the_networks_dollar_is_refused(tmp_path: Path, token: object) -> None:
    assert isinstance(refused(FakeSeller(token=token), tmp_path, allow_mainnet=True), NoUsableOffer)  # type: ignore[arg-type]


def test_a_buyer_may_decline_after_seeing_the_price(tmp_path: Path) -> None:
    seller = FakeSeller()
    with pytest.raises(PurchaseDeclined):
        buyer(seller, tmp_path).submit("nano-banana", "generate", WISH, approve=lambda quote: quote.amount < Money(1))
    assert seller.signatures == []


def offer(network: str, contract: str, name: str, **extra: str) -> x402.PaymentRequirements:
    return x402.PaymentRequirements(
        network=network,
        amount="67000",
        asset=contract,
        pay_to="0x1111111111111111111111111111111111111111",
        max_timeout_seconds=300,
        extra={"name": name, "version": "2"} | extra,
    )


def test_a_test_network_is_chosen_before_a_main_one() -> None:
    offers = [offer(token.network, token.contract, token.domain[0]) for token in (BASE, SEPOLIA)]
    header = x402.encode_required(x402.PaymentRequired(accepts=offers))
    assert read_quote(header, wish=ANY_WISH).token == SEPOLIA


def test_a_transfer_by_permit_is_no_offer_of_ours() -> None:
    offers = [offer(SEPOLIA.network, SEPOLIA.contract, "USDC", assetTransferMethod="permit2")]
    with pytest.raises(NoUsableOffer):
        read_quote(x402.encode_required(x402.PaymentRequired(accepts=offers)), wish=ANY_WISH)


def test_an_offer_that_cannot_be_read_is_told_apart() -> None:
    with pytest.raises(x402.MalformedOffer):
        read_quote("%%%", wish=ANY_WISH)


def test_wrong_input_comes_back_with_its_issues_and_uncharged(tmp_path: Path) -> None:
    issue = {"path": ["imageSize"], "code": "unknown_value", "message": "no such size", "allowed": ["1K", "2K"]}
    refusal = error_reply(400, "invalid_input", charged=False, hint="Fix it.", issues=[issue])
    seller = FakeSeller(quote_faults=[refusal])
    with pytest.raises(StudioApiError) as caught:
        buyer(seller, tmp_path).submit("nano-banana", "generate", WISH)
    error = caught.value
    assert (error.code, error.status, error.advice, error.money_moved) == ("invalid_input", 400, "Fix it.", False)
    assert error.issues[0].path == ("imageSize",)
    assert error.issues[0].allowed == ("1K", "2K")
    assert seller.signatures == []


def test_a_service_without_an_offer_is_no_seller(tmp_path: Path) -> None:
    for answer in (Reply(status=200, body=b"{}"), Reply(status=402, body=b"{}"), Reply(status=307)):
        with pytest.raises(UnreadableAnswer):
            buyer(FakeSeller(quote_faults=[answer]), tmp_path).quote("nano-banana", "generate", WISH)


def test_asking_the_price_is_tried_again_after_a_lost_answer(tmp_path: Path) -> None:
    seller = FakeSeller(quote_faults=[None, None])
    assert buyer(seller, tmp_path).quote("nano-banana", "generate", WISH).amount == Money(67_000)
    seller.quote_faults = [None] * 9
    with pytest.raises(ServiceUnreachable):
        buyer(seller, tmp_path).quote("nano-banana", "generate", WISH)
    assert len(seller.quote_faults) == 6


@pytest.mark.parametrize(
    "url", ["", "seller.test", "ftp://seller.test", "http://", "http://me@seller.test", "http://h:x"]
)
def test_what_is_no_http_address_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(InvalidAddress):
        buyer(FakeSeller(origin=url), tmp_path)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://Seller.test:443/x", "https://seller.test"),
        ("http://seller.test:80", "http://seller.test"),
        ("http://seller.test:8402/", "http://seller.test:8402"),
        ("http://[::1]:8402", "http://[::1]:8402"),
        ("http://seller.test@other.test", ""),
    ],
)
def test_origins_have_one_spelling(url: str, expected: str) -> None:
    assert origin(url) == expected
