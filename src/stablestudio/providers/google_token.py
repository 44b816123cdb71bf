"""Access tokens of a Google service account: a signed statement, exchanged for an hour's token (RFC 7523)."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

from stablestudio.clock import Clock
from stablestudio.config import ConfigurationInvalid
from stablestudio.providers.answers import Ambiguous, Reply, Unreadable
from stablestudio.providers.http import VendorHttp
from stablestudio.providers.provider import FailureKind, NotAccepted

log = logging.getLogger(__name__)

TOKEN_URL = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_LIFE_SECONDS = 3600
_SKEW_SECONDS = 10  # a clock a little ahead of Google's would sign for the future
_MARGIN_MS = 60_000
_EXCHANGE_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccount:
    """The parts of a service account's JSON key file that signing in needs."""

    email: str
    key: Any = field(repr=False)  # Crypto.PublicKey.RSA.RsaKey
    key_id: str | None = None
    project: str | None = None
    token_url: str = TOKEN_URL

    @classmethod
    def parse(cls, text: str, *, token_url: str | None = None) -> ServiceAccount:
        """Read a key file; raise `ConfigurationInvalid`, which never repeats what it read."""
        from Crypto.PublicKey import RSA  # noqa: PLC0415 - takes a while, and few need it

        try:
            document = json.loads(text)
            email, pem = document["client_email"], document["private_key"]
            key = RSA.import_key(pem)
        except (ValueError, TypeError, LookupError, AttributeError):
            raise ConfigurationInvalid(
                "The Google service account's key must be the JSON file that Google issues, with client_email and private_key."
            ) from None
        if not isinstance(email, str) or not key.has_private():
            raise ConfigurationInvalid("The Google service account's key file must hold a private key.")
        return cls(
            email=email,
            key=key,
            key_id=_text(document.get("private_key_id")),
            project=_text(document.get("project_id")),
            token_url=token_url or _text(document.get("token_uri")) or TOKEN_URL,
        )


class GoogleToken:
    """Signs in as a service account, and anew a minute before each token ends."""

    def __init__(self, account: ServiceAccount, *, clock: Clock, http: VendorHttp | None = None) -> None:
        """Take the account; `http` speaks to its token endpoint's origin, where another than the usual line is wanted."""
        parts = urlsplit(account.token_url)
        self._account = account
        self._clock = clock
        self._path = parts.path or "/"
        origin = f"{parts.scheme}://{parts.netloc}"
        self._http = http or VendorHttp(name="Google's sign-in", base_url=origin, auth={})
        self._headers: Mapping[str, str] = {}
        self._good_until = 0

    async def headers(self) -> Mapping[str, str]:
        """Return the header that carries a token with a minute left or more; raise `NotAccepted` where there is none.

        Two callers at once may both sign in; the later token stays, and both are good.
        """
        if self._clock.now_ms() < self._good_until:
            return self._headers
        token, seconds = await self._exchange()
        self._headers = {"Authorization": f"Bearer {token}"}
        self._good_until = self._clock.now_ms() + seconds * 1000 - _MARGIN_MS
        return self._headers

    async def close(self) -> None:
        await self._http.close()

    async def _exchange(self) -> tuple[str, int]:
        form = {"grant_type": _GRANT, "assertion": statement(self._account, now_s=self._clock.now_ms() // 1000)}
        try:
            reply = await self._http.submit(
                "POST",
                self._path,
                content=urlencode(form).encode(),
                headers={"Content-Type": "application/x-www-form-urlencoded"},
                timeout=_EXCHANGE_SECONDS,
            )
            return _token(reply)
        except (Ambiguous, Unreadable) as error:
            # Nothing costs money here: whatever became of the sign-in, the work was not asked for.
            raise NotAccepted(f"Google's sign-in: {error}") from error


def statement(account: ServiceAccount, *, now_s: int) -> str:
    """Return the JWT with which a service account asks for a token (developers.google.com/identity, RS256)."""
    from Crypto.Hash import SHA256  # noqa: PLC0415 - see above
    from Crypto.Signature import pkcs1_15  # noqa: PLC0415

    issued = now_s - _SKEW_SECONDS
    header = {"alg": "RS256", "typ": "JWT"} | ({"kid": account.key_id} if account.key_id else {})
    claims = {
        "iss": account.email,
        "scope": SCOPE,
        "aud": account.token_url,
        "iat": issued,
        "exp": issued + _LIFE_SECONDS,
    }
    signed = b".".join(_base64url(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
    signature = pkcs1_15.new(account.key).sign(SHA256.new(signed))
    return (signed + b"." + _base64url(signature)).decode()


def _token(reply: Reply) -> tuple[str, int]:
    """Read a token and its life in seconds."""
    if not reply.ok:
        told = f"Google's sign-in answered with status {reply.status}: {reply.excerpt}"
        raise NotAccepted(told, kind=FailureKind.UPSTREAM_AUTH, request_id=reply.request_id)
    match reply.json():
        case {"access_token": str(token), **rest} if token.isascii() and token.isprintable():
            seconds = rest.get("expires_in")
            return token, seconds if isinstance(seconds, int) else _LIFE_SECONDS
    raise Unreadable("no access_token in the answer")


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
