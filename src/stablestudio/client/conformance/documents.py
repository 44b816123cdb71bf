"""Reading an OpenAPI document as registries and agents do: what sells, for how much, and what is signed in to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stablestudio.client.conformance.exchange import Exchange, Route, walk
from stablestudio.client.conformance.rules import Finding, breach
from stablestudio.client.offers import origin
from stablestudio.money import Money

PATH = "/openapi.json"
MOST_OPERATIONS, MOST_GUIDANCE, MOST_BYTES = 40, 4000, 65_536
_METHODS = ("get", "post", "put", "patch", "delete")
_PLACEHOLDER = re.compile(r"\{[^{}]*\}")
_NOBODYS = "conformance-check"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """What a document offers: routes that sell by POST, and addresses of reads that want a sign-in."""

    routes: tuple[Route, ...] = ()
    sign_ins: tuple[str, ...] = ()


def read_shelf(document: dict[str, Any]) -> Shelf:
    """Return what a document offers; what cannot be read is left out, and found by `check_document`."""
    routes, sign_ins = [], []
    for method, path, operation in _operations(document):
        if method == "post" and "x-payment-info" in operation and "{" not in path:
            routes.append(_route(document, path, operation))
        if method == "get" and _signs_in(operation):
            sign_ins.append(_PLACEHOLDER.sub(_NOBODYS, path))
    return Shelf(routes=tuple(routes), sign_ins=tuple(sign_ins))


def check_document(exchange: Exchange) -> Iterator[Finding]:
    """Hold the document against what its readers need."""
    answer, where = exchange.answer, exchange.where
    document = answer.document()
    if answer.status != 200 or document is None:
        yield breach("document_missing", where, f"The answer is {answer.status}, and no JSON object.")
        return
    version, info = walk(document, "openapi"), walk(document, "info")
    complete = walk(info, "title") and walk(info, "version") and isinstance(walk(document, "paths"), dict)
    if not str(version).startswith("3.") or not complete:
        yield breach("document_unreadable", where, f"openapi is {version!r}; title, version or paths may be missing.")
        return
    yield from _about(exchange, document)
    for method, path, operation in _operations(document):
        if "x-payment-info" in operation:
            yield from _sale(document, f"{method.upper()} {path} (the document)", operation)


def bounds(route: Route) -> tuple[Money, Money] | None:
    """Return the lowest and the highest price of a route; None where the document has none that can be read."""
    try:
        low, high = Money.parse(route.low), Money.parse(route.high)
    except ValueError:
        return None
    return (low, high) if low <= high else None


def unfit_body(schema: Any) -> Any:
    """Return a body that no JSON Schema of this form takes: required members of a wrong type, else no object at all."""
    required = walk(schema, "required")
    names = [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
    if not names:
        return ["unfit"]
    return {name: "unfit" if _is_object(walk(schema, "properties", name)) else {"unfit": True} for name in names}


def _is_object(schema: Any) -> bool:
    return walk(schema, "type") == "object" or walk(schema, "properties") is not None


def _about(exchange: Exchange, document: dict[str, Any]) -> Iterator[Finding]:
    where = exchange.where
    servers = walk(document, "servers")
    first = walk(servers[0], "url") if isinstance(servers, list) and servers else "/"
    if isinstance(first, str) and "://" in first and origin(first) != exchange.origin:
        yield breach("document_foreign_server", where, f"servers[0].url is {first}, and {exchange.origin} was asked.")
    operations = list(_operations(document))
    if len(operations) > MOST_OPERATIONS:
        yield breach("document_too_long", where, f"It describes {len(operations)} operations.")
    if (size := len(exchange.answer.body)) >= MOST_BYTES:
        yield breach("document_too_large", where, f"It has {size} bytes.")
    if not any("x-payment-info" in operation for _, _, operation in operations):
        yield breach("sells_nothing", where, "No operation has x-payment-info.")
    if not any(_signs_in(operation) for _, _, operation in operations):
        yield breach("sign_in_undeclared", where, "No operation is secured by a scheme named siwx.")
    guidance = walk(document, "info", "x-guidance")
    length = len(guidance) if isinstance(guidance, str) else 0
    if not 0 < length <= MOST_GUIDANCE:
        yield breach("guidance", where, f"info.x-guidance has {length} characters.")


def _sale(document: dict[str, Any], where: str, operation: dict[str, Any]) -> Iterator[Finding]:
    route = _route(document, "", operation)
    if bounds(route) is None:
        yield breach("price_undeclared", where, "x-payment-info.price has no bounds that can be read.")
    if not walk(operation, "x-payment-info", "protocols"):
        yield breach("protocols_undeclared", where, "x-payment-info.protocols is missing or empty.")
    if not route.schema:
        yield breach("body_undeclared", where, "There is no schema of a JSON body.")
    if route.example is None:
        yield breach("example_missing", where, "There is no example of a body.")
    if walk(operation, "responses", "402") is None:
        yield breach("payment_response_undeclared", where, "402 is not among the responses.")


def _route(document: dict[str, Any], path: str, operation: dict[str, Any]) -> Route:
    price = walk(operation, "x-payment-info", "price")
    fixed = walk(price, "amount")
    low, high = (fixed, fixed) if fixed is not None else (walk(price, "min"), walk(price, "max"))
    media = walk(operation, "requestBody", "content", "application/json")
    schema = _resolved(document, walk(media, "schema"))
    return Route(
        path=path, low=str(low or ""), high=str(high or ""), example=walk(media, "example"), schema=schema
    )  # fmt: skip


def _resolved(document: dict[str, Any], schema: Any) -> dict[str, Any]:
    """Return a schema with its own reference and those of its members followed, one step each."""
    found = _follow(document, schema)
    properties = walk(found, "properties")
    if not isinstance(properties, dict):
        return found
    return found | {"properties": {name: _follow(document, each) for name, each in properties.items()}}


def _follow(document: dict[str, Any], schema: Any) -> dict[str, Any]:
    reference = walk(schema, "$ref")
    if isinstance(reference, str) and reference.startswith("#/"):
        schema = walk(document, *reference[2:].split("/"))
    return dict(schema) if isinstance(schema, dict) else {}


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    paths = walk(document, "paths")
    for path, item in paths.items() if isinstance(paths, dict) else ():
        for method in _METHODS:
            if isinstance(operation := walk(item, method), dict) and path.startswith("/"):
                yield method, path, operation


def _signs_in(operation: dict[str, Any]) -> bool:
    security = walk(operation, "security")
    return isinstance(security, list) and any(isinstance(each, dict) and "siwx" in each for each in security)
