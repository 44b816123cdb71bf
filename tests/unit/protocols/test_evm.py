from __future__ import annotations

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from hypothesis import given
from hypothesis import strategies as st

from stablestudio.protocols import evm

from .builders import KEY

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
DIGEST = evm.keccak256(b"digest")


def twin(signature: bytes) -> bytes:
    s = ORDER - int.from_bytes(signature[32:64])
    return signature[:32] + s.to_bytes(32) + bytes((27 + 28 - signature[64],))


def test_keccak_is_ethereums() -> None:
    assert evm.keccak256(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"


@pytest.mark.parametrize(
    "address",
    [
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
        "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
        "0x52908400098527886E0F7030069857D2E4169EE7",
        "0xde709f2102306220921060314715629080e2fb77",
    ],
)
def test_checksums_are_those_of_eip_55(address: str) -> None:
    assert evm.checksum_address(address.lower()) == address
    assert evm.checksum_address("0x" + address[2:].upper()) == address


@pytest.mark.parametrize("text", ["", "0x", "0x12", "0X" + "a" * 40, "0x" + "g" * 40, "0x" + "a" * 40 + "\n", "a" * 42])
def test_other_texts_are_no_address(text: str) -> None:
    assert not evm.is_address(text)
    with pytest.raises(ValueError, match="40 hexadecimal digits"):
        evm.checksum_address(text)


def test_a_key_has_the_address_that_eth_account_gives_it() -> None:
    assert evm.EvmKey.from_hex(KEY.hex()).address == Account.from_key(KEY.hex()).address
    assert evm.EvmKey.from_hex(KEY.hex()[2:]).address == KEY.address


def test_a_generated_key_survives_its_own_export() -> None:
    key = evm.EvmKey.generate()
    assert evm.EvmKey.from_hex(key.hex()).address == key.address != evm.EvmKey.generate().address


def test_a_key_never_shows_its_secret() -> None:
    assert repr(KEY) == f"EvmKey({KEY.address})"
    with pytest.raises(ValueError, match="64 hexadecimal digits") as refusal:
        evm.EvmKey.from_hex("0x" + "4c" * 31 + "zz")
    assert "4c" not in str(refusal.value)


@pytest.mark.parametrize("secret", ["00" * 32, f"{ORDER:x}", "", "ab" * 33])
def test_secrets_outside_the_curve_order_are_refused(secret: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        evm.EvmKey.from_hex(secret)


@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_personal_signatures_are_those_of_eth_account(text: str) -> None:
    signature = KEY.sign_digest(evm.personal_digest(text))
    assert bytes(Account.from_key(KEY.hex()).sign_message(encode_defunct(text=text)).signature) == signature
    assert evm.recover_address(evm.personal_digest(text), signature) == KEY.address


@given(digest=st.binary(min_size=32, max_size=32))
def test_own_signatures_have_low_s_and_a_contracts_v(digest: bytes) -> None:
    signature = KEY.sign_digest(digest)
    assert signature[64] in (27, 28)
    assert int.from_bytes(signature[32:64]) <= ORDER // 2


def test_v_of_hardware_wallets_is_accepted() -> None:
    signature = KEY.sign_digest(DIGEST)
    assert evm.recover_address(DIGEST, signature[:64] + bytes((signature[64] - 27,))) == KEY.address


def test_the_high_s_twin_is_refused_although_it_recovers() -> None:
    forged = twin(KEY.sign_digest(DIGEST))
    with pytest.raises(evm.HighSignature):
        evm.recover_address(DIGEST, forged)
    assert Account._recover_hash(DIGEST, signature=forged) == KEY.address


def test_the_border_between_low_and_high_s_is_half_the_order() -> None:
    # s = half the order recovers some other key; one more is refused before anything is recovered.
    signature = KEY.sign_digest(DIGEST)
    assert evm.recover_address(DIGEST, signature[:32] + (ORDER // 2).to_bytes(32) + signature[64:])
    with pytest.raises(evm.HighSignature):
        evm.recover_address(DIGEST, signature[:32] + (ORDER // 2 + 1).to_bytes(32) + signature[64:])


@pytest.mark.parametrize("v", [2, 3, 26, 29, 30, 31, 35, 37, 255])
def test_other_v_are_refused(v: int) -> None:
    with pytest.raises(evm.BadSignature):
        evm.recover_address(DIGEST, KEY.sign_digest(DIGEST)[:64] + bytes((v,)))


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        bytes(64),
        bytes(65),
        bytes(66),
        bytes(64) + b"\x1b",
        b"\xff" * 32 + bytes(31) + b"\x01\x1b",
        bytes(31) + b"\x05" + bytes(32) + b"\x1b",
    ],
)
def test_what_belongs_to_no_key_is_refused(signature: bytes) -> None:
    with pytest.raises(evm.BadSignature):
        evm.recover_address(DIGEST, signature)


@given(signature=st.binary(max_size=70) | st.binary(min_size=65, max_size=65))
def test_any_bytes_recover_an_address_or_raise_bad_signature(signature: bytes) -> None:
    try:
        address = evm.recover_address(DIGEST, signature)
    except evm.BadSignature:
        return
    assert evm.is_address(address)
