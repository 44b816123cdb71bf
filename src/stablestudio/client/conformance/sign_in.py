"""The challenge of an unsigned read: SIGN-IN-WITH-X, in the header that clients read and in the body."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from stablestudio.client.conformance.exchange import Exchange, objects, walk
from stablestudio.client.conformance.mpp import check_challenges
from stablestudio.client.conformance.offers import ASKED, check_resource, read_offers
from stablestudio.client.conformance.rules import Finding, breach
from stablestudio.clock import from_iso
from stablestudio.protocols import siwx, x402

_NONCE = re.compile(r"[0-9A-Za-z]{8,}")
_KINDS = {"eip155": "eip191", "solana": "ed25519"}
_CLOCKS_APART = 60_000  # milliseconds


def check_sign_in(exchange: Exchange) -> Iterator[Finding]:
    """Hold the answer to an unsigned read against what wallets need to sign."""
    answer, where = exchange.answer, exchange.where
    if answer.status != ASKED:
        yield breach("sign_in_not_asked", where, f"The answer is {answer.status}, not 402.")
        return
    header = answer.header(x402.PAYMENT_REQUIRED)
    if not header:
        yield breach("sign_in_header", where, "There is no PAYMENT-REQUIRED.")
        return
    required, found = read_offers(header, where=where)
    yield from found
    yield from check_challenges(exchange, free=True)[1]
    if required is None:
        return
    if required.accepts:
        yield breach("sign_in_offers", where, f"`accepts` has {len(required.accepts)} offers.")
    yield from check_resource(required, exchange)
    extension = required.extensions.get(siwx.NAME)
    if not isinstance(walk(extension, "info"), dict):
        yield breach("sign_in_header", where, f"PAYMENT-REQUIRED has no extensions.{siwx.NAME}.info.")
        return
    if walk(answer.document(), "extensions", siwx.NAME, "info") != walk(extension, "info"):
        yield breach("sign_in_body", where, "The body has no challenge, or another one than the header.")
    yield from _check_challenge(extension, exchange)


def _check_challenge(extension: Any, exchange: Exchange) -> Iterator[Finding]:
    where, info = exchange.where, walk(extension, "info")
    if not _NONCE.fullmatch(str(info.get("nonce", ""))):
        yield breach("sign_in_nonce", where, "The nonce is missing, too short, or has other characters.")
    domain, uri = info.get("domain"), info.get("uri")
    # Older libraries compare the domain with the host's name, newer ones with name and port.
    if domain not in (urlsplit(exchange.origin).netloc, urlsplit(exchange.origin).hostname) or uri != exchange.url:
        yield breach("sign_in_domain", where, f"domain is {domain!r}, uri {uri!r}.")
    if not _is_timely(info, now_ms=exchange.now_s * 1000):
        times = f"issuedAt is {info.get('issuedAt')!r}, expirationTime {info.get('expirationTime')!r}"
        yield breach("sign_in_times", where, f"{times}.")
    chains = list(objects(walk(extension, "supportedChains")))
    wrong = [chain for chain in chains if _KINDS.get(str(chain.get("chainId")).partition(":")[0]) != chain.get("type")]
    if not chains or wrong:
        yield breach("sign_in_chains", where, f"{len(chains)} chains are listed, {len(wrong)} of them wrongly.")


def _is_timely(info: dict[str, Any], *, now_ms: float) -> bool:
    try:
        issued, expires = from_iso(str(info.get("issuedAt"))), from_iso(str(info.get("expirationTime")))
    except ValueError:
        return False
    return issued <= now_ms + _CLOCKS_APART and now_ms < expires
