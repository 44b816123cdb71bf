"""`/.well-known/x402`: the older list of what is sold, for registries that do not read OpenAPI yet."""

from __future__ import annotations

from typing import Any

from stablestudio.server.discovery.guidance import guidance
from stablestudio.server.discovery.shop import Shop


def resources(shop: Shop) -> dict[str, Any]:
    """Return the document: addresses of everything that is paid by x402, and how to buy."""
    return {
        "version": 1,
        "resources": [shop.origin + offering.path for offering in shop.offerings] if shop.of("x402") else [],
        "openapi": f"{shop.origin}/openapi.json",
        "instructions": guidance(shop),
    }
