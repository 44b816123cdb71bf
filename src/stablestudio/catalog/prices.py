"""Prices: the default cells of every offering, and what an operator puts in their place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from stablestudio.catalog.inputs import OfferingInput
from stablestudio.catalog.offering import Offering
from stablestudio.catalog.spelling import nearest
from stablestudio.money import Money

Overrides = Mapping[str, Mapping[str, str]]
"""Dollars by offering and cell, e.g. `{"gpt-image-2/generate": {"low/square": "0.007"}}`."""


class PriceTable:
    """What every input costs. Quote, challenge, documents and ledger all ask here."""

    def __init__(self, offerings: Iterable[Offering], *, overrides: Overrides | None = None) -> None:
        """Take the default prices of the offerings and replace single cells.

        Raises `ValueError` where an override names no offering or cell of the catalog, or no price above zero.
        """
        self._cells = {offering: dict(offering.cells) for offering in offerings}
        known = {offering.key: offering for offering in self._cells}
        for key, prices in (overrides or {}).items():
            cells = self._cells[known[_known(key, known, what="offering")]]
            for cell, price in prices.items():
                cells[_known(cell, cells, what=f"price cell of {key!r}")] = _price(price, where=f"{key} {cell}")

    def price(self, offering: Offering, value: OfferingInput) -> Money:
        """Return the exact price of one input: the price of its cell, times its units."""
        return self._cells[offering][value.cell()] * value.units()

    def cells(self, offering: Offering) -> Mapping[str, Money]:
        """Return the prices in force by cell key; for a second each where the offering is priced so."""
        return MappingProxyType(self._cells[offering])

    def floor(self, offering: Offering) -> Money:
        """Return the lowest price that the route can ask."""
        return min(self._cells[offering].values()) * min(offering.durations, default=1)

    def ceiling(self, offering: Offering) -> Money:
        """Return the highest price that the route can ask; an empty body is quoted this."""
        return max(self._cells[offering].values()) * max(offering.durations, default=1)


def _known(name: str, names: Iterable[str], *, what: str) -> str:
    names = list(names)
    if name in names:
        return name
    near = nearest(name, names)
    raise ValueError(
        f"Unknown {what}: {name!r}; " + (f"did you mean {near!r}?" if near else f"there are {', '.join(names)}")
    )


def _price(text: str, *, where: str) -> Money:
    try:
        price = Money.parse(text)
    except ValueError as error:
        raise ValueError(f"Price of {where}: {error}") from None
    if not price.micros:
        raise ValueError(f"Price of {where}: it must be above zero")
    return price
