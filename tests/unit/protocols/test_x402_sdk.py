"""The x402 SDK for Python as the oracle: what one side writes the other side reads, signs and verifies."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest
from eth_account import Account
from x402 import x402ClientSync
from x402.http.utils import (
    decode_payment_required_header,
    decode_payment_response_header,
    decode_payment_signature_header,
    encode_payment_required_header,
    encode_payment_response_header,
    encode_payment_signature_header,
)
from x402.mechanisms.evm.exact.client import ExactEvmScheme
from x402.mechanisms.evm.exact.facilitator import ExactEvmScheme as Facilitator
from x402.schemas import PaymentPayload, PaymentRequired, PaymentRequirements, SettleResponse

from stablestudio.protocols import x402 as ours

from .builders import KEY, NOW, OFFER, REQUIRED, payment, unb64


class Chain:
    """A chain on which every contract call succeeds, so that only the SDK's local rules decide."""

    def get_addresses(self) -> list[str]:
        return [KEY.address]

    def get_code(self, address: str) -> bytes:
        return b"\x60" if address.lower() == OFFER.asset.lower() else b""

    def read_contract(self, *args: Any) -> None:
        return None


@pytest.fixture
def extensions(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make the SDK's extensions importable without what their package initialiser wants installed."""
    if find_spec("jsonschema") is None:
        spec = find_spec("x402")
        assert spec is not None
        assert spec.origin is not None
        package = ModuleType("x402.extensions")
        package.__path__ = [str(Path(spec.origin).parent / "extensions")]
        monkeypatch.setitem(sys.modules, "x402.extensions", package)
    yield
    for name in [name for name in sys.modules if name.startswith("x402.extensions.")]:
        monkeypatch.delitem(sys.modules, name)


def test_the_sdk_reads_our_challenge() -> None:
    theirs = decode_payment_required_header(ours.encode_required(REQUIRED))
    assert isinstance(theirs, PaymentRequired)
    assert theirs.accepts[0].model_dump(by_alias=True) == OFFER.wire()
    assert theirs.resource is not None
    assert theirs.resource.service_name == "StableStudio"
    assert theirs.extensions == dict(REQUIRED.extensions)


def test_we_read_the_sdks_challenge() -> None:
    theirs = PaymentRequired.model_validate(REQUIRED.wire())
    assert ours.decode_required(encode_payment_required_header(theirs)) == REQUIRED


def test_a_payment_of_the_sdks_client_is_good_for_us() -> None:
    client = x402ClientSync()
    client.register("eip155:*", ExactEvmScheme(Account.from_key(KEY.hex())))
    challenge = decode_payment_required_header(ours.encode_required(REQUIRED))
    assert isinstance(challenge, PaymentRequired)
    theirs = client.create_payment_payload(challenge)
    assert isinstance(theirs, PaymentPayload)
    read = ours.decode_payment(encode_payment_signature_header(theirs))
    assert isinstance(read, ours.PaymentPayload)
    verified = ours.check_exact(read, OFFER, now_s=read.authorization.valid_before - OFFER.max_timeout_seconds)
    assert verified.payer.display == KEY.address
    assert read.accepted == OFFER
    assert read.extensions == REQUIRED.extensions


def test_our_payment_is_good_for_the_sdks_facilitator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("x402.mechanisms.evm.exact.facilitator.time.time", lambda: NOW)
    theirs = decode_payment_signature_header(ours.encode_payment(payment()))
    assert isinstance(theirs, PaymentPayload)
    facilitator = Facilitator(cast(Any, Chain()))
    verdict = facilitator.verify(theirs, PaymentRequirements.model_validate(OFFER.wire()))
    assert (verdict.invalid_reason, verdict.is_valid, verdict.payer) == (None, True, KEY.address)
    theirs.payload["authorization"]["value"] = "134001"
    dearer = PaymentRequirements.model_validate(OFFER.wire() | {"amount": "134001"})
    assert not facilitator.verify(theirs, dearer).is_valid


def test_settlements_go_both_ways() -> None:
    settled = ours.SettleResponse(success=True, network=OFFER.network, transaction="0x7a80", payer=KEY.address)
    theirs = decode_payment_response_header(ours.encode_response(settled))
    assert (theirs.success, theirs.network, theirs.transaction) == (True, OFFER.network, "0x7a80")
    assert ours.decode_response(encode_payment_response_header(theirs)) == settled
    failed = SettleResponse(success=False, network=OFFER.network, transaction="", error_reason="insufficient_funds")
    assert ours.decode_response(encode_payment_response_header(failed)).error_reason == "insufficient_funds"


@pytest.mark.usefixtures("extensions")
def test_payment_identifiers_are_declared_and_found_as_the_sdk_does() -> None:
    theirs = importlib.import_module("x402.extensions.payment_identifier")
    assert ours.declare_payment_identifier() == {"payment-identifier": theirs.declare_payment_identifier_extension()}
    sent = ours.sign_exact(REQUIRED, OFFER, KEY, now_s=NOW, payment_id="order_0123456789")
    read = PaymentPayload.model_validate(unb64(ours.encode_payment(sent)))
    assert theirs.extract_payment_identifier(read) == "order_0123456789"
    filled = theirs.append_payment_identifier_to_extensions(dict(REQUIRED.extensions), "order_0123456789")
    assert filled == sent.extensions
