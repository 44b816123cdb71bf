"""Whether Google's developer API can be used: a list of models costs nothing and needs the key."""

from __future__ import annotations

from stablestudio.providers.answers import Unanswered
from stablestudio.providers.faults import VendorUnusable, unusable
from stablestudio.providers.google_errors import kind_of
from stablestudio.providers.http import VendorHttp


async def check_models(http: VendorHttp, *, deadline_seconds: float = 15.0) -> None:
    """Raise `VendorUnusable` where the vendor does not answer, or not to this key."""
    try:
        reply = await http.ask("GET", "/models?pageSize=1", deadline_seconds=deadline_seconds)
    except Unanswered as error:
        raise VendorUnusable(f"{error}.") from None
    if not reply.ok:
        unusable(http.name, reply, kind=kind_of(reply))
