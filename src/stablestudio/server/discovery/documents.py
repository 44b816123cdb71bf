"""All documents of a service by their path, made once: bytes, type and validator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stablestudio.server.cached import etag
from stablestudio.server.discovery.agents import agents
from stablestudio.server.discovery.landing import landing
from stablestudio.server.discovery.llms import overview, page
from stablestudio.server.discovery.manual import MANUAL, manual
from stablestudio.server.discovery.openapi import PATH, document
from stablestudio.server.discovery.robots import robots
from stablestudio.server.discovery.sheet import PAGES
from stablestudio.server.discovery.shop import Shop
from stablestudio.server.discovery.well_known import resources

_TEXT = "text/plain; charset=utf-8"
_MARKDOWN = "text/markdown; charset=utf-8"
_PICTURES = {"/favicon.svg": "image/svg+xml", "/favicon.ico": "image/x-icon", "/og.png": "image/png"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One document as it is sent."""

    body: bytes
    content_type: str
    tag: str


def made(body: bytes, content_type: str) -> Document:
    """Return a document with its validator."""
    return Document(body=body, content_type=content_type, tag=etag(body))


def documents(shop: Shop) -> dict[str, Document]:
    """Make every document of a service."""
    return {path: made(body, content_type) for path, body, content_type in _made(shop)}


def _made(shop: Shop) -> Iterator[tuple[str, bytes, str]]:
    described = _json(document(shop))
    yield PATH, described, "application/json"
    yield f"/api{PATH}", described, "application/json"
    yield "/.well-known/x402", _json(resources(shop)), "application/json"
    yield "/llms.txt", overview(shop).encode(), _TEXT
    yield "/agents.txt", agents(shop).encode(), _TEXT
    for model in shop.models:
        yield f"/llms/{model}.txt", page(shop, model).encode(), _TEXT
    for name in MANUAL:
        yield f"/docs/{name}", manual(shop, name).encode(), _MARKDOWN
    yield "/robots.txt", robots(shop).encode(), _TEXT
    yield "/", landing(shop).encode(), "text/html; charset=utf-8"
    for path, content_type in _PICTURES.items():
        yield path, (PAGES / path[1:]).read_bytes(), content_type


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
