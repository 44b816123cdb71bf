"""The HTTP client of one facilitator: POST /verify, POST /settle, GET /supported (facts: x402 specification v2, section 7)."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Literal
from urllib.parse import urlsplit

import anyio
import httpx2
from pydantic import BaseModel, Field, ValidationError

from stablestudio import __version__
from stablestudio.errors import StudioError
from stablestudio.payments.facilitators.answers import (
    BAD_RECEIPTS,
    Answer,
    Passed,
    Silent,
    Submission,
    read_settlement,
    read_verdict,
)
from stablestudio.payments.facilitators.auth import FacilitatorAuth, NoAuth
from stablestudio.payments.rail import Unknown

log = logging.getLogger(__name__)
MAX_BODY = 1024 * 1024
CALL_SECONDS = 10.0
_CONNECT_SECONDS = 4.0
_VERSION = 2
_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "Content-Type": "application/json",
    "User-Agent": f"StableStudio/{__version__}",
}
_NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)
_TIMED_OUT = (httpx2.ReadTimeout, httpx2.WriteTimeout, TimeoutError)


class FacilitatorUnusable(StudioError):
    """A facilitator cannot settle payments as it is configured."""

    status = 502
    hint = "Check the facilitator's address and key in the configuration."


class FacilitatorUnreachable(FacilitatorUnusable):
    """A facilitator does not answer at the moment."""

    status = 503
    retryable = True
    hint = "Check the address and the network, or wait until the facilitator is back."


class FacilitatorRefusesUs(FacilitatorUnusable):
    """A facilitator does not accept our key."""

    hint = "Check id, secret and permissions of the facilitator's API key, and this machine's clock."


class NetworkNotServed(FacilitatorUnusable):
    """A facilitator does not settle payments on the network that it is configured for."""

    hint = "Choose a facilitator that lists the network at its /supported, or take it out of the list."


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What a facilitator offers on one network; `extra` and the signers matter on Solana, whose buyers name the fee payer."""

    facilitator: str
    scheme: str
    network: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    signers: tuple[str, ...] = ()

    @property
    def fee_payer(self) -> str | None:
        """Return the account that pays the fees of Solana transactions."""
        payer = self.extra.get("feePayer")
        return payer if isinstance(payer, str) else None


class _Supported(BaseModel):
    kinds: list[dict[str, Any]] = Field(max_length=10_000)
    signers: dict[str, list[str]] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    status: int
    body: bytes


class _Unreadable(Exception):
    """The body is too large, or packed in a way that was not asked for."""


class Facilitator:
    """One facilitator. It never raises about a payment: what went wrong is an answer too."""

    def __init__(
        self,
        url: str,
        *,
        auth: FacilitatorAuth | None = None,
        timeout_seconds: float = CALL_SECONDS,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._url = _base(url)
        self._auth = auth or NoAuth()
        self._timeout_seconds = timeout_seconds
        self._client = httpx2.AsyncClient(
            transport=transport,
            follow_redirects=False,  # a redirect would carry our token and the buyer's signature elsewhere
            trust_env=False,
            # Connection and handshake together must fail before the whole call does: only then nothing was sent.
            timeout=httpx2.Timeout(timeout_seconds, connect=min(_CONNECT_SECONDS, timeout_seconds / 3)),
            # A kept connection that the other side just closed fails after the request was written: an ambiguous
            # settlement for the sake of one round trip.
            limits=httpx2.Limits(max_keepalive_connections=0),
        )

    @property
    def name(self) -> str:
        """Return host and path: a stable name without secrets."""
        return self._url.partition("://")[2]

    def __repr__(self) -> str:
        return f"Facilitator({self._url!r})"

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def settle(self, submission: Submission) -> Answer:
        """Ask for the money to be moved, once."""
        reply = await self._exchange("POST", "/settle", submission.content)
        if not isinstance(reply, _Reply):
            return reply
        answer = read_settlement(reply.status, reply.body, submission=submission)
        if isinstance(answer, Unknown) and answer.reason in BAD_RECEIPTS:
            log.error(answer.reason, extra={"facilitator": self.name, "payment": submission.key})
        return answer

    async def verify(self, submission: Submission) -> Answer | None:
        """Ask for an opinion, which moves nothing; None means valid."""
        reply = await self._exchange("POST", "/verify", submission.content)
        if isinstance(reply, _Reply):
            return read_verdict(reply.status, reply.body)
        return Passed(reason=reply.reason)

    async def served(self, *, network: str, scheme: str = "exact") -> Served:
        """Return what `/supported` says about a network; raise a `FacilitatorUnusable` that names what is wrong."""
        reply = await self._exchange("GET", "/supported")
        if not isinstance(reply, _Reply) or reply.status == 429 or reply.status >= 500:
            reason = f"answered with status {reply.status}" if isinstance(reply, _Reply) else "could not be reached"
            raise FacilitatorUnreachable(f"The facilitator {self.name} {reason}.")
        if reply.status in (401, 403):
            raise FacilitatorRefusesUs(f"The facilitator {self.name} refuses our key with status {reply.status}.")
        offered = self._read_supported(reply)
        for kind in offered.kinds:
            if (kind.get("x402Version"), kind.get("scheme"), kind.get("network")) == (_VERSION, scheme, network):
                return self._describe(kind, offered)
        raise NetworkNotServed(f"The facilitator {self.name} does not offer x402 v2 {scheme!r} on {network}.")

    def _read_supported(self, reply: _Reply) -> _Supported:
        try:
            if reply.status == 200:
                return _Supported.model_validate_json(reply.body)
        except ValidationError:
            raise FacilitatorUnusable(f"The list that {self.name} gives at /supported cannot be read.") from None
        raise FacilitatorUnusable(f"The facilitator {self.name} answers /supported with status {reply.status}.")

    def _describe(self, kind: Mapping[str, Any], offered: _Supported) -> Served:
        network, extra = str(kind["network"]), kind.get("extra")
        family = network.partition(":")[0] + ":*"
        return Served(
            facilitator=self.name,
            scheme=str(kind["scheme"]),
            network=network,
            extra=extra if isinstance(extra, dict) else {},
            signers=tuple(offered.signers.get(network) or offered.signers.get(family) or ()),
        )

    async def _exchange(
        self, method: Literal["GET", "POST"], path: str, content: bytes | None = None
    ) -> _Reply | Passed | Silent | Unknown:
        """Send once and read the whole answer; tell apart what certainly was not sent from what may have been."""
        url = self._url + path
        answer: _Reply | Passed | Silent | Unknown
        started = anyio.current_time()
        try:
            with anyio.fail_after(self._timeout_seconds):
                headers = {**_HEADERS, **self._auth.headers(method, url)}
                async with self._client.stream(method, url, content=content, headers=headers) as response:
                    answer = _Reply(status=response.status_code, body=await _read(response))
        except _NEVER_SENT:
            answer = Passed(reason="facilitator_unreachable")
        except _TIMED_OUT:
            answer = Silent()
        except (httpx2.TransportError, _Unreadable):
            answer = Unknown(reason="facilitator_broke_off")
        log.info(
            "facilitator_called",
            extra={
                "facilitator": self.name,
                "call": path,
                "answer": answer.status if isinstance(answer, _Reply) else answer.reason,
                "took_ms": round((anyio.current_time() - started) * 1000),
            },
        )
        return answer


def _base(url: str) -> str:
    """Return the base address without a slash at its end; refuse one that would show a signature or key to others."""
    try:
        parts = urlsplit(url.strip())
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        raise FacilitatorUnusable("The facilitator's address is no URL.") from None
    if parts.username or parts.password or parts.query or parts.fragment or not host:
        raise FacilitatorUnusable("A facilitator's address consists of https, host and path only.")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        raise FacilitatorUnusable(f"The facilitator {host} must be reached by https.")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _read(response: httpx2.Response) -> bytes:
    data = bytearray()
    async for chunk in response.aiter_raw():
        data += chunk
        if len(data) > MAX_BODY:
            raise _Unreadable
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("", "identity"):
        return bytes(data)
    if encoding != "gzip":
        raise _Unreadable
    return _unpack(bytes(data))


def _unpack(data: bytes) -> bytes:
    # Some proxies pack whatever was asked for; the limit holds for what comes out, too.
    unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        body = unpacker.decompress(data, MAX_BODY + 1)
    except zlib.error:
        raise _Unreadable from None
    if len(body) > MAX_BODY or not unpacker.eof:
        raise _Unreadable
    return body
