"""The `bazaar` extension of a 402: what to send and what comes back, for catalogs that read challenges.

Source: specs/extensions/bazaar.md of github.com/x402-foundation/x402. Nothing in it depends on a request.
"""

from __future__ import annotations

from typing import Any

from stablestudio.catalog import Offering
from stablestudio.server.discovery.answers import sold_example
from stablestudio.server.discovery.schemas import Schema, bare
from stablestudio.server.discovery.shop import Shop
from stablestudio.server.faces.openai import Face

NAME = "bazaar"


def declare(offering: Offering, *, shop: Shop, face: Face | None = None) -> dict[str, Any]:
    """Return the member of `extensions` for one offering; it validates its own `info` by its own `schema`."""
    body, schema = offering.input.example, bare(offering.input)
    example = sold_example(offering, origin=shop.origin, max_upload_bytes=shop.max_upload_bytes)
    if face is not None:
        body, schema, example = {"model": offering.model, **body}, _named(offering, schema), dict(face.answer)
    sent = {"type": "http", "method": "POST", "bodyType": "json", "body": body}
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
                        "properties": sending | {"body": schema},
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


def _named(offering: Offering, schema: Schema) -> Schema:
    """Return the schema of a body that names its model; a face takes more names for some fields, and so requires two alone."""
    properties = {"model": {"const": offering.model}, **schema["properties"]}
    rest = {name: value for name, value in schema.items() if name != "additionalProperties"}
    return rest | {"properties": properties, "required": ["model", "prompt"]}
