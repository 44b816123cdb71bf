from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from stablestudio.protocols import solana

from .builders import SOLANA_KEY

USDC_DEVNET = "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ""),
        (b"\0", "1"),
        (b"\0\0\x01", "112"),
        (b"Hello World!", "2NEpo7TZRRrLZSi2U"),
        (bytes.fromhex("0000287fb4cd"), "11233QC4"),
        (bytes(32), "1" * 32),
    ],
)
def test_base58_is_that_of_the_published_vectors(data: bytes, text: str) -> None:
    assert solana.b58encode(data) == text
    assert solana.b58decode(text) == data


@given(data=st.binary(max_size=80))
def test_base58_returns_what_went_in(data: bytes) -> None:
    assert solana.b58decode(solana.b58encode(data)) == data


@pytest.mark.parametrize("text", ["0", "O", "I", "l", " 2", "2 ", "2\n", "\u0662", "+", "1" * 129])
def test_other_characters_and_long_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Base58"):
        solana.b58decode(text)


@given(text=st.text())
def test_any_text_decodes_or_raises_value_error(text: str) -> None:
    try:
        data = solana.b58decode(text)
    except ValueError:
        return
    assert solana.b58encode(data) == text


def test_addresses_are_base58_of_32_bytes() -> None:
    assert solana.is_address(USDC_DEVNET)
    assert not solana.is_address(USDC_DEVNET[:-3])
    assert not solana.is_address(USDC_DEVNET.replace("z", "0"))


def test_a_key_is_read_from_a_seed_and_from_a_wallets_export() -> None:
    seed = solana.b58encode(b"\x07" * 32)
    assert solana.SolanaKey.from_base58(seed).address == SOLANA_KEY.address
    assert solana.SolanaKey.from_base58(SOLANA_KEY.base58()).address == SOLANA_KEY.address
    assert solana.SolanaKey.generate().address != solana.SolanaKey.generate().address


@pytest.mark.parametrize("secret", [b"", b"\x07" * 31, b"\x07" * 33, b"\x07" * 64])
def test_secrets_of_other_length_or_with_foreign_halves_are_refused(secret: bytes) -> None:
    with pytest.raises(ValueError, match="Solana key"):
        solana.SolanaKey.from_base58(solana.b58encode(secret))


def test_a_key_never_shows_its_secret() -> None:
    assert repr(SOLANA_KEY) == f"SolanaKey({SOLANA_KEY.address})"


def test_signatures_are_plain_ed25519() -> None:
    signature = SOLANA_KEY.sign(b"message")
    assert signature == SigningKey(b"\x07" * 32).sign(b"message").signature
    assert solana.verify(SOLANA_KEY.address, b"message", signature)


def test_another_message_owner_or_signature_does_not_verify() -> None:
    signature = SOLANA_KEY.sign(b"message")
    assert not solana.verify(SOLANA_KEY.address, b"message.", signature)
    assert not solana.verify(solana.SolanaKey(b"\x08" * 32).address, b"message", signature)
    assert not solana.verify(SOLANA_KEY.address, b"message", bytes((signature[0] ^ 1,)) + signature[1:])
    assert not solana.verify(SOLANA_KEY.address, b"message", signature[:-1])
    assert not solana.verify("not base58", b"message", signature)
    assert not solana.verify("1" * 31, b"message", signature)


def test_the_twin_of_a_signature_is_refused() -> None:
    order = 2**252 + 27742317777372353535851937790883648493
    signature = SOLANA_KEY.sign(b"message")
    s = int.from_bytes(signature[32:], "little") + order
    assert not solana.verify(SOLANA_KEY.address, b"message", signature[:32] + s.to_bytes(32, "little"))


def test_keys_of_small_order_sign_for_nobody() -> None:
    point = bytes((1,)) + bytes(31)
    assert not solana.verify(solana.b58encode(point), b"message", point + bytes(32))
