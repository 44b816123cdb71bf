"""A memo fits one request, for ten minutes."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from stablestudio.protocols.x402.quote_memo import MEMO_CHARACTERS, QuoteMemos

NOW = 1_795_204_441
ASKED: dict[str, Any] = {"path": "/api/generate/a/b", "body": b'{"prompt":"x"}', "amount": "45000", "now_s": NOW}
MEMOS = QuoteMemos(b"s" * 32, scope="x402:solana:x:USDC|payee")


def test_a_memo_fits_the_request_that_it_was_made_for() -> None:
    memo = MEMOS.make(**ASKED)

    assert len(memo) == MEMO_CHARACTERS == 32
    assert MEMOS.fits(memo.encode(), **ASKED)


@pytest.mark.parametrize(
    "change",
    [
        {"path": "/api/generate/a/c"},
        {"body": b'{"prompt":"y"}'},
        {"body": b""},
        {"amount": "45001"},
        {"amount": "4500"},
        {"now_s": NOW + 601},
        {"now_s": NOW - 61},
    ],
    ids=str,
)
def test_it_fits_nothing_else(change: dict[str, Any]) -> None:
    memo = MEMOS.make(**ASKED).encode()

    assert not MEMOS.fits(memo, **{**ASKED, **change})


@pytest.mark.parametrize("later", [-60, 0, 600])
def test_it_fits_for_ten_minutes_by_clocks_that_differ_a_little(later: int) -> None:
    assert MEMOS.fits(MEMOS.make(**ASKED).encode(), **{**ASKED, "now_s": NOW + later})


@pytest.mark.parametrize(
    "other", [QuoteMemos(b"t" * 32, scope="x402:solana:x:USDC|payee"), QuoteMemos(b"s" * 32, scope="another payee")]
)
def test_it_fits_no_other_secret_and_no_other_scope(other: QuoteMemos) -> None:
    assert not other.fits(MEMOS.make(**ASKED).encode(), **ASKED)


def test_each_memo_is_another_one() -> None:
    assert len({MEMOS.make(**ASKED) for _ in range(1000)}) == 1000


def test_any_other_byte_is_no_memo() -> None:
    raw = base64.b64decode(MEMOS.make(**ASKED))
    for place in range(len(raw)):
        forged = raw[:place] + bytes((raw[place] ^ 1,)) + raw[place + 1 :]
        assert not MEMOS.fits(base64.b64encode(forged), **ASKED)


@pytest.mark.parametrize("memo", [b"", b"x", b"=" * 32, b"A" * 31, b"A" * 36, b"A" * 32 + b"\n", "ä".encode() * 16])
def test_what_is_no_memo_fits_nothing(memo: bytes) -> None:
    assert not MEMOS.fits(memo, **ASKED)
