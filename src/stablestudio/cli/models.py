"""`stablestudio models`: what is sold."""

from __future__ import annotations

import click

from stablestudio.cli.output import Output
from stablestudio.cli.running import connect, speaks, url_option
from stablestudio.client.menu import Dish


@click.command()
@click.option("--op", "operation", help="Only this operation, e.g. edit.")
@url_option
@speaks
def models(out: Output, *, operation: str | None, url: str) -> None:
    """List what the service sells, with prices in US dollars."""
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
    """Return how long an offering takes, or what stands in its way."""
    successor, ends = dish.lifecycle.get("successor"), dish.lifecycle.get("ends")
    instead = f"; use {successor}" if successor else ""
    if not dish.available:
        return f"not available here{instead}"
    if dish.lifecycle.get("state") == "deprecated":
        return f"ends {ends}{instead}" if ends else f"deprecated{instead}"
    return _duration(dish)


def _duration(dish: Dish) -> str:
    if dish.typical_seconds is None:
        return ""
    ends = dict.fromkeys(f"{seconds:g}" for seconds in dish.typical_seconds)
    return f"about {'-'.join(ends)} s"
