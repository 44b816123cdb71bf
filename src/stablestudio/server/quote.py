"""`POST /api/quote`: what an input costs and why, how long it takes and how it is paid; free, and nothing is stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from pydantic_core import to_json

from stablestudio.catalog import MODELS, Offering, OfferingInput, PriceTable, find
from stablestudio.catalog.reading import MOST_ISSUES
from stablestudio.catalog.spelling import clipped, nearest, shown
from stablestudio.clock import Clock, iso
from stablestudio.errors import InvalidInput, Issue, StudioError
from stablestudio.server.cached import respond_cached
from stablestudio.server.discovery.shop import Way
from stablestudio.server.eta import Eta, Etas
from stablestudio.server.http import Receive, Scope, Send, read_body, refuse_method, respond_preflight
from stablestudio.server.sell import SellRoute
from stablestudio.server.webhooks import HEADER as WEBHOOK
from stablestudio.server.written import Pairs, parse, write

PATH = "/api/quote"
METHODS = "POST, OPTIONS"
_FIELDS = ("model", "operation", "input")
# Prices hold as long as the process; a quote names the next full minute after five, so that equal quotes are equal.
_MINUTE_MS = 60_000
_GOOD_MINUTES = 6
_FILES = "Files are looked at when the order is paid, before any money moves; one that cannot be used costs nothing."
_EXAMPLE = '{"model": "veo-3.1", "operation": "generate", "input": {"prompt": "a fox", "durationSeconds": "4"}}'
_OPERATIONS = {model.name: tuple(operation.name for operation in model.operations) for model in MODELS}


class QuoteRoute:
    """Reads an input exactly as the route that sells it does, so it is refused in the same words, with paths below `input`."""

    def __init__(
        self,
        sells: Mapping[str, SellRoute],
        *,
        prices: PriceTable,
        etas: Etas,
        ways: tuple[Way, ...],
        clock: Clock,
        body_limit: int,
    ) -> None:
        """Take the routes that sell, by path, and what prices, times and offers are made of."""
        self._sells = sells
        self._prices = prices
        self._etas = etas
        self._ways = ways
        self._clock = clock
        self._body_limit = body_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "OPTIONS":
            return await respond_preflight(send, METHODS)
        if scope["method"] != "POST":
            raise refuse_method(scope, "POST")
        offering, given = read_question(await read_body(receive, limit=self._body_limit))
        seller = self._sells[offering.path]
        with _within_input():
            read = offering.read(given)
            seller.require_maker(read)
            seller.webhook(scope, read)
        expires = (self._clock.now_ms() // _MINUTE_MS + _GOOD_MINUTES) * _MINUTE_MS
        body = quote(offering, read, prices=self._prices, ways=self._ways, eta=(await self._etas.now())[offering.key])
        if read.media():
            body["note"] = _FILES
        body |= {"settles": "complete" if seller.holds else "accept", "expiresAt": iso(expires)}
        await respond_cached(scope, send, to_json(body), content_type="application/json", seconds=60, shared=False)


def quote(
    offering: Offering, given: OfferingInput, *, prices: PriceTable, ways: tuple[Way, ...], eta: Eta
) -> dict[str, Any]:
    """Return the price of an input with its reasons, and what each rail asks for it."""
    price = prices.price(offering, given)
    cell = given.cell()
    line = {
        "cell": cell,
        "unit": "second" if offering.per_second else "each",
        "unitPrice": str(prices.cells(offering)[cell]),
        "quantity": given.units(),
        "amount": str(price),
        "because": {name: value for name in offering.input.priced_by if (value := getattr(given, name)) is not None},
    }
    return {
        "success": True,
        "model": offering.model,
        "operation": offering.operation,
        "path": offering.path,
        "price": str(price),
        "currency": "USD",
        "breakdown": [line],
        "eta": eta.body(),
        "rails": [
            {
                "protocol": way.protocol,
                "network": way.network,
                "asset": way.asset,
                "decimals": way.decimals,
                "amount": way.amount(price),
            }
            for way in ways
        ],
    }


def read_question(body: bytes) -> tuple[Offering, bytes]:
    """Return the offering that is asked about, and its input as JSON with all the faults it came with."""
    try:
        pairs = parse(body)
    except ValueError:
        raise _refusal([Issue((), "invalid_json", f"The body is not valid JSON; it is like {_EXAMPLE}")]) from None
    if not isinstance(pairs, Pairs):
        raise _refusal([Issue((), "not_an_object", f"The body must be a JSON object, e.g. {_EXAMPLE}")])
    if issues := [*_strangers(pairs), *_absent(pairs)]:
        raise _refusal(issues)
    asked = dict(pairs)
    if not isinstance(asked["input"], Pairs):
        raise _refusal([Issue(("input",), "not_an_object", f"'input' must be a JSON object, as in {_EXAMPLE}")])
    return _offering(asked["model"], asked.get("operation")), write(asked["input"]).encode()


@contextmanager
def _within_input() -> Iterator[None]:
    """Let an issue with a field of the input tell its place in the question; one with a header has none there."""
    try:
        yield
    except StudioError as error:
        fields = [
            issue if issue.path == (WEBHOOK,) else replace(issue, path=("input", *issue.path)) for issue in error.issues
        ]
        error.issues = tuple(fields)
        raise


def _strangers(pairs: Pairs) -> Iterator[Issue]:
    names = pairs.names
    for name in dict.fromkeys(names):
        if name not in _FIELDS:
            yield Issue((clipped(name),), "unknown_field", f"Unknown field {shown(name)}", _FIELDS)
        elif names.count(name) > 1:
            yield Issue((name,), "duplicate_key", f"Field {shown(name)} is given twice")


def _absent(pairs: Pairs) -> Iterator[Issue]:
    for name in ("model", "input"):
        if name not in dict(pairs):
            yield Issue((name,), "missing", f"Field {name!r} is required, as in {_EXAMPLE}")


def _offering(model: Any, operation: Any) -> Offering:
    """Return an offering by its names; a model's only operation need not be named."""
    operations = _OPERATIONS.get(model) if isinstance(model, str) else None
    if operations is None:
        raise _refusal([_not_among("model", model, tuple(_OPERATIONS))])
    if operation is None and len(operations) == 1:
        operation = operations[0]
    if not isinstance(operation, str) or (offering := find(model, operation)) is None:
        raise _refusal([_not_among("operation", operation, operations)])
    return offering


def _not_among(field: str, value: Any, allowed: tuple[str, ...]) -> Issue:
    near = nearest(value, allowed) if isinstance(value, str) else None
    advice = f"; did you mean {near!r}?" if near else ""
    return Issue((field,), "not_allowed", f"{field!r} must be one of {', '.join(map(repr, allowed))}{advice}", allowed)


def _refusal(issues: list[Issue]) -> InvalidInput:
    return InvalidInput(issues[0].message, issues=issues[:MOST_ISSUES])
