"""Challenges that need no memory: the id of each is an HMAC over all that it says (draft-httpauth-payment, section 5.1).

Byte for byte what pympp 0.16 and mppx 0.11 issue, so that their verifiers take ours. Each quote makes one per token, so
everything that does not change from one to the next is kept.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count

from stablestudio.protocols._wire import Fields, WireError, decode_json
from stablestudio.protocols.mpp.errors import ChallengeExpired, ChallengeMismatch, ChallengeNotIssued
from stablestudio.protocols.mpp.messages import ChallengeEcho, canonical

WWW_AUTHENTICATE = "WWW-Authenticate"
LIFETIME_SECONDS = 300
METHOD, INTENT = "tempo", "charge"
_MIN_SECRET = 16
_MAX_PART = 4096
_URLSAFE = bytes.maketrans(b"+/", b"-_")
# 15, 18 and 6 bytes each end where a base64 group does, so opaque is put together from encoded parts.
_NONCE_HEAD = b'{"_mpp_nonce":"'
_NONCE_BYTES = 9
_BLOCK = 64
_INNER, _OUTER = bytes(byte ^ 0x36 for byte in range(256)), bytes(byte ^ 0x5C for byte in range(256))
_PLAIN = re.compile(r"[ !#-\[\]-~]*")  # what a quoted string holds without escapes


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeTerms:
    """Who is paid in what: the part of a Tempo charge that does not change from one price to the next."""

    chain_id: int
    currency: str
    recipient: str

    def request(self, amount: int) -> str:
        """Return the challenge's `request` for an amount in base units: base64url of canonical JSON."""
        return canonical(
            {
                "amount": str(amount),
                "currency": self.currency,
                "methodDetails": {"chainId": self.chain_id, "supportedModes": ["pull"]},
                "recipient": self.recipient,
            }
        )


def body_digest(body: bytes) -> str:
    """Return the `digest` of a request's body, in the form that SDKs use and expect."""
    return _shown(hashlib.sha256(body).digest()).decode()


def _shown(sha256: bytes) -> bytes:
    return b"sha-256=" + binascii.b2a_base64(sha256, newline=False)


class _Mac:
    """HMAC-SHA256 under way. Its two halves are begun once and copied: a third of the time of beginning anew."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, inner: hashlib._Hash, outer: hashlib._Hash) -> None:
        self._inner, self._outer = inner, outer

    @classmethod
    def of(cls, key: bytes) -> _Mac:
        """Return the MAC of an empty message."""
        block = hashlib.sha256(key).digest() if len(key) > _BLOCK else key
        block = block.ljust(_BLOCK, b"\0")
        return cls(hashlib.sha256(block.translate(_INNER)), hashlib.sha256(block.translate(_OUTER)))

    def begun(self, message: bytes) -> _Mac:
        """Return the MAC with the beginning of a message taken in."""
        inner = self._inner.copy()
        inner.update(message)
        return _Mac(inner, self._outer)

    def ended(self, message: bytes) -> bytes:
        """Return the MAC with the rest of the message, as unpadded base64url."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return binascii.b2a_base64(outer.digest(), newline=False).translate(_URLSAFE, b"=")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengeForm:
    """A challenge as far as it is the same for all bodies in one second: what is left are digest, number and id."""

    mac: _Mac
    count: Iterator[int]
    terms: bytes  # from the id to the digest
    rest: bytes  # from the digest to the value of opaque
    opaque_head: bytes
    opaque_tail: bytes

    def fill(self, sha256: bytes) -> bytes:
        """Return a header line's value for one body, whose SHA-256 this is."""
        return fill_all((self,), sha256)[0]

    def issue(self, digest: bytes = b"") -> bytes:
        """Return a header line's value, with a digest for one body only."""
        opaque = self.number()
        return self.seal(self.mac.ended(digest + b"|" + opaque), b', digest="%b"' % digest if digest else b"", opaque)

    def number(self) -> bytes:
        """Return the value of a new opaque, or two equal quotes in one second would be paid by one and the same transaction."""
        number = binascii.b2a_base64(b"%06x" % (next(self.count) & 0xFFFFFF), newline=False)
        return self.opaque_head + number + self.opaque_tail

    def seal(self, id_: bytes, digest: bytes, opaque: bytes) -> bytes:
        """Return a header line's value that says all this; `digest` comes as a parameter."""
        return b'Payment id="%b%b%b%b%b"' % (id_, self.terms, digest, self.rest, opaque)


def fill_all(forms: Sequence[ChallengeForm], sha256: bytes) -> list[bytes]:
    """Return a header line's value of each form for one body; they share a number, as their tokens tell them apart."""
    if not forms:
        return []
    digest, opaque = _shown(sha256), forms[0].number()
    bound, parameter = digest + b"|" + opaque, b', digest="%b"' % digest
    return [form.seal(form.mac.ended(bound), parameter, opaque) for form in forms]


class ChallengeDesk:
    """Issues challenges of one realm, and recognises them when they come back."""

    def __init__(self, *, realm: str, keys: Sequence[bytes], entropy: Callable[[int], bytes] = os.urandom) -> None:
        """Take the secrets: the first signs, all are recognised, so that a key can be replaced."""
        if not keys or min(map(len, keys)) < _MIN_SECRET:
            raise ValueError(f"A challenge key needs at least {_MIN_SECRET} bytes")
        if not realm or "|" in realm or not _is_plain(realm):
            raise ValueError(
                "The realm must be ASCII without quotes and bars, and without the word Payment and a space"
            )
        self.realm = realm
        self._keys = tuple(map(_Mac.of, keys))
        # 18 random characters for each process and a count of 6: what the head ends with ends a base64 group, too.
        begun = _NONCE_HEAD + entropy(_NONCE_BYTES).hex().encode()
        self._begun = binascii.b2a_base64(begun, newline=False)
        self._count = count(int.from_bytes(entropy(3)))
        self._bound = f"{realm}|{METHOD}|{INTENT}|"
        self._shown = f'", realm="{realm}", method="{METHOD}", intent="{INTENT}", request="'

    def issue(self, request: str, *, path: str, now_s: int, digest: str = "") -> str:
        """Return a header line's value, good for five minutes, for this path and, with a digest, for one body only."""
        return self.form(request, path=path, now_s=now_s).issue(digest.encode()).decode()

    def form(self, request: str, *, path: str, now_s: int) -> ChallengeForm:
        """Return what the challenges of a path have in common that are issued within one second."""
        expires = datetime.fromtimestamp(now_s + LIFETIME_SECONDS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        tail, description = _of_path(path)
        return ChallengeForm(
            mac=self._keys[0].begun(f"{self._bound}{request}|{expires}|".encode()),
            count=self._count,
            terms=f'{self._shown}{request}"'.encode(),
            rest=f', expires="{expires}"{description}, opaque="'.encode(),
            opaque_head=self._begun,
            opaque_tail=tail,
        )

    def verify(self, echo: ChallengeEcho) -> None:
        """Raise `ChallengeNotIssued` unless we issued this very challenge, some time."""
        slots = (echo.realm, echo.method, echo.intent, echo.request, echo.expires, echo.digest, echo.opaque)
        message = "|".join(slot or "" for slot in slots).encode()
        # Each key is tried, whatever the one before said: the time taken tells nothing of them.
        if not sum([hmac.compare_digest(key.ended(message), echo.id.encode()) for key in self._keys]):
            raise ChallengeNotIssued
        if (echo.realm, echo.method, echo.intent) != (self.realm, METHOD, INTENT):
            raise ChallengeNotIssued("The challenge was issued for another realm, method or intent.")

    def require(self, echo: ChallengeEcho, request: str, *, path: str, now_s: int, digest: str = "") -> None:
        """Check a challenge against the request that it came back with.

        Raise `ChallengeNotIssued`, `ChallengeMismatch` or `ChallengeExpired`.
        """
        self.verify(echo)
        if echo.request != request:
            raise ChallengeMismatch("The challenge asks for other terms than this request costs.")
        if (echo.digest or "") != digest:
            raise ChallengeMismatch("The challenge was issued for another body.")
        if _path(echo) != path:
            raise ChallengeMismatch("The challenge was issued for another path.")
        if echo.expires is None or _moment(echo.expires) <= now_s:
            raise ChallengeExpired


def _of_path(path: str) -> tuple[bytes, str]:
    """Return the end of `opaque` for a path, and the parameter that describes it to people."""
    tail = f'","path":{json.dumps(path, ensure_ascii=False)}}}'.encode()
    words = " ".join(path.split("/")[-2:]).strip()
    description = f', description="{words}"' if words and _is_plain(words) else ""
    return binascii.b2a_base64(tail, newline=False).translate(_URLSAFE, b"="), description


def _is_plain(text: str) -> bool:
    # Older clients split a header at the word, even inside quotes.
    return _PLAIN.fullmatch(text) is not None and "payment " not in text.lower()


def _path(echo: ChallengeEcho) -> object:
    return read_part(echo.opaque).value.get("path") if echo.opaque else None


def read_part(text: str) -> Fields:
    """Read a challenge's `request` or `opaque`; raise `ChallengeNotIssued` where that cannot be one of ours."""
    try:
        return decode_json(text, limit=_MAX_PART)
    except WireError:
        raise ChallengeNotIssued("The challenge's request and opaque must be base64url of JSON objects.") from None


def _moment(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise ChallengeNotIssued("The challenge's expires must be an RFC 3339 moment.") from None
