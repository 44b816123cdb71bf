"""Sign-in nonces that need no memory: whoever holds the secret can tell that one was issued here, and when."""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable

from stablestudio.protocols.siwx.errors import SiwxUnknownNonce

_TIME_BYTES = 4  # whole seconds, until the year 2106
_RANDOM_BYTES = 5  # a thousand nonces in one second collide once in two million such seconds
_MAC_BYTES = 7
_BODY_BYTES = _TIME_BYTES + _RANDOM_BYTES
_MIN_SECRET = 16
_PURPOSE = b"siwx nonce 1:"


class NonceIssuer:
    """Issue and recognise nonces of 32 lower-case hexadecimal digits: seconds, random bytes, and an HMAC over both."""

    def __init__(self, secret: bytes, *, entropy: Callable[[int], bytes] = os.urandom) -> None:
        if len(secret) < _MIN_SECRET:
            raise ValueError(f"The nonce secret needs at least {_MIN_SECRET} bytes")
        self._secret = secret
        self._entropy = entropy

    def issue(self, now_ms: int) -> str:
        body = (now_ms // 1000).to_bytes(_TIME_BYTES) + self._entropy(_RANDOM_BYTES)
        return (body + self._mac(body)).hex()

    def issued_at_ms(self, nonce: str) -> int:
        """Return the start of the second in which we issued a nonce; raise `SiwxUnknownNonce` if we did not."""
        try:
            data = bytes.fromhex(nonce)
        except ValueError:
            raise SiwxUnknownNonce from None
        body, mac = data[:_BODY_BYTES], data[_BODY_BYTES:]
        # One spelling only: a nonce is also the key under which its use is remembered.
        if data.hex() != nonce or not hmac.compare_digest(mac, self._mac(body)):
            raise SiwxUnknownNonce
        return int.from_bytes(body[:_TIME_BYTES]) * 1000

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._secret, _PURPOSE + body, "sha256")[:_MAC_BYTES]
