"""Links to assets: signed, expiring, made and checked without any lookup."""

from __future__ import annotations

import binascii
import hmac
from typing import Protocol
from urllib.parse import parse_qs

from stablestudio.errors import StudioError

PATH = "/assets/"
_SIGNATURE_BYTES = 18  # a multiple of three, so that base64 needs no padding
_STEP_SECONDS = 60
_INLINE_TYPES = frozenset({"image/png", "image/jpeg", "image/webp", "video/mp4"})
_BASE64_TO_URL = bytes.maketrans(b"+/", b"-_")


class LinkInvalid(StudioError):
    """This link was not issued by this service, or it was altered."""

    status = 403
    hint = "Read the job again and use the link exactly as it is given there."


class LinkExpired(StudioError):
    """This link has expired."""

    status = 410
    hint = "Read the job again for a fresh link."


class AssetGone(StudioError):
    """This file is not kept here, or no longer."""

    status = 404
    hint = "Files are kept for a limited time; download results soon after the job is complete."


class AssetMissing(StudioError):
    """This file should be here, and is not: the fault is this service's."""

    status = 500
    hint = "Tell the operator the job's id: the file is lost, or this process looks for it in another place than the one that made it."


class AssetExpired(StudioError):
    """This file was kept for a limited time, which is over."""

    status = 410
    hint = "Order it again; the job tells until when its files are kept, as expiresAt."


class AssetDeleted(StudioError):
    """This file was deleted by its owner."""

    status = 410
    hint = "Order it again."


class Links(Protocol):
    """Makes links to assets and knows them again."""

    @property
    def origin(self) -> str:
        """Return the public address of this service."""
        ...

    def url(self, key: str, *, now_ms: int, content_type: str | None = None, until_ms: int | None = None) -> str:
        """Return a link to `key` that ends at `until_ms` at the latest."""
        ...

    def key_in(self, url: str, *, now_ms: int) -> str | None:
        """Return the key that one of our links leads to; None for any other address.

        Raises `LinkInvalid` or `LinkExpired` for one of ours that does not hold.
        """
        ...


def presentation(key: str, content_type: str | None) -> tuple[str, str]:
    """Return Content-Type and Content-Disposition of a file: what is not on the closed list is only saved, never shown."""
    # A key is plain ASCII without quotes (see Storage), so is its tail: job_abc-0.png.
    filename = "-".join(key.split("/")[-2:])
    if content_type in _INLINE_TYPES:
        return content_type, f'inline; filename="{filename}"'
    return "application/octet-stream", f'attachment; filename="{filename}"'


def expiry_s(*, now_ms: int, ttl_seconds: int, until_ms: int | None) -> int:
    """Return when a link made now ends, counted from the end of this minute, so that reads within it give equal links."""
    expiry = (now_ms // 1000 // _STEP_SECONDS + 1) * _STEP_SECONDS + ttl_seconds
    return expiry if until_ms is None else min(expiry, until_ms // 1000)


class LinkSigner:
    """Sign links to assets with HMAC-SHA256 over `key LF expiry LF`; `origin` is the configured public address.

    `secret` may be shared with other purposes: a key for links alone is derived from it.
    """

    def __init__(self, secret: bytes, origin: str, ttl_seconds: int = 1200) -> None:
        if len(secret) < 16:
            raise ValueError("The secret that signs links needs at least 16 bytes")
        self.origin = origin.rstrip("/")
        self._prefix = self.origin + PATH
        self._ttl_seconds = ttl_seconds
        # Copying a keyed state is half the cost of keying anew, and every poll signs up to two links.
        self._keyed = hmac.new(hmac.digest(secret, b"stablestudio asset links", "sha256"), digestmod="sha256")

    def url(
        self,
        key: str,
        *,
        now_ms: int,
        content_type: str | None = None,  # noqa: ARG002 - only a bucket has to be told
        until_ms: int | None = None,
    ) -> str:
        """Return the link to `key`, which ends at `until_ms` at the latest."""
        expiry = expiry_s(now_ms=now_ms, ttl_seconds=self._ttl_seconds, until_ms=until_ms)
        signature = self._signature(f"{key}\n{expiry}\n".encode())
        return f"{self._prefix}{key}?exp={expiry}&sig={signature}"

    def check(self, key: str, exp: str, sig: str, now_ms: int) -> int:
        """Return the link's expiry in seconds since 1970; raise `LinkInvalid` or `LinkExpired`."""
        genuine = self._signature(f"{key}\n{exp}\n".encode(errors="replace"))
        # Only ASCII text can be compared in constant time, and only ASCII text was ever signed.
        if not sig.isascii() or not hmac.compare_digest(genuine, sig):
            raise LinkInvalid
        expiry = int(exp)
        if now_ms >= expiry * 1000:
            raise LinkExpired
        return expiry

    def key_in(self, url: str, *, now_ms: int) -> str | None:
        """Return the key that one of our links leads to, or None for any other address.

        A link of ours that is altered or expired raises as in `check`.
        """
        if not url.startswith(self._prefix):
            return None
        key, _, query = url[len(self._prefix) :].partition("#")[0].partition("?")
        exp, sig = link_terms(query)
        self.check(key, exp, sig, now_ms)
        return key

    def _signature(self, text: bytes) -> str:
        mac = self._keyed.copy()
        mac.update(text)
        return binascii.b2a_base64(mac.digest()[:_SIGNATURE_BYTES], newline=False).translate(_BASE64_TO_URL).decode()


def link_terms(query: str) -> tuple[str, str]:
    """Return `exp` and `sig` of a query string; raise `LinkInvalid` where one is missing."""
    terms = parse_qs(query)
    try:
        return terms["exp"][0], terms["sig"][0]
    except KeyError:
        raise LinkInvalid from None
