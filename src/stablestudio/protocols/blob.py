"""Client tokens of the Vercel Blob protocol: what a paid upload may write, signed by the service, read by its clients.

Source: the npm package @vercel/blob 2.8 (`generateClientTokenFromReadWriteToken`, `put`, multipart uploads).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass

_PREFIX = "vercel_blob_client_"
_LONGEST = 4096


class TokenInvalid(Exception):
    """This token was not issued here, or it was altered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a token allows: one file under this name, until then (ms), of these types, no larger than that (bytes)."""

    pathname: str
    valid_until_ms: int
    content_types: Sequence[str]
    max_bytes: int


class BlobTokens:
    """Issues and reads client tokens. The store's id is public; its clients split tokens at underscores."""

    def __init__(self, secret: bytes) -> None:
        """Derive the store's id and its read-write token from `secret`, which may have other purposes."""
        self.store_id = hmac.digest(secret, b"stablestudio blob store", "sha256").hex()[:16]
        own = hmac.digest(secret, b"stablestudio blob tokens", "sha256").hex()
        self._read_write = f"vercel_blob_rw_{self.store_id}_{own}".encode()

    def issue(self, grant: Grant) -> str:
        """Return the token for a grant; equal grants have equal tokens."""
        terms = {
            "pathname": grant.pathname,
            "validUntil": grant.valid_until_ms,
            "allowedContentTypes": list(grant.content_types),
            "maximumSizeInBytes": grant.max_bytes,
            "addRandomSuffix": False,
            "allowOverwrite": False,
        }
        payload = base64.b64encode(json.dumps(terms, separators=(",", ":")).encode())
        signed = b".".join((self._sign(payload), payload))
        return f"{_PREFIX}{self.store_id}_{base64.b64encode(signed).decode()}"

    def read(self, token: str) -> Grant:
        """Return what a token grants, whether it has expired or not; raise `TokenInvalid`."""
        prefix = f"{_PREFIX}{self.store_id}_"
        if len(token) > _LONGEST or not token.startswith(prefix):
            raise TokenInvalid
        try:
            signature, _, payload = base64.b64decode(token[len(prefix) :], validate=True).partition(b".")
        except (binascii.Error, ValueError):
            raise TokenInvalid from None
        if not hmac.compare_digest(self._sign(payload), signature):
            raise TokenInvalid
        terms = json.loads(base64.b64decode(payload))  # ours, so it is as we wrote it
        return Grant(
            pathname=terms["pathname"],
            valid_until_ms=terms["validUntil"],
            content_types=tuple(terms["allowedContentTypes"]),
            max_bytes=terms["maximumSizeInBytes"],
        )

    def _sign(self, payload: bytes) -> bytes:
        return hmac.digest(self._read_write, payload, "sha256").hex().encode()
