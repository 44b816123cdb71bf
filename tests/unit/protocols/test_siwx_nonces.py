from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablestudio.protocols.siwx import NonceIssuer, SiwxUnknownNonce

from .builders import NONCES, NOW, NOW_MS


def test_a_nonce_is_32_hexadecimal_digits_and_tells_its_second() -> None:
    nonce = NONCES.issue(NOW_MS)
    assert re.fullmatch(r"[0-9a-f]{32}", nonce)
    assert NONCES.issued_at_ms(nonce) == NOW * 1000


def test_nonces_of_one_moment_differ() -> None:
    assert len({NONCES.issue(NOW_MS) for _ in range(50)}) == 50


def test_another_process_with_the_same_secret_recognises_a_nonce() -> None:
    nonce = NonceIssuer(b"s" * 32, entropy=lambda length: b"\x05" * length).issue(NOW_MS)
    assert NonceIssuer(b"s" * 32).issued_at_ms(nonce) == NOW * 1000
    with pytest.raises(SiwxUnknownNonce):
        NonceIssuer(b"t" * 32).issued_at_ms(nonce)


@pytest.mark.parametrize("position", range(32))
def test_no_digit_of_a_nonce_can_be_changed(position: int) -> None:
    nonce = NONCES.issue(NOW_MS)
    other = "0" if nonce[position] != "0" else "1"
    with pytest.raises(SiwxUnknownNonce):
        NONCES.issued_at_ms(nonce[:position] + other + nonce[position + 1 :])


def test_a_nonce_has_one_spelling() -> None:
    nonce = NonceIssuer(b"s" * 32, entropy=lambda length: b"\xab" * length).issue(NOW_MS)
    for other in (nonce.upper(), f" {nonce}", f"{nonce[:16]} {nonce[16:]}", f"{nonce}00", nonce[:-2], f"0x{nonce}"):
        with pytest.raises(SiwxUnknownNonce):
            NonceIssuer(b"s" * 32).issued_at_ms(other)


@given(nonce=st.text() | st.from_regex(r"[0-9a-f]{32}", fullmatch=True))
def test_any_other_text_is_an_unknown_nonce(nonce: str) -> None:
    with pytest.raises(SiwxUnknownNonce):
        NONCES.issued_at_ms(nonce)


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16 bytes"):
        NonceIssuer(b"short")
