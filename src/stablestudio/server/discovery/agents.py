"""`/agents.txt`: the short form of llms.txt, one line a route."""

from __future__ import annotations

from stablestudio.server.discovery.guidance import guidance, headline
from stablestudio.server.discovery.manual import MANUAL
from stablestudio.server.discovery.shop import Shop, outlook, typical


def agents(shop: Shop) -> str:
    """Return the document."""
    routes = [
        f"POST {offering.path}  {shop.span(offering)}  {typical(offering)}"
        + (f"  ({note})" if (note := outlook(offering.lifecycle)) else "")
        for offering in shop.offerings
    ]
    return "\n".join(
        [
            "# StableStudio",
            f"# {headline(shop)}",
            f"# Base URL: {shop.origin}",
            f"# OpenAPI: {shop.origin}/openapi.json",
            f"# In full: {shop.origin}/llms.txt",
            *(f"# {name.capitalize()}: {shop.origin}/docs/{name}" for name in MANUAL),
            "",
            *routes,
            "",
            guidance(shop),
            "",
        ]
    )
