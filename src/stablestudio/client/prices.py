"""What an input costs and why, how long it takes and what each network asks, as `POST /api/quote` tells it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Annotated, Any

import pydantic

from stablestudio.client.answers import api_error
from stablestudio.client.jobs import Told
from stablestudio.client.menu import Eta
from stablestudio.client.offers import Wish
from stablestudio.client.steps import Call, Flow, Reply
from stablestudio.client.till import steadily
from stablestudio.errors import Issue

# What sellers answer that have no such route; some answer every path with a page, or ask to be paid.
_NO_ROUTE = {402, 404, 405, 501}


class Line(Told):
    """A part of a price in US dollars: `quantity` times `unit_price`; `because` has the fields that it depends on."""

    unit: str
    unit_price: str
    quantity: int | float
    amount: str
    because: dict[str, Any] = pydantic.Field(default_factory=dict)


class Way(Told):
    """What one network asks, in base units of a token with `decimals` decimals."""

    protocol: str
    network: str
    asset: str
    decimals: Annotated[int, pydantic.Field(ge=0, le=77)]
    amount: Annotated[str, pydantic.Field(pattern=r"^[0-9]{1,78}$")]


class Price(Told):
    """The exact price of one input in US dollars; `settles` is `accept` or, where a payment is held, `complete`."""

    model: str
    operation: str
    price: Annotated[str, pydantic.Field(pattern=r"^[0-9]{1,12}(\.[0-9]{1,6})?$")]
    breakdown: list[Line]
    eta: Eta
    rails: list[Way]
    settles: str | None = None
    uploads: int = 0
    """How many files have to be uploaded first; set by this client, as `total` is."""
    total: str | None = None
    """The price with that of the uploads, where there are any."""


def ask_price(base_url: str, wish: Wish) -> Flow[Price | None]:
    """Ask the price; None where the service has no route for that, and only an order tells."""
    question = {"model": wish.model, "operation": wish.operation, "input": json.loads(wish.body)}
    call = Call(
        method="POST",
        url=f"{base_url}/api/quote",
        headers={"content-type": "application/json"},
        body=json.dumps(question, ensure_ascii=False, separators=(",", ":")).encode(),
    )
    return _read((yield from steadily(call)))


def _read(reply: Reply) -> Price | None:
    if reply.status >= 400 and reply.status not in _NO_ROUTE:
        error = api_error(reply)
        error.issues = tuple(map(_own, error.issues))
        raise error
    try:
        return Price.model_validate_json(reply.body) if reply.status == 200 else None
    except pydantic.ValidationError:
        return None


def _own(issue: Issue) -> Issue:
    """Return an issue whose place is one in the input, which the question has below `input`."""
    return replace(issue, path=issue.path[1:]) if issue.path[:1] == ("input",) else issue
