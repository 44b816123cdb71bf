"""Every way in which a submission can go wrong that is the same for all vendors, and what is known after each."""

from __future__ import annotations

from typing import Any

from stablestudio.media.addresses import FetchPolicy, FetchRefused
from stablestudio.media.fetch import MediaFetcher
from stablestudio.providers.http import Ambiguous, VendorHttp
from stablestudio.providers.provider import FailureKind, NotAccepted
from tests.providers.loopback import Answer, Silence

QUICK: dict[str, Any] = {
    "timeout_seconds": 1.0,
    "connect_seconds": 1.0,
    "first_pause": 0.005,
    "longest_pause": 0.02,
}


def public_loopback() -> MediaFetcher:
    """Return a fetcher for which the loopback is the public internet, where vendors' stores of files stand."""

    async def nowhere(host: str) -> list[str]:
        raise FetchRefused(f"{host} is not asked for in a test.")

    policy = FetchPolicy(
        schemes=frozenset({"http", "https"}),
        ports=frozenset(range(1, 65536)),
        permits=lambda each: each.is_loopback,
    )
    return MediaFetcher(policy=policy, resolve=nowhere)


# What the vendor does, what is raised, and the advised pause where there is one.
SUBMISSIONS: list[tuple[Answer | Silence, type[Exception], float | None]] = [
    (Silence.RESET, Ambiguous, None),
    (Silence.HANG, Ambiguous, None),
    (Silence.CUT, Ambiguous, None),
    (Answer(status=500), Ambiguous, None),
    (Answer(status=502, body=b"<html>bad gateway</html>"), Ambiguous, None),
    (Answer(status=503, json={"error": {"message": "overloaded"}}), Ambiguous, None),
    (Answer(status=409, json={"error": {"code": 409, "status": "ABORTED"}}), Ambiguous, None),
    (Answer(status=424, json={}), Ambiguous, None),
    (Answer(status=499, json={"error": {"status": "CANCELLED"}}), Ambiguous, None),
    (Answer(status=400, json={"code": "InvalidURL.DownloadTimeout"}), Ambiguous, None),
    (Answer(status=400, json={"error": {"code": "RequestTimeOut"}}), Ambiguous, None),
    (Answer(status=429, json={}), NotAccepted, None),
    (Answer(status=429, headers={"retry-after-ms": "1500"}), NotAccepted, 1.5),
    (Answer(status=429, headers={"retry-after": "7"}), NotAccepted, 7.0),
    (Answer(status=429, headers={"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}), NotAccepted, 0.0),
    (Answer(status=429, headers={"retry-after": "9999"}), NotAccepted, 120.0),
]
# Answers about the operator: nothing was accepted, and another vendor may be asked.
REFUSALS: list[tuple[Answer, FailureKind]] = [
    (Answer(status=401, json={"error": {"message": "no"}}), FailureKind.UPSTREAM_AUTH),
    (Answer(status=403, body=b"<html>"), FailureKind.UPSTREAM_AUTH),
    (Answer(status=402, json={}), FailureKind.UPSTREAM_QUOTA),
    (Answer(status=404, json={}), FailureKind.UPSTREAM_RETIRED),
    (Answer(status=410, json={}), FailureKind.UPSTREAM_RETIRED),
]


def quick(name: str, url: str, key: str, **options: Any) -> VendorHttp:
    """Return a client without patience."""
    return VendorHttp(
        name=name, base_url=url, auth={"Authorization": f"Bearer {key}"}, fetcher=public_loopback(), **(QUICK | options)
    )
