"""`/api/models`: what is sold as data, and all of one model with its input's schema."""

from __future__ import annotations

from typing import Any

from stablestudio.catalog import Kind, Offering, PriceTable
from stablestudio.server.discovery.schemas import Schema, rules, whole
from stablestudio.server.eta import Eta


def summary(
    offering: Offering, *, prices: PriceTable, eta: Eta, available: bool, max_upload_bytes: int
) -> dict[str, Any]:
    """Return an offering as the list has it."""
    lifecycle = offering.lifecycle
    return {
        "model": offering.model,
        "operation": offering.operation,
        "path": offering.path,
        "type": offering.type,
        "kind": offering.kind.value,
        "title": offering.title,
        "priceFrom": str(prices.floor(offering)),
        "priceTo": str(prices.ceiling(offering)),
        "currency": "USD",
        "prices": {
            "unit": "second" if offering.per_second else "each",
            "by": list(offering.input.priced_by),
            "cells": {cell: str(price) for cell, price in prices.cells(offering).items()},
        },
        "capabilities": _capabilities(offering),
        "eta": eta.body(),
        "pollAfter": offering.poll_after,
        "typicalSeconds": list(offering.typical_seconds),
        "lifecycle": {
            "state": lifecycle.state.value,
            "ends": lifecycle.ends.isoformat() if lifecycle.ends else None,
            "successor": lifecycle.successor,
        },
        "available": available,
        **({"maxBytes": max_upload_bytes} if offering.kind is Kind.UPLOAD else {}),
    }


def detail(offering: Offering, **known: Any) -> dict[str, Any]:
    """Return all of an offering: the summary, the schema of its input, the rules over several fields, and an example."""
    return summary(offering, **known) | {
        "description": (offering.input.__doc__ or "").strip(),
        "input": whole(offering.input),
        "rules": rules(offering.input),
        "example": offering.input.example,
    }


def _capabilities(offering: Offering) -> dict[str, Any]:
    fields: Schema = whole(offering.input)["properties"]
    return {
        "takes": [taken for name, field in fields.items() if (taken := _taken(name, field))],
        "durations": list(offering.durations),
        "seed": "seed" in fields,
        "values": {name: field["enum"] for name, field in fields.items() if "enum" in field},
    }


def _taken(name: str, field: Schema) -> dict[str, Any] | None:
    """Return what a media field takes; None for any other field."""
    item = field.get("items", field)
    if "x-media" not in item:
        return None
    return {"field": name, "media": item["x-media"], "most": field["maxItems"] if "items" in field else 1}
