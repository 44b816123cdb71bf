from __future__ import annotations

from dataclasses import replace

import pytest

from stablestudio.protocols import x402
from stablestudio.protocols.eip3009 import Authorization
from stablestudio.protocols.wallet import Wallet
from stablestudio.protocols.x402 import PaymentPayload, PaymentRequirements

from .builders import KEY, NONCE, NOW, OFFER, PAY_TO, REQUIRED, STRANGER, USDC, payment
from .test_evm import ORDER, twin


def signed(**changes: object) -> PaymentPayload:
    """A payment whose authorization was changed after it was signed."""
    good = payment()
    return replace(good, authorization=replace(good.authorization, **changes))  # type: ignore[arg-type]


def test_a_good_payment_names_its_payer_and_its_key() -> None:
    verified = x402.check_exact(payment(), OFFER, now_s=NOW)
    assert verified.payer == Wallet.parse("eip155:84532", KEY.address)
    assert verified.key == f"{KEY.address.lower()}:0x{NONCE.hex()}"
    assert verified.authorization == payment().authorization
    assert verified.signature == payment().signature


def test_the_buyers_signature_binds_what_the_offer_asks() -> None:
    assert payment().authorization == Authorization(
        sender=KEY.address.lower(),
        recipient=PAY_TO.lower(),
        value=134000,
        valid_after=NOW - 600,
        valid_before=NOW + 300,
        nonce=NONCE,
    )
    assert payment().resource == {
        "url": "https://studio.test/api/generate/nano-banana-pro/generate",
        "description": "Nano Banana Pro - generate",
        "mimeType": "application/json",
        "serviceName": "StableStudio",
        "tags": ["image"],
    }


def test_each_payment_has_a_nonce_of_its_own() -> None:
    nonces = {x402.sign_exact(REQUIRED, OFFER, KEY, now_s=NOW).authorization.nonce for _ in range(3)}
    assert len(nonces) == 3


def test_v_of_a_hardware_wallet_is_accepted_and_made_what_the_token_wants() -> None:
    good = payment()
    raw = replace(good, signature=good.signature[:64] + bytes((good.signature[64] - 27,)))
    assert x402.check_exact(raw, OFFER, now_s=NOW).signature == good.signature


@pytest.mark.parametrize(
    "changes",
    [
        {"value": 133999},
        {"recipient": "0x" + "66" * 20},
        {"nonce": bytes(32)},
        {"valid_after": 0},
        {"valid_before": NOW + 301},
        {"sender": STRANGER.address.lower()},
    ],
)
def test_a_field_changed_after_signing_breaks_the_signature(changes: dict[str, object]) -> None:
    with pytest.raises(x402.PaymentSenderMismatch):
        x402.recover_payer(signed(**changes), OFFER)


@pytest.mark.parametrize(
    "elsewhere",
    [
        replace(OFFER, network="eip155:84531"),
        replace(OFFER, asset="0x" + "66" * 20),
        replace(OFFER, extra={"name": "USD Coin", "version": "2"}),
        replace(OFFER, extra={"name": "USDC", "version": "1"}),
    ],
)
def test_a_signature_for_another_chain_contract_or_domain_is_refused(elsewhere: PaymentRequirements) -> None:
    foreign = payment(offer=elsewhere)
    disguised = replace(foreign, accepted=OFFER)
    with pytest.raises(x402.PaymentSenderMismatch):
        x402.check_exact(disguised, OFFER, now_s=NOW)


def test_a_strangers_signature_is_refused() -> None:
    with pytest.raises(x402.PaymentSenderMismatch):
        x402.recover_payer(replace(payment(), signature=payment(key=STRANGER).signature), OFFER)


def test_the_high_s_twin_is_refused() -> None:
    with pytest.raises(x402.PaymentSignatureHighS):
        x402.recover_payer(replace(payment(), signature=twin(payment().signature)), OFFER)


@pytest.mark.parametrize(
    "signature",
    [bytes(64) + b"\x1b", ORDER.to_bytes(32) + bytes(31) + b"\x01\x1b", payment().signature[:64] + b"\x1d"],
)
def test_what_no_key_signed_is_refused(signature: bytes) -> None:
    with pytest.raises(x402.PaymentSignatureInvalid):
        x402.recover_payer(replace(payment(), signature=signature), OFFER)


@pytest.mark.parametrize("length", [0, 64, 66, 512])
def test_signatures_of_contract_wallets_are_told_apart(length: int) -> None:
    with pytest.raises(x402.ContractWalletUnsupported, match=f"{length} bytes instead of 65: contract-wallet"):
        x402.recover_payer(replace(payment(), signature=bytes(length)), OFFER)


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("scheme", {"scheme": "upto"}),
        ("network", {"network": "eip155:84531"}),
        ("asset", {"asset": PAY_TO}),
        ("payTo", {"pay_to": USDC}),
        ("amount", {"amount": "6000"}),
    ],
)
def test_other_terms_are_refused_with_what_was_expected(path: str, change: dict[str, str]) -> None:
    chosen = replace(payment(), accepted=replace(OFFER, **change))  # type: ignore[arg-type]
    with pytest.raises(x402.PaymentTermsMismatch) as refusal:
        x402.check_terms(chosen, OFFER)
    (issue,) = refusal.value.issues
    assert issue.path == ("accepted", path)
    assert issue.allowed == (OFFER.wire()[path] if path not in ("asset", "payTo") else OFFER.wire()[path].lower(),)
    assert f"accepted.{path} is " in refusal.value.message
    assert "expected " in refusal.value.message


def test_a_cheap_payment_does_not_buy_a_dear_thing() -> None:
    cheap = payment(offer=replace(OFFER, amount="6000"))
    for chosen in (cheap, replace(cheap, accepted=OFFER)):
        with pytest.raises(x402.PaymentTermsMismatch, match=r"authorization\.value is 6000, expected 134000"):
            x402.check_exact(chosen, OFFER, now_s=NOW)


def test_a_dear_payment_is_not_taken_for_a_cheap_thing() -> None:
    with pytest.raises(x402.PaymentTermsMismatch):
        x402.check_exact(payment(), replace(OFFER, amount="133999"), now_s=NOW)


def test_a_payment_to_somebody_else_is_refused() -> None:
    theft = payment(offer=replace(OFFER, pay_to=KEY.address))
    with pytest.raises(x402.PaymentTermsMismatch, match=r"authorization\.to is"):
        x402.check_exact(replace(theft, accepted=OFFER), OFFER, now_s=NOW)


def test_all_differences_are_told_at_once() -> None:
    with pytest.raises(x402.PaymentTermsMismatch) as refusal:
        x402.check_terms(payment(offer=replace(OFFER, amount="1", pay_to=USDC)), OFFER)
    assert [".".join(map(str, issue.path)) for issue in refusal.value.issues] == [
        "accepted.payTo",
        "accepted.amount",
        "payload.authorization.to",
        "payload.authorization.value",
    ]


def test_only_the_terms_of_an_echo_count() -> None:
    echo = replace(OFFER, pay_to=PAY_TO.lower(), asset=USDC.lower(), max_timeout_seconds=0, extra={}, other={"x": 1})
    assert x402.check_exact(replace(payment(), accepted=echo), OFFER, now_s=NOW).key == payment().authorization.key


@pytest.mark.parametrize("now", [NOW - 599, NOW, NOW + 294])
def test_a_payment_is_good_from_after_valid_after_to_six_seconds_before_its_end(now: int) -> None:
    x402.check_time(payment(), now_s=now)


def test_a_payment_before_its_time_is_refused() -> None:
    with pytest.raises(x402.PaymentNotYetValid):
        x402.check_time(payment(), now_s=NOW - 600)


@pytest.mark.parametrize("now", [NOW + 295, NOW + 300, NOW + 10**6])
def test_a_payment_too_late_to_settle_is_refused(now: int) -> None:
    with pytest.raises(x402.PaymentExpired):
        x402.check_time(payment(), now_s=now)


def test_a_payment_that_lives_for_ever_is_good() -> None:
    x402.check_time(signed(valid_before=2**256 - 1), now_s=NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"scheme": "upto"},
        {"network": "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1"},
        {"network": "eip155:\u0661"},
        {"network": "eip155:"},
        {"asset": "USDC"},
        {"pay_to": "nobody"},
        {"extra": {}},
        {"extra": {"name": "USDC"}},
        {"extra": {"name": "USDC", "version": 2}},
    ],
)
def test_a_buyer_signs_only_what_eip_3009_can_pay(change: dict[str, object]) -> None:
    with pytest.raises(x402.UnsupportedOffer):
        x402.sign_exact(REQUIRED, replace(OFFER, **change), KEY, now_s=NOW)  # type: ignore[arg-type]


def test_a_payment_identifier_is_sent_where_it_is_offered() -> None:
    identifier = "order_0123456789"
    sent = x402.sign_exact(REQUIRED, OFFER, KEY, now_s=NOW, payment_id=identifier)
    assert x402.payment_identifier(sent) == identifier
    assert sent.extensions["payment-identifier"]["info"]["required"] is False
    assert x402.payment_identifier(payment()) is None, "the challenge itself was changed"
    plain = replace(REQUIRED, extensions={"bazaar": {}})
    assert x402.sign_exact(plain, OFFER, KEY, now_s=NOW, payment_id=identifier).extensions == {"bazaar": {}}


def test_a_payment_identifier_of_wrong_form_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="16 to 128 characters"):
        x402.sign_exact(REQUIRED, OFFER, KEY, now_s=NOW, payment_id="short")


def test_every_refusal_is_a_402_that_charged_nothing_and_has_a_code_of_its_own() -> None:
    refusals = [each for each in x402.PaymentRefused.__subclasses__() if each.__module__.endswith("x402.errors")]
    assert {refusal.code for refusal in refusals} == {
        "malformed_payment",
        "payment_terms_mismatch",
        "payment_signature_invalid",
        "payment_signature_high_s",
        "payment_sender_mismatch",
        "contract_wallet_unsupported",
        "payment_not_yet_valid",
        "payment_expired",
    }
    for refusal in refusals:
        body = refusal().body()
        assert (body["status"], body["charged"], body["retryable"]) == (402, False, False)
        assert "nothing was charged" in body["hint"]
