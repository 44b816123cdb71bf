"""Buckets of S3 and its like: where one is, who we are there, and links to its files that the bucket itself checks."""

from __future__ import annotations

import hashlib
import hmac
import re
from calendar import timegm
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from time import gmtime, strftime, strptime
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlsplit

from obstore.store import S3Store

from stablestudio.media.links import LinkExpired, LinkInvalid, LinkSigner, expiry_s, presentation

if TYPE_CHECKING:
    from obstore.store import S3Config  # which the library only has for type checkers

# S3 takes no link for longer.
LONGEST_LINK_SECONDS = 7 * 86400
_PLACE = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])((?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*)/?")
_ALGORITHM = "AWS4-HMAC-SHA256"
_STAMP = "%Y%m%dT%H%M%SZ"
_STEP_SECONDS = 60
_CONNECT = timedelta(seconds=10)
_TIMEOUT = timedelta(minutes=10)
_PATIENCE = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Who we are at a bucket."""

    key_id: str
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Where a bucket is. Without an endpoint it is Amazon's; without keys the machine's own role is asked for some."""

    name: str
    prefix: str = ""  # with a slash before it
    region: str = "us-east-1"
    endpoint: str | None = None
    keys: Keys | None = None

    @classmethod
    def at(cls, location: str, *, region: str, endpoint: str | None = None, keys: Keys | None = None) -> Bucket:
        """Read `s3://bucket/prefix`; raise `ValueError` for anything else."""
        match = _PLACE.fullmatch(location)
        if match is None:
            raise ValueError("a bucket is written as s3://bucket or s3://bucket/prefix")
        endpoint = endpoint.rstrip("/") if endpoint else None
        return cls(name=match[1], prefix=match[2], region=region, endpoint=endpoint, keys=keys)

    @property
    def base(self) -> str:
        """Return the URL under which the files are, with a slash at its end."""
        if self.endpoint:
            return f"{self.endpoint}/{self.name}{self.prefix}/"
        host = f"s3.{self.region}.amazonaws.com"
        # A certificate for *.s3... does not cover further dots.
        dotted = f"https://{host}/{self.name}" if "." in self.name else f"https://{self.name}.{host}"
        return f"{dotted}{self.prefix}/"

    def open(self) -> S3Store:
        """Return the store; nothing is asked of it yet."""
        config: S3Config = {"region": self.region}
        if self.endpoint:
            config["endpoint"] = self.endpoint
        if self.keys:
            config["access_key_id"], config["secret_access_key"] = self.keys.key_id, self.keys.secret
        if self.keys and self.keys.token:
            config["session_token"] = self.keys.token
        plain = bool(self.endpoint and self.endpoint.startswith("http://"))
        return S3Store(
            self.name,
            prefix=self.prefix.strip("/") or None,
            config=config,
            client_options={"connect_timeout": _CONNECT, "timeout": _TIMEOUT, "allow_http": plain},
            retry_config={"max_retries": 5, "retry_timeout": _PATIENCE},
        )


class BucketLinks:
    """Sign links that lead to the bucket, past this service; what our own links looked like before stays known."""

    def __init__(self, bucket: Bucket, keys: Keys, *, own: LinkSigner, ttl_seconds: int = 1200) -> None:
        self._bucket = bucket
        self._keys = keys
        self._own = own
        self._ttl_seconds = ttl_seconds
        self._base = bucket.base
        parts = urlsplit(self._base)
        self._host, self._path = parts.netloc, parts.path

    @property
    def origin(self) -> str:
        return self._own.origin

    def url(self, key: str, *, now_ms: int, content_type: str | None = None, until_ms: int | None = None) -> str:
        """Return the link to `key`, which ends at `until_ms` at the latest."""
        # Signed as of the minute's beginning, so that reads within one give equal links.
        signed_at = now_ms // 1000 // _STEP_SECONDS * _STEP_SECONDS
        expiry = expiry_s(now_ms=now_ms, ttl_seconds=self._ttl_seconds, until_ms=until_ms)
        shown, disposition = presentation(key, content_type)
        terms = {
            "X-Amz-Algorithm": _ALGORITHM,
            "X-Amz-Credential": f"{self._keys.key_id}/{self._scope(signed_at)}",
            "X-Amz-Date": strftime(_STAMP, gmtime(signed_at)),
            "X-Amz-Expires": str(max(1, min(expiry - signed_at, LONGEST_LINK_SECONDS))),
            "X-Amz-SignedHeaders": "host",
            "response-cache-control": "private",
        }
        if self._keys.token:
            terms["X-Amz-Security-Token"] = self._keys.token
        if content_type is not None:
            terms |= {"response-content-type": shown, "response-content-disposition": disposition}
        query = _canonical(terms)
        return f"{self._base}{key}?{query}&X-Amz-Signature={self._signature(key, query, signed_at)}"

    def key_in(self, url: str, *, now_ms: int) -> str | None:
        """Return the key that one of our links leads to, to the bucket or to this service; None for any other address."""
        if not url.startswith(self._base):
            return self._own.key_in(url, now_ms=now_ms)
        key, _, query = url[len(self._base) :].partition("#")[0].partition("?")
        terms = dict(parse_qsl(query, keep_blank_values=True))
        signature = terms.pop("X-Amz-Signature", "")
        signed_at, lasts = _moment(terms.get("X-Amz-Date", "")), terms.get("X-Amz-Expires", "")
        genuine = self._signature(key, _canonical(terms), signed_at)
        if not signature.isascii() or not hmac.compare_digest(genuine, signature) or not lasts.isdecimal():
            raise LinkInvalid
        if now_ms >= (signed_at + int(lasts)) * 1000:
            raise LinkExpired
        return key

    def _scope(self, signed_at: int) -> str:
        return f"{strftime('%Y%m%d', gmtime(signed_at))}/{self._bucket.region}/s3/aws4_request"

    def _signature(self, key: str, query: str, signed_at: int) -> str:
        """Return what S3 expects: Signature Version 4 in the query, of a GET whose body nobody signs."""
        asked = f"GET\n{self._path}{key}\n{query}\nhost:{self._host}\n\nhost\nUNSIGNED-PAYLOAD"
        digest = hashlib.sha256(asked.encode()).hexdigest()
        scope = self._scope(signed_at)
        text = f"{_ALGORITHM}\n{strftime(_STAMP, gmtime(signed_at))}\n{scope}\n{digest}"
        return hmac.new(_signing_key(self._keys.secret, scope), text.encode(), "sha256").hexdigest()


@lru_cache(maxsize=8)
def _signing_key(secret: str, scope: str) -> bytes:
    """Return the key of a day, a region and a service."""
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _canonical(terms: Mapping[str, str]) -> str:
    return "&".join(f"{quote(name, safe='-_.~')}={quote(terms[name], safe='-_.~')}" for name in sorted(terms))


def _moment(stamp: str) -> int:
    try:
        return timegm(strptime(stamp, _STAMP))
    except ValueError:
        raise LinkInvalid from None
