"""Proofs of the wallet for signed reads (SIGN-IN-WITH-X): signed once per path and kept while they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from stablestudio.client.answers import api_error
from stablestudio.client.offers import origin
from stablestudio.client.steps import Reply
from stablestudio.client.wallet import KeyWallet
from stablestudio.clock import from_iso
from stablestudio.protocols import siwx, x402

_MARGIN_MS = 30_000  # clocks differ, and a request takes its time


@dataclass(frozen=True, slots=True)
class Proof:
    """A signed header and the moment at which the service stops taking it."""

    header: str
    expires_ms: int


@dataclass(slots=True)
class ProofCache:
    """Proofs by path until shortly before they expire; one holds for every query of its path."""

    _held: dict[str, Proof] = field(default_factory=dict)

    def get(self, url: str, *, now_ms: int) -> str | None:
        """Return a header that still holds for this URL."""
        proof = self._held.get(_path(url))
        return proof.header if proof and now_ms < proof.expires_ms - _MARGIN_MS else None

    def keep(self, url: str, proof: Proof, *, now_ms: int) -> None:
        """Keep a proof; those that expired go, so that the cache stays small."""
        self._held = {path: held for path, held in self._held.items() if held.expires_ms > now_ms}
        self._held[_path(url)] = proof


def prove(reply: Reply, *, base_url: str, wallet: KeyWallet, now_ms: int) -> Proof:
    """Sign the challenge of a 402. Raise `siwx.SiwxChallengeRefused` for one that names another origin than the service's."""
    extension = _challenge(reply)
    if extension is None:
        raise api_error(reply)
    header = siwx.sign(extension, wallet.key, origin=origin(base_url))
    return Proof(header=header, expires_ms=_expiry(extension, now_ms=now_ms))


def _challenge(reply: Reply) -> Mapping[str, Any] | None:
    header = reply.headers.get(x402.PAYMENT_REQUIRED.lower())
    extensions = (
        x402.decode_required(header).extensions if header else (reply.document_or_none() or {}).get("extensions")
    )
    found = extensions.get(siwx.NAME) if isinstance(extensions, Mapping) else None
    return found if isinstance(found, Mapping) else None


def _expiry(extension: Mapping[str, Any], *, now_ms: int) -> int:
    try:
        return from_iso(extension["info"]["expirationTime"])
    except (KeyError, TypeError, ValueError):
        return now_ms + siwx.LIFETIME_MS


def _path(url: str) -> str:
    return urlsplit(url).path
