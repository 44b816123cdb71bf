"""Signatures of contract wallets: the bytes of ERC-1271 and ERC-6492 as other libraries make and read them."""

from __future__ import annotations

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from stablestudio.protocols.contract_wallets import (
    Counterfactual,
    is_valid_call,
    rehearsal,
    says_yes,
    unwrap,
    wrap,
)
from stablestudio.protocols.evm import BadSignature

MAGIC = bytes.fromhex("6492" * 16)
WRAPPED = st.builds(
    Counterfactual,
    factory=st.binary(min_size=20, max_size=20).map(lambda address: "0x" + address.hex()),
    call=st.binary(max_size=200),
    signature=st.binary(max_size=200),
)
# As viem's documentation shows it: viem.sh/docs/utilities/serializeErc6492Signature.
VIEM = (
    "000000000000000000000000cafebabecafebabecafebabecafebabecafebabe"
    "0000000000000000000000000000000000000000000000000000000000000060"
    "00000000000000000000000000000000000000000000000000000000000000a0"
    "0000000000000000000000000000000000000000000000000000000000000004"
    "deadbeef00000000000000000000000000000000000000000000000000000000"
    "0000000000000000000000000000000000000000000000000000000000000041"
    "a461f509887bd19e312c0c58467ce8ff8e300d3c1a90b608a760c5b80318eaf1"
    "5fe57c96f9175d6cd4daad4663763baa7e78836e067d0163e9a2ccf2ff753f5b"
    "1b00000000000000000000000000000000000000000000000000000000000000"
    "6492649264926492649264926492649264926492649264926492649264926492"
)


def test_the_wrapping_is_viems() -> None:
    inner = Counterfactual(
        factory="0x" + "cafebabe" * 5,
        call=bytes.fromhex("deadbeef"),
        signature=bytes.fromhex(VIEM[6 * 64 : 8 * 64] + "1b"),
    )
    assert wrap(inner).hex() == VIEM
    assert unwrap(bytes.fromhex(VIEM)) == inner


@given(wrapped=WRAPPED)
def test_the_wrapping_is_the_abis(wrapped: Counterfactual) -> None:
    values = [wrapped.factory, wrapped.call, wrapped.signature]
    assert wrap(wrapped) == encode(["address", "bytes", "bytes"], values) + MAGIC
    assert unwrap(wrap(wrapped)) == wrapped


@given(signature=st.binary(max_size=200).filter(lambda data: not data.endswith(MAGIC)))
def test_other_signatures_are_not_wrapped(signature: bytes) -> None:
    assert unwrap(signature) is None


@given(body=st.binary(max_size=400))
def test_damage_is_told_or_read_and_never_a_fault(body: bytes) -> None:
    try:
        wrapped = unwrap(body + MAGIC)
    except BadSignature:
        return
    assert wrapped is not None
    assert len(wrapped.call) + len(wrapped.signature) <= 2 * len(body)


@given(wrapped=WRAPPED, data=st.data())
def test_a_cut_wrapping_is_refused(wrapped: Counterfactual, data: st.DataObject) -> None:
    body = wrap(wrapped)[:-32]
    end = 96 + 32 + (len(wrapped.call) + 31) // 32 * 32 + 32 + len(wrapped.signature)
    cut = data.draw(st.integers(min_value=0, max_value=end - 1))
    with pytest.raises(BadSignature):
        unwrap(body[:cut] + MAGIC)


@pytest.mark.parametrize(
    "words",
    [
        (1 << 160, 96, 128),  # no address
        (1, 0, 96),  # into the head
        (1, 95, 96),
        (1, 96, 2**256 - 1),
        (1, 2**255, 96),
    ],
)
def test_a_wrapping_that_points_elsewhere_is_refused(words: tuple[int, ...]) -> None:
    with pytest.raises(BadSignature):
        unwrap(b"".join(word.to_bytes(32) for word in words) + bytes(96) + MAGIC)


@given(digest=st.binary(min_size=32, max_size=32), signature=st.binary(max_size=200))
def test_a_wallet_is_asked_as_the_abi_says(digest: bytes, signature: bytes) -> None:
    asked = is_valid_call(digest, signature)
    assert asked == keccak(text="isValidSignature(bytes32,bytes)")[:4] + encode(
        ["bytes32", "bytes"], [digest, signature]
    )


@pytest.mark.parametrize(
    ("answer", "yes"),
    [
        ("1626ba7e" + 28 * "00", True),
        ("1626ba7e" + 28 * "00" + "ff", True),
        ("1626ba7e", False),
        ("1626ba7e" + 27 * "00", False),
        ("1626ba7e" + 27 * "00" + "01", False),
        (28 * "00" + "1626ba7e", False),
        (31 * "00" + "01", False),
        ("ffffffff" + 28 * "00", False),
        ("", False),
    ],
)
def test_only_the_whole_word_is_a_yes(answer: str, *, yes: bool) -> None:
    assert says_yes(bytes.fromhex(answer)) is yes


def test_a_rehearsal_has_room_for_what_a_creation_may_hold() -> None:
    """What it does is tried on a real EVM in tests/chain."""
    rehearsal([("0x" + "11" * 20, bytes(20_000)), ("0x" + "22" * 20, bytes(20_000))])
    with pytest.raises(ValueError, match="too long"):
        rehearsal([("0x" + "11" * 20, bytes(49_152))])
