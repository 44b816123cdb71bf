"""The `bazaar` extension of a 402: what to send and what comes back, for catalogs that read challenges.

Source: specs/extensions/bazaar.md of github.com/x402-foundation/x402. Nothing in it depends on a request.
"""

from __future__ import annotations

from typing import Any

from stablestudio.catalog import Offering
from stablestudio.server.discovery.answers import sold_example
from stablestudio.server.discovery.schemas import bare
from stablestudio.server.discovery.shop import Shop

NAME = "bazaar"


def declare(offering: Offering, *, shop: Shop) -> dict[str, Any]:
    """Return the member of `extensions` for one offering; it validates its own `info` by its own `schema`."""
    sent = {"type": "http", "method": "POST", "bodyType": "json", "body": offering.input.example}
    example = sold_example(offering, origin=shop.origin, max_upload_bytes=shop.max_upload_bytes)
    sending = {name: {"const": value} for name, value in sent.items() if name != "body"}
    return {
        NAME: {
            "info": {"input": sent, "output": {"type": "json", "example": example}},
            "schema": {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "type": "object",
                "properties": {
                    "input": {
                        "type": "object",
                        "properties": sending | {"body": bare(offering.input)},
                        "required": list(sent),
                    },
                    "output": {
                        "type": "object",
                        "properties": {"example": {"type": "object", "required": list(example)}},
                    },
                },
                "required": ["input"],
            },
        }
    }
