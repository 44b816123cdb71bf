"""The one way to fetch an address that somebody else gave: guarded against our own network, endless bodies and slow hosts."""

from __future__ import annotations

import binascii
import ssl
from dataclasses import dataclass
from functools import cache
from typing import Literal

import anyio
import httpcore2
import httpx2

from stablestudio import __version__
from stablestudio.clock import Clock
from stablestudio.media.addresses import FetchFailed, FetchPolicy, FetchRefused, Target, admit, read_url, redirected
from stablestudio.media.heads import admit_body
from stablestudio.media.links import AssetGone, LinkExpired, LinkInvalid, Links
from stablestudio.media.lookups import LookUps
from stablestudio.media.pinning import PinnedBackend, Resolver
from stablestudio.media.storage import Storage

__all__ = [
    "MAX_BYTES",
    "MAX_INLINE_BYTES",
    "MAX_REDIRECTS",
    "MAX_SECONDS",
    "FetchFailed",
    "Fetched",
    "Kind",
    "MediaFetcher",
    "OwnAssets",
    "read_data_uri",
]

MAX_BYTES = 30 * 1024 * 1024
MAX_INLINE_BYTES = 4 * 1024 * 1024
MAX_REDIRECTS = 3
MAX_SECONDS = 30.0
# Reading a piece costs the same however small it is. Honest hosts fill their packets, after a hesitant beginning.
_HESITANT_PIECES = 10_000
_LEAST_PIECE = 256  # bytes, on average
STEP_TIMEOUTS = {"connect": 5.0, "read": 10.0, "write": 10.0, "pool": 10.0}  # seconds
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NOT_MEDIA = ("text/", "application/json", "application/xhtml+xml", "application/xml")
NETWORK_ERRORS = (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException)

Kind = Literal["image", "video", "audio"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What an address answered with; `content_type` is the sender's word and proves nothing."""

    data: bytes
    content_type: str | None
    url: str  # where the data came from after redirects; "data:" for inline data


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnAssets:
    """Read our own links straight from storage: no request of the service to itself."""

    links: Links
    storage: Storage
    clock: Clock

    async def read(self, url: str, *, max_bytes: int, as_of_ms: int | None) -> Fetched | None:
        """Return the file that one of our valid links leads to, or None for any other address."""
        try:
            key = self.links.key_in(url, now_ms=self.clock.now_ms() if as_of_ms is None else as_of_ms)
        except (LinkExpired, LinkInvalid) as error:
            raise FetchRefused(error.message, hint=error.advice) from None
        if key is None:
            return None
        size = await self.storage.size(key)
        if size is not None and size > max_bytes:
            raise _too_large("This earlier result", max_bytes)
        try:
            return Fetched(data=await self.storage.read(key), content_type=None, url=url)
        except AssetGone as error:
            raise FetchFailed(error.message, hint=error.advice) from None


class MediaFetcher:
    """Fetch media from addresses that buyers and vendors name, under the policy's guard.

    A host is looked up once and every answer must be permitted; the connection goes to that very address.
    """

    def __init__(
        self,
        *,
        own: OwnAssets | None = None,
        policy: FetchPolicy | None = None,
        resolve: Resolver | None = None,
        backend: httpcore2.AsyncNetworkBackend | None = None,
        total_seconds: float = MAX_SECONDS,
    ) -> None:
        self._own = own
        self._own_origin = read_url(own.links.origin).origin if own else None
        self._policy = policy or FetchPolicy()
        self._backend = PinnedBackend(
            resolve=resolve or LookUps(), permits=self._policy.permits, inner=backend or httpcore2.AnyIOBackend()
        )
        self._total_seconds = total_seconds

    async def get(
        self, url: str, *, max_bytes: int = MAX_BYTES, kind: Kind | None = None, as_of_ms: int | None = None
    ) -> Fetched:
        """Return what `url` leads to: a public address, one of our own links, or a `data:` URI.

        `kind` asks for that kind of media and refuses a web page in its place. An own link is judged as of the
        moment `as_of_ms`, so that work may start after a link accepted in time has expired.
        Raise `FetchRefused` (never asked for) or `FetchFailed` (asked, without success).
        """
        if url[:5].lower() == "data:":
            return read_data_uri(url, max_bytes=min(max_bytes, MAX_INLINE_BYTES))
        if self._own and (kept := await self._own.read(url, max_bytes=max_bytes, as_of_ms=as_of_ms)):
            return kept
        target = self._target(url)
        try:
            with anyio.fail_after(self._total_seconds):
                return await self._follow(target, _Wish(max_bytes=max_bytes, kind=kind))
        except TimeoutError:
            raise FetchFailed(f"{target.host} took longer than {self._total_seconds:g} seconds.") from None

    def is_own(self, url: str) -> bool:
        """Tell whether an address is of this service itself."""
        try:
            return self._own_origin is not None and read_url(url).origin == self._own_origin
        except FetchRefused:
            return False

    def check_own(self, url: str) -> str | None:
        """Return the key behind a link of ours, None for any other address; nothing is asked of anybody.

        Raises if it is one of ours that was altered or has expired.
        """
        return None if self._own is None else self._own.links.key_in(url, now_ms=self._own.clock.now_ms())

    async def _follow(self, target: Target, wish: _Wish) -> Fetched:
        # A pool of its own for every fetch: nothing one address did can touch the next.
        async with httpcore2.AsyncConnectionPool(ssl_context=tls_context(), network_backend=self._backend) as pool:
            for _ in range(MAX_REDIRECTS + 1):
                answer = await _ask(pool, target, wish)
                if isinstance(answer, Fetched):
                    return answer
                target = self._target(answer)
        raise FetchFailed(f"{target.host} was reached after more than {MAX_REDIRECTS} redirects.")

    def _target(self, url: str) -> Target:
        target = read_url(url)
        if target.origin == self._own_origin:
            raise FetchRefused("Of this service itself, only links to results are read.")
        admit(target, self._policy)
        return target


def read_data_uri(uri: str, *, max_bytes: int) -> Fetched:
    """Decode a base64 `data:` URI without any request; raise `FetchRefused` or `FetchFailed`."""
    head, comma, text = uri[5:].partition(",")
    content_type, *parameters = head.split(";")
    if not comma or not parameters or parameters[-1].strip().lower() != "base64":
        raise FetchRefused("A data: URI must be of the form data:image/png;base64,...")
    if len(text) > (max_bytes + 2) // 3 * 4:
        raise _too_large("This data: URI", max_bytes)
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise FetchRefused("The part after the comma of a data: URI must be plain base64.") from None
    if len(data) > max_bytes:
        raise _too_large("This data: URI", max_bytes)
    return Fetched(data=data, content_type=content_type.strip().lower() or None, url="data:")


@cache
def tls_context() -> ssl.SSLContext:
    """Return what outgoing TLS trusts: the usual roots, whatever the environment says."""
    return httpx2.create_ssl_context(trust_env=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    max_bytes: int
    kind: Kind | None


async def _ask(pool: httpcore2.AsyncConnectionPool, target: Target, wish: _Wish) -> Fetched | str:
    """Return what the target answers with, or where it redirects to."""
    try:
        async with pool.stream(
            "GET",
            httpcore2.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path),
            headers={
                "Host": target.authority,
                "Accept": f"{wish.kind}/*" if wish.kind else "*/*",
                "Accept-Encoding": "identity",
                "User-Agent": f"StableStudio/{__version__}",
            },
            extensions={"timeout": STEP_TIMEOUTS},
        ) as response:
            headers = {name.lower(): value for name, value in response.headers}
            if response.status in _REDIRECTS and b"location" in headers:
                return redirected(_spelled(target), headers[b"location"].decode(errors="replace"))
            content_type = _judge(target, wish, response.status, headers)
            admit_body(response)
            data = await _body(target, response, wish.max_bytes)
    except NETWORK_ERRORS as error:
        raise FetchFailed(f"{target.host} {symptom(error)}.") from error
    return Fetched(data=data, content_type=content_type, url=_spelled(target))


def _judge(target: Target, wish: _Wish, status: int, headers: dict[bytes, bytes]) -> str | None:
    """Return the content type of an answer worth reading; raise `FetchFailed` for any other."""
    if status != httpx2.codes.OK:
        raise FetchFailed(f"{target.host} answered with status {status}.")
    if headers.get(b"content-encoding", b"identity").strip().lower() not in (b"", b"identity"):
        raise FetchFailed(f"{target.host} answered with a compressed body, which was not asked for.")
    # A first look only: `_body` counts what really comes.
    length = headers.get(b"content-length", b"")[:18]
    if length.isdigit() and int(length) > wish.max_bytes:
        raise _too_large(f"The file at {target.host}", wish.max_bytes)
    content_type = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
    if wish.kind and content_type.startswith(_NOT_MEDIA):
        raise FetchFailed(f"{target.host} answered with {content_type[:60]!r} where {wish.kind} data was expected.")
    return content_type or None


async def _body(target: Target, response: httpcore2.Response, max_bytes: int) -> bytes:
    data = bytearray()
    pieces = 0
    async for piece in response.aiter_stream():
        data += piece
        pieces += 1
        if len(data) > max_bytes:
            raise _too_large(f"The file at {target.host}", max_bytes)
        if pieces > _HESITANT_PIECES and len(data) < pieces * _LEAST_PIECE:
            raise FetchFailed(f"{target.host} answered in too small pieces.")
    return bytes(data)


def _spelled(target: Target) -> str:
    return f"{target.scheme}://{target.authority}{target.path}"


def symptom(error: Exception) -> str:
    """Return what a network error looks like from outside, as the end of a sentence."""
    if isinstance(error, httpcore2.TimeoutException):
        return "did not answer in time"
    if any(isinstance(argument, ssl.SSLError) for argument in error.args):
        return "has no valid certificate"
    return "could not be reached" if isinstance(error, httpcore2.ConnectError) else "broke off its answer"


def _too_large(what: str, max_bytes: int) -> FetchFailed:
    return FetchFailed(
        f"{what} is larger than {max_bytes / 1024 / 1024:.3g} MB.", hint="Send a smaller file; nothing was kept."
    )
