from __future__ import annotations

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from stablestudio.protocols import eip3009_calls as calls
from stablestudio.protocols.eip3009 import Authorization

WORDS = st.integers(min_value=0, max_value=2**256 - 1)
ADDRESSES = st.binary(min_size=20, max_size=20).map(lambda address: "0x" + address.hex())
AUTHORIZATIONS = st.builds(
    Authorization,
    sender=ADDRESSES,
    recipient=ADDRESSES,
    value=WORDS,
    valid_after=WORDS,
    valid_before=WORDS,
    nonce=st.binary(min_size=32, max_size=32),
)
FIELDS = ["address", "address", "uint256", "uint256", "uint256", "bytes32"]


def _selector(name: str, types: list[str]) -> bytes:
    return bytes(keccak(text=f"{name}({','.join(types)})")[:4])


def _values(made: Authorization) -> list[object]:
    return [made.sender, made.recipient, made.value, made.valid_after, made.valid_before, made.nonce]


@given(made=AUTHORIZATIONS, signature=st.binary(min_size=65, max_size=65))
def test_65_bytes_are_sent_in_parts(made: Authorization, signature: bytes) -> None:
    types = [*FIELDS, "uint8", "bytes32", "bytes32"]
    parts = [signature[64], signature[:32], signature[32:64]]
    expected = _selector("transferWithAuthorization", types) + encode(types, [*_values(made), *parts])
    assert calls.transfer_call(made, signature) == expected
    assert expected[:4].hex() == "e3ee160e"


@given(made=AUTHORIZATIONS, signature=st.binary(max_size=200).filter(lambda data: len(data) != 65))
def test_other_signatures_are_sent_as_bytes(made: Authorization, signature: bytes) -> None:
    types = [*FIELDS, "bytes"]
    expected = _selector("transferWithAuthorization", types) + encode(types, [*_values(made), signature])
    assert calls.transfer_call(made, signature) == expected
    assert expected[:4].hex() == "cf092995"


@given(made=AUTHORIZATIONS)
def test_reads_are_asked_for_as_the_abi_says(made: Authorization) -> None:
    types = ["address", "bytes32"]
    expected = _selector("authorizationState", types) + encode(types, [made.sender, made.nonce])
    assert calls.state_call(made) == expected
    assert calls.balance_call(made.sender) == bytes.fromhex("70a08231") + encode(["address"], [made.sender])


@pytest.mark.parametrize(
    ("topic", "signature"),
    [
        (calls.TRANSFER, "Transfer(address,address,uint256)"),
        (calls.AUTHORIZATION_USED, "AuthorizationUsed(address,bytes32)"),
        (calls.AUTHORIZATION_CANCELED, "AuthorizationCanceled(address,bytes32)"),
    ],
)
def test_topics_are_hashes_of_the_events(topic: str, signature: str) -> None:
    assert topic == "0x" + keccak(text=signature).hex()


@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=100))
def test_texts_and_revert_reasons_are_read(text: str) -> None:
    data = encode(["string"], [text])
    assert calls.read_text(data) == text
    assert calls.revert_reason(_selector("Error", ["string"]) + data) == text


@given(data=st.binary(max_size=200))
def test_other_bytes_hold_no_text(data: bytes) -> None:
    assert calls.read_text(data[:63]) is None
    assert calls.revert_reason(b"\x4e\x48\x7b\x71" + data) is None  # Panic(uint256)


def test_a_text_that_is_cut_off_is_no_text() -> None:
    assert calls.read_text(encode(["string"], ["x" * 40])[:-32]) is None
    assert calls.read_text((32).to_bytes(32) + (2**256 - 1).to_bytes(32)) is None
