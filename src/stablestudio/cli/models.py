"""`stablestudio models`: what is sold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from stablestudio.cli.output import Output
from stablestudio.cli.running import connect, speaks, url_option
from stablestudio.cli.views import eta_words
from stablestudio.client.menu import Dish

_ENDS = {"deprecated": "its vendor ends it", "retired": "ended by its vendor"}


@click.command()
@click.option("--op", "operation", help="Only this operation, e.g. edit.")
@url_option
@speaks
def models(out: Output, *, operation: str | None, url: str) -> None:
    """List what the service sells, with prices in US dollars, times, and what vendors have ended."""
    with connect(url, anonymous=True) as client:
        dishes = [dish for dish in client.models() if operation in (None, dish.operation)]
    document = {"success": True, "models": [dish.model_dump(by_alias=True, exclude_none=True) for dish in dishes]}
    width = max((len(_name(dish)) for dish in dishes), default=0)
    out.result(document, *(f"{_name(dish):<{width}}  {_price(dish):<13}  {remark(dish)}" for dish in dishes))


def _name(dish: Dish) -> str:
    return f"{dish.model}/{dish.operation}"


def _price(dish: Dish) -> str:
    ends = dict.fromkeys(price for price in (dish.price_from, dish.price_to) if price)
    return "-".join(f"${price}" for price in ends)


def remark(dish: Dish) -> str:
    """Return how long an offering takes, and what its vendor has decided about it."""
    told = (_duration(dish) if dish.available else "not available here", _outlook(dish.lifecycle))
    return "; ".join(part for part in told if part)


def _outlook(lifecycle: Mapping[str, Any]) -> str:
    what = _ENDS.get(lifecycle.get("state", ""))
    if what is None:
        return ""
    ends, successor = lifecycle.get("ends"), lifecycle.get("successor")
    return f"{what}{f' on {ends}' if ends else ''}{f'; successor {successor}' if successor else ''}"


def _duration(dish: Dish) -> str:
    """Return what jobs took here; before there are enough of them, the catalog's word."""
    if dish.eta is not None and dish.eta.basis == "history":
        return eta_words(dish.eta)
    if dish.typical_seconds is None:
        return ""
    ends = dict.fromkeys(f"{seconds:g}" for seconds in dish.typical_seconds)
    return f"about {'-'.join(ends)} s" if any(dish.typical_seconds) else "at once"
