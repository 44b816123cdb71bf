"""A service to describe, and what its documents must say: computed here from the catalog's own declarations."""

from __future__ import annotations

import json
from typing import Any

from stablestudio.catalog import OFFERINGS, Offering, PriceTable
from stablestudio.catalog.inputs import VideoInput
from stablestudio.rail_settings import BASE, PATH_USD, SOLANA, TEMPO, USDC_E
from stablestudio.server.discovery.shop import Shop, Way

WAYS = (
    Way(protocol="x402", network=BASE, asset="0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913", decimals=6),
    Way(protocol="x402", network=SOLANA, asset="EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v", decimals=6),
    Way(protocol="mpp", network=TEMPO, asset=USDC_E, decimals=6),
    Way(protocol="mpp", network=TEMPO, asset=PATH_USD, decimals=6),
)
PRICES = PriceTable(OFFERINGS)


def make(**changes: Any) -> Shop:
    """Return a service that sells the whole catalog for real money, with some things otherwise."""
    usual: dict[str, Any] = {
        "origin": "https://studio.example",
        "contact": "hello@studio.example",
        "real_money": True,
        "prices": PRICES,
        "offerings": OFFERINGS,
        "ways": WAYS,
        "max_body_bytes": 6_000_000,
        "max_upload_bytes": 250_000_000,
        "link_seconds": 1200,
        "keep_days": {"images": 30, "clips": 30, "uploads": 30},
    }
    return Shop(**usual | changes)


def bounds(offering: Offering, prices: PriceTable = PRICES) -> tuple[str, str]:
    """Return the lowest and the highest price in dollars, by way of inputs and not of the table's own summary."""
    seconds = [1]
    if issubclass(offering.input, VideoInput):
        field = whole_schema(offering)["properties"][offering.input.seconds_field]
        seconds = [int(text) for text in field["anyOf"][0]["enum"]]
    each = [price.micros for price in prices.cells(offering).values()]
    return dollars(min(each) * min(seconds)), dollars(max(each) * max(seconds))


def dollars(micros: int) -> str:
    text = f"{micros / 1_000_000:.6f}".rstrip("0")
    whole, _, places = text.partition(".")
    return f"{whole}.{places.ljust(2, '0')}"


def whole_schema(offering: Offering) -> dict[str, Any]:
    """Return the input's schema as the validator itself declares it."""
    return offering.input.model_json_schema()


def unfold(node: Any, document: dict[str, Any]) -> Any:
    """Return a part of a document with all of its references followed."""
    if isinstance(node, dict) and "$ref" in node:
        target: Any = document
        for name in node["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        return unfold(target, document)
    if isinstance(node, dict):
        return {name: unfold(value, document) for name, value in node.items()}
    return [unfold(value, document) for value in node] if isinstance(node, list) else node


def size(value: Any) -> int:
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())
