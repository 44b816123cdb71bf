"""`/openapi.json`: OpenAPI 3.1 of all routes, in the one form that every known registry and validator takes.

`x-payment-info` is AgentCash's (npm @agentcash/discovery, docs/SPECIFICATION.md) and MPP's (`offers`) in one object.
Registries take at most 40 operations and 64 KB: what operations share stands once, in `components`.
"""

from __future__ import annotations

from collections import Counter

from stablestudio import __version__
from stablestudio.catalog import Kind, LifecycleState, Offering
from stablestudio.catalog.offering import InputType
from stablestudio.server.discovery import answers
from stablestudio.server.discovery.components import (
    PARAMETERS,
    PROOFS,
    RESPONSES,
    SCHEMAS,
    Document,
    answer,
    reference,
    response,
)
from stablestudio.server.discovery.free import free, proofs
from stablestudio.server.discovery.guidance import guidance, headline
from stablestudio.server.discovery.schemas import Schema, folded, lean
from stablestudio.server.discovery.shop import Shop, outlook, typical

PATH = "/openapi.json"
MOST_BYTES = 65_536
"""Registries refuse a document of this size."""

_TAGS = {Kind.IMAGE: "Images", Kind.VIDEO: "Video", Kind.UPLOAD: "Uploads"}


def document(shop: Shop) -> Document:
    """Return the document."""
    inputs, shared = _inputs(shop)
    sales = {offering.path: {"post": _sale(shop, offering, inputs[offering.input])} for offering in shop.offerings}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "StableStudio",
            "version": __version__,
            "description": headline(shop),
            "contact": _contact(shop),
            "x-guidance": guidance(shop),
        },
        "servers": [{"url": shop.origin}],
        "tags": [{"name": name} for name in (*_TAGS.values(), "Jobs", "Free")],
        "x-service-info": {
            "categories": ["ai", "media"],
            "docs": {
                "homepage": f"{shop.origin}/",
                "llms": f"{shop.origin}/llms.txt",
                "apiReference": f"{shop.origin}/openapi.json",
            },
        },
        "x-agentcash-guidance": {"llmsTxtUrl": f"{shop.origin}/llms.txt"},
        "paths": sales | free(shop),
        "components": {
            "securitySchemes": {name: PROOFS[name] for name in (*proofs(shop), "pollToken")},
            "schemas": SCHEMAS | shared,
            "parameters": PARAMETERS,
            "responses": RESPONSES,
        },
    }


def _inputs(shop: Shop) -> tuple[dict[InputType, Schema], dict[str, Schema]]:
    """Return the schema of each input, and what several of them refer to; one that two routes take has a name."""
    routes = Counter(offering.input for offering in shop.offerings)
    schemas, shared = folded(map(lean, routes))
    inputs = dict(zip(routes, schemas, strict=True))
    for each, count in routes.items():
        if count > 1:
            shared[each.__name__] = inputs[each]
            inputs[each] = reference(each.__name__)
    return inputs, shared


def _contact(shop: Shop) -> dict[str, str]:
    if shop.contact is None:
        return {"name": "Operator", "url": f"{shop.origin}/"}
    return {"name": "Operator", "url" if shop.contact.startswith("https://") else "email": shop.contact}


def _sale(shop: Shop, offering: Offering, schema: Schema) -> Document:
    paid = answer("Paid: a place for the file.", answers.TICKET) if offering.kind is Kind.UPLOAD else response("200")
    operation: Document = {
        "summary": _told(shop, offering),
        "tags": [_TAGS[offering.kind]],
        "x-payment-info": payment_info(shop, offering),
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema, "example": offering.input.example}},
        },
        "responses": {"200": paid} | {name: response(name) for name in ("202", "402", "default")},
    }
    return operation | ({} if offering.lifecycle.state is LifecycleState.LIVE else {"deprecated": True})


def _told(shop: Shop, offering: Offering) -> str:
    ahead = outlook(offering.lifecycle)
    facts = [shop.cells(offering), f"usually {typical(offering)}", *([ahead] if ahead else [])]
    return f"{offering.title}: {'; '.join(facts)}"


def payment_info(shop: Shop, offering: Offering) -> Document:
    """Return what a route costs and how it is paid, as AgentCash, x402scan, MPPScan and mppx read it."""
    floor, ceiling = shop.prices.floor(offering), shop.prices.ceiling(offering)
    fixed = floor == ceiling
    price = {"mode": "fixed", "currency": "USD", "amount": str(floor)}
    span = {"mode": "dynamic", "currency": "USD", "min": str(floor), "max": str(ceiling)}
    info: Document = {
        "price": price if fixed else span,
        "protocols": [{"x402": {}}] if shop.of("x402") else [],
    }
    if charges := shop.of("mpp"):
        charge = {"method": "tempo", "intent": "charge"}
        info["protocols"].append({"mpp": charge | {"currency": "USD"}})
        # The preferred token alone: each address more costs kilobytes, and a challenge names them all.
        amount = charges[0].amount(floor) if fixed else None
        info["offers"] = [charge | {"currency": charges[0].asset, "amount": amount}]
    return info
