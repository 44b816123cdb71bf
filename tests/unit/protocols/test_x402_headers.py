from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablestudio.errors import StudioError
from stablestudio.protocols import x402

from .builders import OFFER, REQUIRED, b64, payment, payment_json, unb64

MARK = "Zm9yZ2Vk<script>"
json_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def put(path: str, value: object) -> dict[str, Any]:
    """A good payment in which one part was replaced, or removed by `...`."""
    body = payment_json()
    *parents, name = path.split(".")
    node = body
    for parent in parents:
        node = node[parent]
    node[name] = value
    if value is ...:
        del node[name]
    return body


def test_a_payment_is_read_back_as_it_was_sent() -> None:
    assert x402.decode_payment(x402.encode_payment(payment())) == payment()


def test_a_challenge_is_read_back_as_it_was_sent() -> None:
    assert x402.decode_required(x402.encode_required(REQUIRED)) == REQUIRED


def test_a_challenge_has_the_members_that_stock_buyers_need() -> None:
    body = unb64(x402.encode_required(REQUIRED))
    assert body["x402Version"] == 2
    assert body["resource"]["url"] == "https://studio.test/api/generate/nano-banana-pro/generate"
    assert body["accepts"][0] == {
        "scheme": "exact",
        "network": "eip155:84532",
        "amount": "134000",
        "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
        "payTo": "0x209693Bc6afc0C5328bA36FaF03C514EF312287C",
        "maxTimeoutSeconds": 300,
        "extra": {"name": "USDC", "version": "2"},
    }


def test_the_echo_keeps_members_that_we_do_not_know() -> None:
    body = unb64(x402.encode_required(REQUIRED))
    body["accepts"][0]["quoteId"] = {"nested": [1]}
    body["resource"]["method"] = "POST"
    body["extensions"]["bazaar"] = {"info": {}}
    required = x402.decode_required(b64(body))
    assert unb64(x402.encode_required(required)) == body


def _evm(header: str) -> x402.PaymentPayload:
    read = x402.decode_payment(header)
    assert isinstance(read, x402.PaymentPayload)
    return read


def test_unknown_members_of_a_payment_are_tolerated() -> None:
    body = payment_json()
    for node in (body, body["payload"], body["payload"]["authorization"], body["accepted"]):
        node["unknown"] = {"deep": [1, None]}
    assert _evm(b64(body)).authorization == payment().authorization


@pytest.mark.parametrize("absent", [..., None])
def test_optional_members_may_be_absent_or_null(absent: object) -> None:
    for path in ("resource", "extensions", "accepted.extra", "accepted.maxTimeoutSeconds"):
        read = _evm(b64(put(path, absent)))
        assert read.authorization == payment().authorization


def test_addresses_and_hex_may_have_any_case() -> None:
    body = payment_json()
    body["payload"]["authorization"] |= {
        name: "0x" + body["payload"]["authorization"][name][2:].upper() for name in ("from", "to", "nonce")
    }
    assert _evm(b64(body)).authorization == payment().authorization


JUNK: list[tuple[str, object]] = [
    ("x402Version", ...),
    ("x402Version", 1),
    ("x402Version", "2"),
    ("x402Version", 2.0),
    ("x402Version", True),
    ("payload", ...),
    ("payload", []),
    ("payload", MARK),
    ("payload.signature", ...),
    ("payload.signature", MARK),
    ("payload.signature", "0x0"),
    ("payload.signature", "0x" + "0" * 8194),
    ("payload.signature", "0x\u0660\u0660"),
    ("payload.signature", ["0x00"]),
    ("payload.authorization", ...),
    ("payload.authorization", None),
    ("payload.authorization.from", ...),
    ("payload.authorization.from", MARK),
    ("payload.authorization.from", "0x" + "ab" * 19),
    ("payload.authorization.from", "0x" + "ab" * 20 + "\n"),
    ("payload.authorization.to", "0x" + "ab" * 21),
    ("payload.authorization.to", int("ab" * 20, 16)),
    ("payload.authorization.value", 134000),
    ("payload.authorization.value", "-1"),
    ("payload.authorization.value", "+1"),
    ("payload.authorization.value", " 1"),
    ("payload.authorization.value", "0134000"),
    ("payload.authorization.value", "134000.0"),
    ("payload.authorization.value", "1e6"),
    ("payload.authorization.value", "0x20b70"),
    ("payload.authorization.value", "1_000"),
    ("payload.authorization.value", "\u0661\u0663"),
    ("payload.authorization.value", "\uff11"),
    ("payload.authorization.value", str(2**256)),
    ("payload.authorization.value", "9" * 5000),
    ("payload.authorization.validAfter", ""),
    ("payload.authorization.validAfter", None),
    ("payload.authorization.validBefore", False),
    ("payload.authorization.validBefore", str(2**256)),
    ("payload.authorization.nonce", "0x" + "11" * 31),
    ("payload.authorization.nonce", "0x" + "11" * 33),
    ("payload.authorization.nonce", "11" * 32),
    ("payload.authorization.nonce", 1),
    ("accepted", ...),
    ("accepted", []),
    ("accepted.scheme", ...),
    ("accepted.scheme", MARK),
    ("accepted.scheme", {"exact": 1}),
    ("accepted.network", "base-sepolia"),
    ("accepted.network", "eip155:\u0661"),
    ("accepted.asset", MARK),
    ("accepted.payTo", None),
    ("accepted.amount", 134000),
    ("accepted.amount", "0.134"),
    ("accepted.maxTimeoutSeconds", "300"),
    ("accepted.maxTimeoutSeconds", -1),
    ("accepted.extra", MARK),
    ("resource", MARK),
    ("extensions", [MARK]),
    ("extensions", {str(number): 1 for number in range(33)}),
]


@pytest.mark.parametrize(("path", "junk"), JUNK)
def test_a_part_of_wrong_form_is_named_and_not_repeated(path: str, junk: object) -> None:
    with pytest.raises(x402.MalformedPayment) as refusal:
        x402.decode_payment(b64(put(path, junk)))
    assert f" {path} " in refusal.value.message
    assert MARK not in refusal.value.message
    assert (refusal.value.code, refusal.value.status, refusal.value.charged) == ("malformed_payment", 402, False)


def test_permit2_payments_are_told_that_they_are_not_taken() -> None:
    body = payment_json()
    body["payload"] = {"signature": "0x", "permit2Authorization": "AAAA"}
    with pytest.raises(x402.MalformedPayment, match="Permit2 payloads are not accepted"):
        x402.decode_payment(b64(body))


def test_a_payment_with_a_transaction_is_read_as_one_on_solana() -> None:
    body = payment_json()
    body["payload"] = {"transaction": "AQID"}
    read = x402.decode_payment(b64(body))
    assert isinstance(read, x402.SolanaPayload)
    assert read.transaction == b"\x01\x02\x03"
    assert x402.decode_payment(x402.encode_payment(read)) == read


@pytest.mark.parametrize("junk", ["", "A", "AB=C", "A===", "%%%%", 7, None, "A" * 1648])
def test_a_transaction_that_is_no_base64_of_one_packet_is_refused(junk: object) -> None:
    body = payment_json()
    body["payload"] = {"transaction": junk}
    with pytest.raises(x402.MalformedPayment, match=r"payload\.transaction"):
        x402.decode_payment(b64(body))


def test_a_header_beyond_the_limit_is_refused_unread() -> None:
    body = payment_json()
    body["extensions"] = {"padding": "x" * x402.MAX_HEADER}
    with pytest.raises(x402.MalformedPayment, match="at most 16384 characters"):
        x402.decode_payment(b64(body))
    assert x402.decode_payment(b64(body), limit=64 * 1024).extensions == body["extensions"]


DECODERS: list[tuple[Callable[[str], object], type[StudioError]]] = [
    (x402.decode_payment, x402.MalformedPayment),
    (x402.decode_required, x402.MalformedOffer),
    (x402.decode_response, x402.MalformedReceipt),
]


@pytest.mark.parametrize(("decode", "refusal"), DECODERS)
@given(data=st.data())
def test_any_header_is_read_or_refused_by_the_decoders_own_error(
    decode: Callable[[str], object], refusal: type[StudioError], data: st.DataObject
) -> None:
    def encode(value: object) -> str:
        return base64.b64encode(json.dumps(value).encode()).decode()

    header = data.draw(st.text() | st.binary().map(lambda raw: base64.b64encode(raw).decode()) | json_value.map(encode))
    with pytest.raises(refusal):
        decode(header)


@given(path=st.sampled_from([path for path, _ in JUNK]), junk=json_value)
def test_any_value_in_any_part_of_a_payment_is_read_or_refused(path: str, junk: object) -> None:
    try:
        read = x402.decode_payment(b64(put(path, junk)))
    except x402.MalformedPayment:
        return
    x402.encode_payment(read).encode()


@given(field=st.sampled_from(["error", "resource", "accepts", "extensions"]), junk=json_value)
def test_any_value_in_any_part_of_a_challenge_is_read_or_refused(field: str, junk: object) -> None:
    try:
        required = x402.decode_required(b64(unb64(x402.encode_required(REQUIRED)) | {field: junk}))
    except x402.MalformedOffer:
        return
    x402.encode_required(required).encode()


@pytest.mark.parametrize("name", ["network", "amount", "asset", "payTo", "scheme", "maxTimeoutSeconds"])
def test_an_offer_without_one_of_its_terms_is_refused(name: str) -> None:
    body = unb64(x402.encode_required(REQUIRED))
    del body["accepts"][0][name]
    with pytest.raises(x402.MalformedOffer, match=rf"accepts\.{name} "):
        x402.decode_required(b64(body))


def test_a_settlement_is_read_back_as_it_was_sent() -> None:
    settled = x402.SettleResponse(
        success=True, network=OFFER.network, transaction="0x" + "7a" * 32, payer=OFFER.pay_to, amount="134000"
    )
    assert x402.decode_response(x402.encode_response(settled)) == settled


def test_a_failed_settlement_may_be_terse_and_keeps_its_transaction() -> None:
    pending = {"success": False, "errorReason": "settlement_pending", "transaction": "0xab", "errorMessage": "x" * 900}
    read = x402.SettleResponse.read(pending)
    assert (read.success, read.error_reason, read.transaction, read.network) == (
        False,
        "settlement_pending",
        "0xab",
        "",
    )
    assert read.error_message == "x" * 500


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"success": "true"},
        {"success": 1},
        {"success": True, "transaction": 1},
        {"success": True, "transaction": "0x ab"},
        {"success": True, "payer": {}},
        {"success": True, "amount": 134000},
        {"success": True, "network": "\n"},
    ],
)
def test_a_settlement_of_wrong_form_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(x402.MalformedReceipt):
        x402.SettleResponse.read(body)


def test_a_payment_identifier_travels_from_buyer_to_seller() -> None:
    identifier = "pay_7d5d747be160e280504c099d984bcfe0"
    assert x402.payment_identifier(payment()) is None
    body = payment_json()
    body["extensions"]["payment-identifier"]["info"]["id"] = identifier
    assert x402.payment_identifier(x402.decode_payment(b64(body))) == identifier


@pytest.mark.parametrize("extensions", [{}, {"payment-identifier": None}, {"payment-identifier": {}}, {"other": 1}])
def test_no_payment_identifier_is_none(extensions: dict[str, Any]) -> None:
    assert x402.payment_identifier(x402.decode_payment(b64(put("extensions", extensions)))) is None


@pytest.mark.parametrize(
    "extension",
    [
        "pay_7d5d747be160e280504c099d984bcfe0",
        [],
        {"info": "pay_7d5d747be160e280"},
        {"info": {"id": ""}},
        {"info": {"id": "x" * 15}},
        {"info": {"id": "x" * 129}},
        {"info": {"id": "x" * 15 + "."}},
        {"info": {"id": "x" * 16 + "\n"}},
        {"info": {"id": "\u00e9" * 16}},
        {"info": {"id": 1234567890123456}},
    ],
)
def test_a_payment_identifier_of_wrong_form_is_refused(extension: object) -> None:
    read = x402.decode_payment(b64(put("extensions", {"payment-identifier": extension})))
    with pytest.raises(x402.MalformedPayment, match=r"extensions\.payment-identifier"):
        x402.payment_identifier(read)
