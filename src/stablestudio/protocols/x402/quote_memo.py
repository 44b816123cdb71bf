"""Memos that bind a Solana payment to one request: the buyer signs the memo, so the payment buys nothing else.

A memo is 32 characters of base64: the time of the offer (4 bytes), a count (4 bytes) and a MAC (16 bytes). The count
makes each offer's transaction another one, as the random memos of the SDKs do: two equal orders are two payments.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

_HEAD, _MAC = 8, 16
MEMO_CHARACTERS = (_HEAD + _MAC) * 4 // 3
# A blockhash lives for a minute or two; who took longer to sign asks again.
_LIFE, _SKEW = 600, 60  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoForm:
    """A memo as far as it is the same for all bodies in one second."""

    mac: hashlib.blake2b
    count: Iterator[int]
    made_at: bytes
    terms: bytes

    def fill(self, sha256: bytes) -> bytes:
        """Return a memo of its own for an offer for one body, whose SHA-256 this is."""
        head = self.made_at + (next(self.count) & 0xFFFFFFFF).to_bytes(_HEAD // 2)
        return binascii.b2a_base64(_sealed(self.mac, head, sha256, self.terms), newline=False)


class QuoteMemos:
    """Makes and checks memos; nothing is stored."""

    def __init__(self, secret: bytes, *, scope: str) -> None:
        """Take the service's secret; `scope` names all that is the same for each offer, such as network and payee."""
        key = hmac.digest(secret, f"x402-solana-memo|{scope}".encode(), "sha256")
        # Keyed BLAKE2 is a MAC by itself and takes a third of HMAC's time; nobody but us ever checks it.
        self._begun = hashlib.blake2b(key=key, digest_size=_MAC)
        self._count = count(int.from_bytes(os.urandom(4)))

    def make(self, *, path: str, body: bytes, amount: str, now_s: int) -> str:
        """Return the memo of an offer for one body, at one price in base units, made now (Unix seconds)."""
        return self.form(path=path, amount=amount, now_s=now_s).fill(hashlib.sha256(body).digest()).decode()

    def form(self, *, path: str, amount: str, now_s: int) -> MemoForm:
        """Return what the memos of all bodies have in common, for one path at one price in one second."""
        made_at = (now_s & 0xFFFFFFFF).to_bytes(_HEAD // 2)
        return MemoForm(mac=self._begun, count=self._count, made_at=made_at, terms=f"{amount}|{path}".encode())

    def fits(self, memo: bytes, *, path: str, body: bytes, amount: str, now_s: int) -> bool:
        """Tell whether a memo was made here for this very body and price, within the last ten minutes."""
        raw = _read(memo)
        if raw is None or not -_SKEW <= now_s - int.from_bytes(raw[:4]) <= _LIFE:
            return False
        terms = f"{amount}|{path}".encode()
        return hmac.compare_digest(raw, _sealed(self._begun, raw[:_HEAD], hashlib.sha256(body).digest(), terms))


def _sealed(begun: hashlib.blake2b, head: bytes, sha256: bytes, terms: bytes) -> bytes:
    """Return a memo's bytes: the head and the MAC over it and what it is for."""
    mac = begun.copy()
    mac.update(head + sha256 + terms)
    return head + mac.digest()


def _read(memo: bytes) -> bytes | None:
    try:
        raw = binascii.a2b_base64(memo, strict_mode=True)
    except binascii.Error:
        return None
    return raw if len(memo) == MEMO_CHARACTERS and len(raw) == _HEAD + _MAC else None
