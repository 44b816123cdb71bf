"""Credentials are read strictly and bounded; receipts are what the SDKs read."""

from __future__ import annotations

import base64
import json
from typing import Any

import mpp as pympp
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from stablestudio.errors import StudioError
from stablestudio.protocols import mpp
from stablestudio.protocols.mpp.messages import canonical

CHALLENGE: dict[str, Any] = {
    "id": "lHHk65GmYoT1dovVnP9q2_0d7W10AflRYIRpu-FuR6E",
    "realm": "studio.test",
    "method": "tempo",
    "intent": "charge",
    "request": canonical({"amount": "134000"}),
    "expires": "2026-11-20T19:45:44Z",
    "digest": "sha-256=bC7TvqDLuux3MHGZXK8i+9O5q0DWyTuATd+07Z9sM6I=",
    "opaque": canonical({"path": "/x"}),
    "description": "nano-banana-pro generate",
}
PAYLOAD = {"type": "transaction", "signature": "0x76f901"}
SOURCE = "did:pkh:eip155:42431:0x90F79bf6EB2c4f870365E785982E1f101E93b906"
WIRE: dict[str, Any] = {"challenge": CHALLENGE, "payload": PAYLOAD, "source": SOURCE}
CREDENTIAL = mpp.Credential(challenge=mpp.ChallengeEcho(**CHALLENGE), payload=PAYLOAD, source=SOURCE)


def _header(wire: object, *, scheme: str = "Payment ") -> str:
    text = wire if isinstance(wire, str) else json.dumps(wire)
    return scheme + base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _with(**changes: Any) -> dict[str, Any]:
    return WIRE | {"challenge": CHALLENGE | changes}


def _problem(header: str, error: type[StudioError]) -> str:
    with pytest.raises(error) as refused:
        mpp.decode_credential(header)
    told = refused.value.body()["type"]
    assert told.startswith("https://paymentauth.org/problems/")
    return str(told).rpartition("/")[2]


def test_a_credential_is_read_and_written() -> None:
    assert mpp.decode_credential(_header(WIRE)) == CREDENTIAL
    assert mpp.decode_credential(mpp.encode_credential(CREDENTIAL)) == CREDENTIAL


def test_pympp_reads_what_we_write_and_we_read_what_it_writes() -> None:
    theirs = pympp.Credential.from_authorization(mpp.encode_credential(CREDENTIAL))
    assert (theirs.payload, theirs.source, theirs.challenge.id) == (PAYLOAD, SOURCE, CHALLENGE["id"])
    assert mpp.decode_credential(theirs.to_authorization()) == CREDENTIAL


def test_only_what_every_challenge_has_is_asked_for() -> None:
    least = {name: CHALLENGE[name] for name in ("id", "realm", "method", "intent", "request")}
    read = mpp.decode_credential(_header({"challenge": least, "payload": {}}))
    assert read == mpp.Credential(challenge=mpp.ChallengeEcho(**least), payload={})


def test_unknown_members_do_not_matter() -> None:
    assert mpp.decode_credential(_header(_with(meta={"a": 1}) | {"more": [1]})) == CREDENTIAL


@pytest.mark.parametrize("scheme", ["payment ", "PAYMENT  ", "  Payment ", "Bearer abc, Payment "])
def test_the_scheme_is_found_in_any_case_and_company(scheme: str) -> None:
    assert mpp.decode_credential(_header(WIRE, scheme=scheme)) == CREDENTIAL


@pytest.mark.parametrize("name", ["opaque", "request"])
@pytest.mark.parametrize("value", [{}, {"path": "/x"}, {"b": "2", "a": 'é"\\/'}, {"_mpp_nonce": "00", "path": "/x"}])
def test_a_part_that_an_older_buyer_decoded_is_put_together_again(name: str, value: dict[str, str]) -> None:
    challenge = mpp.decode_credential(_header(_with(**{name: value}))).challenge
    expected = base64.urlsafe_b64encode(rfc8785.dumps(value)).decode().rstrip("=")
    assert getattr(challenge, name) == expected


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Payment",
        "Payment ",
        "Bearer abc",
        "Paymentabc",
        "Payment !!!",
        "Payment e30",
        "Payment bnVsbA",
        "Payment " + "A" * 20_000,
        _header('{"challenge":' + "[" * 100 + "]" * 100 + "}"),
        _header('{"challenge":{},"challenge":{},"payload":{}}'),
        _header('{"a":NaN}'),
        _header(WIRE | {"challenge": None}),
        _header(WIRE | {"challenge": []}),
        _header(WIRE | {"payload": None}),
        _header(WIRE | {"payload": "0x"}),
        _header(WIRE | {"source": 7}),
        _header(WIRE | {"source": "a\nb"}),
        _header(_with(id="")),
        _header(_with(id="a" * 257)),
        _header(_with(id="a b")),
        _header(_with(realm="")),
        _header(_with(realm="a\r\nb")),
        _header(_with(realm=None)),
        _header(_with(method="Tempo")),
        _header(_with(method=None)),
        _header(_with(intent=7)),
        _header(_with(request="")),
        _header(_with(request="a|b")),
        _header(_with(request="a=")),
        _header(_with(request=7)),
        _header(_with(request="A" * 5000)),
        _header(_with(expires="soon")),
        _header(_with(expires=1)),
        _header(_with(digest="md5=abc")),
        _header(_with(opaque="a|b")),
        _header(_with(opaque=[1])),
    ],
)
def test_what_cannot_be_read_is_refused_as_malformed(header: str) -> None:
    assert _problem(header, mpp.MalformedCredential) == "malformed-credential"


def test_two_credentials_are_one_too_many() -> None:
    assert _problem(f"{_header(WIRE)}, {_header(WIRE)}", mpp.SeveralCredentials) == "malformed-credential"
    assert mpp.SeveralCredentials.status == 400


@pytest.mark.parametrize("other", [{"method": "stripe"}, {"intent": "session"}, {"method": "tempo-v2"}])
def test_another_method_or_intent_is_unsupported(other: dict[str, str]) -> None:
    assert _problem(_header(_with(**other)), mpp.MethodUnsupported) == "method-unsupported"
    assert mpp.MethodUnsupported.status == 400


@given(text=st.text(max_size=60), data=st.binary(max_size=60))
def test_nothing_that_arrives_surprises(text: str, data: bytes) -> None:
    for header in (text, f"Payment {text}", "Payment " + base64.urlsafe_b64encode(data).decode(), _header(text)):
        with pytest.raises(mpp.MppRefused):
            mpp.decode_credential(header)


def test_an_error_repeats_nothing_of_the_credential() -> None:
    with pytest.raises(mpp.MalformedCredential) as refused:
        mpp.decode_credential(_header(_with(id="secret\n")))
    assert "secret" not in json.dumps(refused.value.body())


@pytest.mark.parametrize(
    ("authorization", "is_payment"),
    [
        (_header(WIRE), True),
        ("payment x", True),
        ("Bearer abc, Payment x", True),
        ("Bearer abc", False),
        ("Payments x", False),
        ("Payment", False),
        ("", False),
        ("eyJ4NDAyVmVyc2lvbiI6Mn0=", False),
    ],
)
def test_another_schemes_authorization_is_no_payment(authorization: str, *, is_payment: bool) -> None:
    assert mpp.is_payment(authorization) is is_payment


@pytest.mark.parametrize("challenge_id", [None, CHALLENGE["id"]])
def test_pympp_reads_our_receipt(challenge_id: str | None) -> None:
    header = mpp.encode_receipt(reference="0x783b", timestamp="2026-11-20T19:42:28.600Z", challenge_id=challenge_id)
    receipt = pympp.Receipt.from_payment_receipt(header)
    assert (receipt.status, receipt.method, receipt.reference) == ("success", "tempo", "0x783b")
    assert receipt.timestamp.isoformat() == "2026-11-20T19:42:28.600000+00:00"
    assert (receipt.extensions or {}).get("challengeId") == challenge_id


def test_every_refusal_has_a_problem_of_the_draft() -> None:
    known = {
        "payment-expired", "verification-failed", "malformed-credential", "invalid-challenge", "method-unsupported",
    }  # fmt: skip
    errors: list[type[mpp.MppRefused]] = [mpp.MppRefused, *mpp.MppRefused.__subclasses__()]
    assert {error.problem for error in errors} == known
    for error in errors:
        assert error().body()["type"] == f"https://paymentauth.org/problems/{error.problem}"
        assert error(extra={"x": 1}).body()["x"] == 1
        assert error().status == (400 if error in (mpp.SeveralCredentials, mpp.MethodUnsupported) else 402)
