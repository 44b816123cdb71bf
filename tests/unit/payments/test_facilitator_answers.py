"""What each answer of a facilitator means: a table of status and body, and laws that no answer breaks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablestudio.payments.facilitators.answers import Answer, Passed, Submission, read_settlement, read_verdict
from stablestudio.payments.rail import Rejected, Settled, Unknown
from tests.doubles import BUYER

TX = "0x" + "7a" * 32
NETWORK = "eip155:84532"
PAID = {"success": True, "transaction": TX, "network": NETWORK, "payer": BUYER.address, "amount": "45000"}
SUBMISSION = Submission(
    key="key", network=NETWORK, payer=BUYER.address.lower(), amount=45_000, expires_at=2_000_000_000, content=b"{}"
)


def no(reason: Any, **fields: Any) -> dict[str, Any]:
    return {"success": False, "errorReason": reason, "transaction": "", "network": NETWORK, **fields}


def read(status: int, body: Any) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_settlement(status, data, submission=SUBMISSION)


# status, body, kind of answer, its reason
ROWS: list[tuple[int, Any, type[Any], str]] = [
    (200, PAID, Settled, TX),
    (200, {"success": True, "transaction": TX}, Settled, TX),
    (200, PAID | {"network": "base-sepolia"}, Settled, TX),
    (200, PAID | {"payer": BUYER.address.lower(), "extensions": {}, "extra": {"a": 1}}, Settled, TX),
    # Success that proves nothing
    (200, {"success": True}, Unknown, "receipt_without_transaction"),
    (200, PAID | {"transaction": ""}, Unknown, "receipt_without_transaction"),
    (200, PAID | {"transaction": None}, Unknown, "receipt_without_transaction"),
    (200, PAID | {"transaction": "0x12"}, Unknown, "receipt_without_transaction"),
    (200, PAID | {"transaction": ["x"]}, Unknown, "receipt_unreadable"),
    (200, PAID | {"network": "eip155:8453"}, Unknown, "receipt_of_another_payment"),
    (200, PAID | {"payer": "0x" + "1" * 40}, Unknown, "receipt_of_another_payment"),
    (200, PAID | {"amount": "45001"}, Unknown, "receipt_of_another_payment"),
    (200, PAID | {"success": "true"}, Unknown, "facilitator_answered_200"),
    (202, PAID, Unknown, "facilitator_answered_202"),
    (302, PAID, Unknown, "facilitator_answered_302"),
    (400, PAID, Unknown, "facilitator_answered_400"),
    (500, PAID, Unknown, "facilitator_answered_500"),
    # The payment is at fault
    (200, no("insufficient_funds"), Rejected, "insufficient_funds"),
    (400, no("insufficient_funds"), Rejected, "insufficient_funds"),
    (402, no("invalid_exact_evm_insufficient_balance"), Rejected, "insufficient_funds"),
    (403, no("insufficient_funds"), Rejected, "insufficient_funds"),
    (200, no("invalid_exact_evm_payload_authorization_valid_before"), Rejected, "payment_expired"),
    (200, no("payment_expired"), Rejected, "payment_expired"),
    (200, no("invalid_exact_evm_payload_authorization_valid_after"), Rejected, "payment_not_yet_valid"),
    (200, no("invalid_exact_evm_payload_signature"), Rejected, "invalid_signature"),
    (200, no("invalid_exact_evm_payload_signature_address"), Rejected, "invalid_signature"),
    (200, no("invalid_exact_evm_payload_authorization_typed_data_message"), Rejected, "invalid_signature"),
    (200, no("invalid_exact_evm_payload_undeployed_smart_wallet"), Rejected, "wallet_not_deployable"),
    (200, no("invalid_exact_evm_payload_authorization_from_address_kyt"), Rejected, "payer_refused"),
    (403, no("invalid_exact_evm_payload_authorization_to_address_kyt"), Rejected, "recipient_refused"),
    (200, no("invalid_exact_evm_payload_recipient_mismatch"), Rejected, "payment_refused"),
    (400, {"isValid": False, "invalidReason": "insufficient_funds"}, Rejected, "insufficient_funds"),
    # The facilitator is at fault, and did nothing
    (200, no("unsupported_scheme"), Passed, "unsupported_scheme"),
    (200, no("invalid_network"), Passed, "invalid_network"),
    (400, no("invalid_x402_version"), Passed, "invalid_x402_version"),
    (200, no("eip6492_factory_not_allowed"), Passed, "eip6492_factory_not_allowed"),
    (200, no("missing_eip712_domain"), Passed, "missing_eip712_domain"),
    (200, no("invalid_exact_evm_eip3009_not_supported"), Passed, "invalid_exact_evm_eip3009_not_supported"),
    (402, {"errorType": "payment_method_required"}, Passed, "facilitator_answered_402"),
    (400, {"errorType": "payment_method_required", "errorMessage": "x"}, Passed, "facilitator_answered_400"),
    (401, b"", Passed, "facilitator_answered_401"),
    (401, {"error": "Unauthorized"}, Passed, "facilitator_answered_401"),
    (401, no(None), Passed, "facilitator_answered_401"),
    (403, b"<html>forbidden</html>", Passed, "facilitator_answered_403"),
    (404, b"not found", Passed, "facilitator_answered_404"),
    (429, b"slow down", Passed, "facilitator_answered_429"),
    (429, no("too many requests"), Passed, "too_many_requests"),
    (503, b"<html>upstream</html>", Passed, "facilitator_answered_503"),
    (503, {"error": "busy"}, Passed, "facilitator_answered_503"),
    # Nobody knows
    (500, no("settlement_pending", transaction=TX), Unknown, "settlement_pending"),
    (200, no("settlement_pending", transaction=TX), Unknown, "settlement_pending"),
    (200, no("settlement_pending", paymentId="p1"), Unknown, "settlement_pending"),
    (202, no("settlement_pending", transaction=TX), Unknown, "settlement_pending"),
    (400, no("settlement_pending"), Unknown, "settlement_pending"),
    (500, {"errorReason": "settlement_pending", "transaction": TX}, Unknown, "facilitator_answered_500"),
    (500, {"success": False, "errorType": "settlement_pending"}, Unknown, "settlement_pending"),
    (503, no("settlement_pending", transaction=TX), Unknown, "settlement_pending"),
    (500, no("transaction_failed", transaction=TX), Unknown, "transaction_failed"),
    (200, no("insufficient_funds", transaction=TX), Unknown, "insufficient_funds"),
    (200, no("anything", txHash=TX), Unknown, "anything"),
    (500, no("insufficient_funds"), Unknown, "insufficient_funds"),
    (503, no("unsupported_scheme"), Unknown, "unsupported_scheme"),
    (502, b"bad gateway", Unknown, "facilitator_answered_502"),
    (504, b"", Unknown, "facilitator_answered_504"),
    (500, {"errorType": "internal_server_error"}, Unknown, "facilitator_answered_500"),
    (200, no("duplicate_settlement"), Unknown, "duplicate_settlement"),
    (429, no("duplicate_settlement"), Unknown, "duplicate_settlement"),
    (200, no("unexpected_settle_error"), Unknown, "unexpected_settle_error"),
    (200, no("transaction_failed"), Unknown, "transaction_failed"),
    (200, no("invalid_transaction_state"), Unknown, "invalid_transaction_state"),
    (200, no("invalid_exact_evm_transfer_event_mismatch"), Unknown, "invalid_exact_evm_transfer_event_mismatch"),
    (200, no("smart_wallet_deployment_failed"), Unknown, "smart_wallet_deployment_failed"),
    (200, no("invalid_exact_evm_nonce_already_used"), Unknown, "invalid_exact_evm_nonce_already_used"),
    (200, no("Timed out; waiting for receipt"), Unknown, "timed_out_waiting_for_receipt"),
    (200, no("out of cheese"), Unknown, "out_of_cheese"),
    (200, no(None), Unknown, "refused_without_reason"),
    (200, no(7), Unknown, "refused_without_reason"),
    (200, b"", Unknown, "facilitator_answered_200"),
    (200, b"{}", Unknown, "facilitator_answered_200"),
    (200, b'{"success": true, "transa', Unknown, "facilitator_answered_200"),
    (200, b"<html>hello</html>", Unknown, "facilitator_answered_200"),
    (200, b"[1]", Unknown, "facilitator_answered_200"),
    (200, b"[" * 100_000, Unknown, "facilitator_answered_200"),
    (200, b"\xff\xfe", Unknown, "facilitator_answered_200"),
    (200, {"isValid": True}, Unknown, "facilitator_answered_200"),
    (204, b"", Unknown, "facilitator_answered_204"),
    (307, b"", Unknown, "facilitator_answered_307"),
    (400, b"bad request", Unknown, "facilitator_answered_400"),
    (400, {"errorType": "invalid_request"}, Unknown, "facilitator_answered_400"),
    (408, b"", Unknown, "facilitator_answered_408"),
    (409, {"error": "conflict"}, Unknown, "facilitator_answered_409"),
]


@pytest.mark.parametrize(("status", "body", "kind", "reason"), ROWS)
def test_each_answer_is_understood(status: int, body: Any, kind: type[Answer], reason: str) -> None:
    answer = read(status, body)

    assert isinstance(answer, kind)
    assert (answer.transaction if isinstance(answer, Settled) else answer.reason) == reason


EXACT, PAYLOAD = "invalid_exact_evm_", "invalid_exact_evm_payload_"
# Every code that specification, SDKs and services have for `exact` on EVM networks (facts: x402, section 4.5), and what
# a settlement that answers with it means for the money.
CODES: dict[str, str | type[Answer]] = {
    # The payment is at fault, before anything was sent.
    "insufficient_funds": "insufficient_funds",
    EXACT + "insufficient_balance": "insufficient_funds",
    "invalid_payload": "payment_refused",
    PAYLOAD + "signature": "invalid_signature",
    PAYLOAD + "recipient_mismatch": "payment_refused",
    PAYLOAD + "authorization_value_mismatch": "payment_refused",
    PAYLOAD + "authorization_valid_before": "payment_expired",
    PAYLOAD + "authorization_valid_after": "payment_not_yet_valid",
    PAYLOAD + "undeployed_smart_wallet": "wallet_not_deployable",
    PAYLOAD + "authorization_from_address_kyt": "payer_refused",
    PAYLOAD + "authorization_to_address_kyt": "recipient_refused",
    "permit2_allowance_required": "payment_refused",
    "permit2_amount_mismatch": "payment_refused",
    "permit2_deadline_expired": "payment_refused",
    # This facilitator cannot, or we asked it wrongly: a new signature would not help, another facilitator may.
    "invalid_network": Passed,
    "invalid_payment_requirements": Passed,
    "invalid_scheme": Passed,
    "unsupported_scheme": Passed,
    "network_mismatch": Passed,
    "invalid_x402_version": Passed,
    "extension_echo_mismatch": Passed,
    "missing_eip712_domain": Passed,
    "asset_not_deployed_contract": Passed,
    "eip6492_factory_not_allowed": Passed,
    EXACT + "token_name_mismatch": Passed,
    EXACT + "token_version_mismatch": Passed,
    EXACT + "eip3009_not_supported": Passed,
    EXACT + "failed_to_verify_signature": Passed,
    # Something may be on its way, or the money has moved already: the chain's to say.
    "settlement_pending": Unknown,
    "duplicate_settlement": Unknown,
    "transaction_failed": Unknown,
    "invalid_transaction_state": Unknown,
    "unexpected_verify_error": Unknown,
    "unexpected_settle_error": Unknown,
    "smart_wallet_deployment_failed": Unknown,
    EXACT + "nonce_already_used": Unknown,
    EXACT + "transaction_simulation_failed": Unknown,
    EXACT + "transfer_event_mismatch": Unknown,
}


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("status", [200, 400, 402, 412])
def test_every_code_of_the_protocol_is_known(code: str, status: int) -> None:
    answer, meaning = read(status, no(code)), CODES[code]

    if isinstance(meaning, str):
        assert isinstance(answer, Rejected)
        assert answer.reason == meaning
    else:
        assert isinstance(answer, meaning)
        assert not isinstance(answer, Passed) or answer.sure


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize(("status", "transaction"), [(500, ""), (503, ""), (200, TX), (500, TX)])
def test_no_code_is_believed_after_an_internal_fault_or_with_a_transaction(
    code: str, status: int, transaction: str
) -> None:
    """The answer 500 with `settlement_pending` and a hash is Coinbase's; a buyer told 402 then would pay twice."""
    assert isinstance(read(status, no(code, transaction=transaction)), Unknown)


@pytest.mark.parametrize(("status", "sure"), [(401, True), (403, True), (404, True), (429, True), (503, False)])
def test_only_a_door_that_was_closed_is_a_sure_no(status: int, *, sure: bool) -> None:
    assert read(status, b"<html>") == Passed(reason=f"facilitator_answered_{status}", sure=sure)


def test_solana_receipt_may_name_the_fee_payer() -> None:
    submission = Submission(
        key="k", network="solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1", payer="B", amount=1, expires_at=1, content=b""
    )
    signature = "5" * 87
    body = {"success": True, "transaction": signature, "payer": "FeePayer", "network": submission.network}

    assert read_settlement(200, json.dumps(body).encode(), submission=submission) == Settled(transaction=signature)
    assert isinstance(
        read_settlement(200, json.dumps(body | {"transaction": TX}).encode(), submission=submission), Unknown
    )


def test_reasons_are_short_plain_words_whatever_was_sent() -> None:
    answer = read(200, no("Fatal: <script>\r\n" + "x" * 5000))

    assert isinstance(answer, Unknown)
    assert answer.reason.startswith("fatal_script_xxx")
    assert len(answer.reason) <= 96


@given(
    status=st.integers(200, 599),
    body=st.fixed_dictionaries(
        {},
        optional={
            "success": st.sampled_from([True, False, None, "true", 1]),
            "isValid": st.booleans(),
            "errorReason": st.sampled_from(["insufficient_funds", "settlement_pending", "invalid_payload", None])
            | st.text(max_size=30),
            "transaction": st.sampled_from(["", TX, None, 5]),
            "network": st.sampled_from([NETWORK, "base", None, 5]),
        },
    ),
)
def test_no_answer_is_surer_than_it_may_be(status: int, body: dict[str, Any]) -> None:
    answer = read(status, body)

    if isinstance(answer, Settled):
        assert status == 200
        assert body["success"] is True
        assert body["transaction"] == answer.transaction == TX
    if isinstance(answer, Rejected):
        assert status < 500
        assert not body.get("transaction")
        assert body.get("success", body.get("isValid")) is False
    if isinstance(answer, Passed) and answer.sure:
        assert status in {200, *range(400, 500)}


@given(body=st.binary(max_size=60), status=st.integers(200, 599))
def test_bytes_of_any_kind_are_an_answer(body: bytes, status: int) -> None:
    assert not isinstance(read(status, body), Settled | Rejected)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, {"isValid": True, "payer": "0x1"}, None),
        (200, {"isValid": False, "invalidReason": "insufficient_funds"}, "insufficient_funds"),
        (400, {"isValid": False, "invalidReason": "payment_expired"}, "payment_expired"),
        (200, {"isValid": False, "invalidReason": "invalid_network"}, Passed(reason="invalid_network")),
        (200, {"isValid": False, "invalidReason": "unexpected_verify_error"}, Passed(reason="unexpected_verify_error")),
        (500, b"oops", Passed(reason="facilitator_answered_500")),
        (503, b"oops", Passed(reason="facilitator_answered_503")),
        (200, b"oops", Passed(reason="facilitator_answered_200")),
        (500, {"isValid": True}, Passed(reason="facilitator_answered_500")),
    ],
)
def test_verdicts_never_leave_doubt_about_money(status: int, body: Any, expected: Any) -> None:
    verdict = read_verdict(status, body if isinstance(body, bytes) else json.dumps(body).encode())

    if isinstance(expected, str):
        assert isinstance(verdict, Rejected)
        assert verdict.reason == expected
    else:
        assert verdict == expected


def test_used_nonce_in_a_verdict_is_left_to_the_chain() -> None:
    body = json.dumps({"isValid": False, "invalidReason": "invalid_exact_evm_nonce_already_used"}).encode()

    assert read_verdict(200, body) == Unknown(reason="invalid_exact_evm_nonce_already_used")
