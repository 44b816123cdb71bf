"""Whether Google's developer API can be used: a list of models costs nothing and needs the key."""

from __future__ import annotations

from stablestudio.providers.checks import asked
from stablestudio.providers.faults import unusable
from stablestudio.providers.google_errors import kind_of
from stablestudio.providers.http import VendorHttp


async def check_models(http: VendorHttp) -> None:
    """Raise `VendorUnusable` where the vendor does not answer, or not to this key."""
    reply = await asked(http, "/models?pageSize=1")
    if not reply.ok:
        unusable(http.name, reply, kind=kind_of(reply))
