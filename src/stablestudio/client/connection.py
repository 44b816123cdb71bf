"""The connections of the blocking client: one request, one answer, and whether a lost one was ever sent."""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx2

from stablestudio import __version__
from stablestudio.client.steps import Call, Lost, Outcome, Reply

# Settling a payment may take the service a while; an impatient client would only ask the same again.
_TIMEOUT = httpx2.Timeout(45.0, connect=10.0)
_NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.UnsupportedProtocol)
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def connections(base_url: str, transport: httpx2.BaseTransport | None) -> httpx2.Client:
    """Return connections to a service; no proxy stands before one on this machine."""
    return httpx2.Client(
        transport=transport,
        timeout=_TIMEOUT,
        headers={"user-agent": f"stablestudio/{__version__}"},
        trust_env=urlsplit(base_url).hostname not in _LOOPBACK,
    )


def perform(http: httpx2.Client, call: Call) -> Outcome:
    """Send a request once."""
    try:
        response = http.request(call.method, call.url, headers=dict(call.headers), content=call.body)
    except httpx2.HTTPError as error:
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return Lost(reason=reason, sent=not isinstance(error, _NEVER_SENT))
    return Reply(status=response.status_code, headers=dict(response.headers), body=response.content)
