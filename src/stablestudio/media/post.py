"""The one way to send something to an address that somebody else gave: as guarded as a fetch, and nothing is read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import anyio
import httpcore2

from stablestudio import __version__
from stablestudio.media.addresses import FetchFailed, FetchPolicy, FetchRefused, admit, read_url
from stablestudio.media.fetch import NETWORK_ERRORS, STEP_TIMEOUTS, symptom, tls_context
from stablestudio.media.lookups import LookUps
from stablestudio.media.pinning import PinnedBackend, Resolver

_LONGEST_PAUSE = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """What an address answered; `retry_after` in seconds, where it said so."""

    status: int
    retry_after: int | None = None


class Poster:
    """Posts JSON to public https addresses. Redirects are not followed, and of the answer only the head is looked at."""

    def __init__(
        self,
        *,
        policy: FetchPolicy | None = None,
        own_origin: str | None = None,
        resolve: Resolver | None = None,
        backend: httpcore2.AsyncNetworkBackend | None = None,
        total_seconds: float = 15.0,
    ) -> None:
        self._policy = policy or FetchPolicy()
        self._own_origin = read_url(own_origin).origin if own_origin else None
        self._backend = PinnedBackend(
            resolve=resolve or LookUps(), permits=self._policy.permits, inner=backend or httpcore2.AnyIOBackend()
        )
        self.total_seconds = total_seconds

    def admit(self, url: str) -> None:
        """Raise `FetchRefused` for what is certainly not posted to; nothing is looked up."""
        target = read_url(url)
        if target.origin == self._own_origin:
            raise FetchRefused("This is the service itself.")
        admit(target, self._policy)

    async def post(self, url: str, *, body: bytes, headers: Mapping[str, str]) -> Posted:
        """Return what the address answered; raise `FetchRefused` (never sent) or `FetchFailed` (no answer)."""
        self.admit(url)
        host = read_url(url).host
        try:
            with anyio.fail_after(self.total_seconds):
                return await self._send(url, body=body, headers=headers)
        except NETWORK_ERRORS as error:
            raise FetchFailed(f"{host} {symptom(error)}.") from error
        except TimeoutError:
            raise FetchFailed(f"{host} took longer than {self.total_seconds:g} seconds.") from None

    async def _send(self, url: str, *, body: bytes, headers: Mapping[str, str]) -> Posted:
        target = read_url(url)
        own = {
            "Host": target.authority,
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "User-Agent": f"StableStudio/{__version__}",
        }
        async with (
            httpcore2.AsyncConnectionPool(ssl_context=tls_context(), network_backend=self._backend) as pool,
            pool.stream(
                "POST",
                httpcore2.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path),
                headers=[*own.items(), *headers.items()],
                content=body,
                extensions={"timeout": STEP_TIMEOUTS},
            ) as response,
        ):
            told = {name.lower(): value for name, value in response.headers}.get(b"retry-after", b"")[:9]
            pause = min(int(told), _LONGEST_PAUSE) if told.isdigit() else None
            return Posted(status=response.status, retry_after=pause)
