"""The free question by which a check proves key and reach, whatever may come in place of its answer."""

from __future__ import annotations

from stablestudio.providers.answers import Ambiguous, Reply, Unanswered, Unreadable
from stablestudio.providers.faults import VendorUnusable
from stablestudio.providers.http import MAX_STATUS_BYTES, VendorHttp
from stablestudio.providers.provider import NotAccepted

_SECONDS = 15.0


async def asked(
    http: VendorHttp, path: str, *, method: str = "GET", json: object = None, max_bytes: int = MAX_STATUS_BYTES
) -> Reply:
    """Return a vendor's answer, whatever its status; raise `VendorUnusable` where there is none."""
    try:
        return await http.ask(method, path, json=json, deadline_seconds=_SECONDS, max_bytes=max_bytes)
    except Unanswered as error:
        raise VendorUnusable(f"{error}.") from None
    except NotAccepted as error:
        raise VendorUnusable(f"{http.name} cannot sign in: {error.detail[:300]}") from None
    except (Ambiguous, Unreadable) as error:
        raise VendorUnusable(f"{http.name} answered unexpectedly: {error}.") from None
