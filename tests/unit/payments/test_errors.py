"""Each reason for which a payment can be rejected has an error of its own that says what to do; only a 402 asks to sign again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import stablestudio.payments
from stablestudio.payments.errors import (
    _BY_REASON,
    PaymentRejected,
    RecipientRefused,
    SettlementUnavailable,
    rejection,
)
from stablestudio.payments.rail import Rejected
from stablestudio.protocols.x402 import PaymentRefused

PAYER, NETWORK = "0x" + "11" * 20, "eip155:84532"
OURS = {"settlement_unavailable": SettlementUnavailable, "recipient_refused": RecipientRefused}
# Where the words that can reach a buyer are written.
SOURCES = (
    "evm/contract_wallets",
    "evm/rpc_chain",
    "evm/facts",
    "facilitators/answers",
    "facilitators/line",
    "evm/reverts",
    "evm/rail",
    "solana/broadcast",
    "solana/rail",
    "tempo/settlement",
    "tempo/rail",
)


def _written() -> set[str]:
    folder = Path(stablestudio.payments.__path__[0])
    texts = [(folder / f"{name}.py").read_text() for name in SOURCES]
    named = [word for text in texts for word in re.findall(r'Rejected\(\s*reason="(\w+)"', text)]
    # The table of a facilitator's refusals: pattern, reason, message.
    return {*named, *re.findall(r'^ {12}"(\w+)",$', texts[SOURCES.index("facilitators/answers")], re.MULTILINE)}


def _told(reason: str) -> object:
    return rejection(Rejected(reason=reason, message=""), payer=PAYER, network=NETWORK)


def test_every_reason_of_the_sources_has_an_error_of_its_own() -> None:
    assert len(_written()) >= 12
    assert _written() - set(_BY_REASON) == set()
    assert len(set(_BY_REASON.values())) == len(_BY_REASON)


@pytest.mark.parametrize("reason", sorted(_BY_REASON))
def test_a_reason_says_whose_fault_it_is(reason: str) -> None:
    error = _told(reason)
    if reason in OURS:
        assert type(error) is OURS[reason]
        assert error.status in (502, 503)
        return
    assert isinstance(error, PaymentRejected | PaymentRefused)
    assert error.status == 402
    assert not error.retryable
    assert error.hint not in (PaymentRejected.hint, "") or reason in ("payment_expired", "nonce_already_used")


def test_a_rejection_names_payer_network_and_reason_for_the_receipt() -> None:
    error = rejection(Rejected(reason="payer_refused", message="No."), payer=PAYER, network=NETWORK)
    assert isinstance(error, PaymentRejected)
    assert (error.payer, error.network, error.reason, error.message) == (PAYER, NETWORK, "payer_refused", "No.")
    assert (PaymentRejected.payer, PaymentRejected.reason) == ("", "")


def test_an_unknown_reason_is_a_rejection_all_the_same() -> None:
    error = _told("something_new")
    assert type(error) is PaymentRejected
    assert error.reason == "something_new"


def test_the_same_signature_is_good_where_nobody_could_settle_it() -> None:
    error = _told("settlement_unavailable")
    assert isinstance(error, SettlementUnavailable)
    assert (error.status, error.retryable, error.charged) == (503, True, False)
    assert "sign no new one" in error.hint
