"""Routes of vendors that serve many models through one protocol: what fills each field, and where the result stands. Pure.

Their tables (`fal_models`, `replicate_models`) are data made of these parts; nothing about a single model is in code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stablestudio.catalog import OfferingInput
from stablestudio.catalog.sizes import MEGAPIXEL, of_area
from stablestudio.catalog.values import MediaKind, Role
from stablestudio.providers.lacks import Lack
from stablestudio.providers.seedance_inputs import respelled

_LARGEST_SEED = 2**31 - 1
_WIDEST = 21 / 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """An input file as a vendor gets it: an address, or a `data:` URI; the size of a picture or clip in pixels."""

    kind: MediaKind
    role: Role
    url: str
    width: int = 0
    height: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the fields of a request are filled from.

    `user` names the buyer to the vendor; `seed` is the buyer's, or else one that belongs to the job alone.
    """

    input: OfferingInput
    links: tuple[Link, ...]
    user: str
    seed: int


Fill = Callable[[Order], Any]
"""Returns the value of a field; None leaves the field out."""
Takes = Callable[[OfferingInput], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One way to make an offering: the fields of the vendor's input, and the path to the result's URL in its output.

    `takes` tells which inputs go this way, of those that the model makes at all; `suffix` is added to the model's name, or `model` is used in its place.
    An image larger than `within` is made smaller here.
    """

    fields: Mapping[str, Fill]
    result: tuple[str | int, ...]
    takes: Takes = lambda _: True
    suffix: str = ""
    model: str | None = None
    within: Callable[[OfferingInput], tuple[int, int] | None] = lambda _: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A vendor's model for an offering, what it lacks, and the routes to it: the first that takes an input, or the last."""

    model: str
    routes: tuple[Route, ...]
    lacks: tuple[Lack, ...] = ()

    def route(self, given: OfferingInput) -> Route:
        return next((route for route in self.routes if route.takes(given)), self.routes[-1])


def endpoint(route: Route, model: str) -> str:
    """Return the vendor's name for what a route asks."""
    return (route.model or model) + route.suffix


def arguments(route: Route, order: Order) -> dict[str, Any]:
    """Return the vendor's input for an order."""
    filled = {name: fill(order) for name, fill in route.fields.items()}
    return {name: value for name, value in filled.items() if value is not None}


def seed_of(given: OfferingInput, job_id: str) -> int:
    """Return the buyer's seed, or one from the job's id: it tells this job's request from any other."""
    chosen = given.seed_value()
    return chosen if chosen is not None else marking_seed(job_id)


def marking_seed(job_id: str) -> int:
    """Return the seed that marks a job's request."""
    return int.from_bytes(hashlib.sha256(f"seed:{job_id}".encode()).digest()[:4]) % _LARGEST_SEED


# Parts of tables: where a field's value comes from


def field(name: str, otherwise: Any = None) -> Fill:
    """The input's field as it is."""
    return lambda order: _given(order, name, otherwise)


def const(value: Any) -> Fill:
    return lambda _: value


def choice(name: str, names: Mapping[Any, Any], otherwise: Any = None) -> Fill:
    """The input's field in the vendor's words; a word that is not in the table stays."""

    def fill(order: Order) -> Any:
        value = _given(order, name, otherwise)
        return names.get(value, value)

    return fill


def number(name: str) -> Fill:
    return lambda order: int(_given(order, name))


def seconds(style: str | None = None) -> Fill:
    """The length of the clip, as a number, or written in a style such as `{}s`."""
    return lambda order: order.input.units() if style is None else style.format(order.input.units())


def written(name: str) -> Fill:
    """The input's number as text; left out where the input has none."""
    return lambda order: None if (value := _given(order, name)) is None else str(value)


def prompt(style: str = "@{kind}{number}", *, otherwise: str | None = None, avoiding: bool = False) -> Fill:
    """The words, with references in the vendor's style; what to avoid is added where the vendor has no field for it."""

    def fill(order: Order) -> str | None:
        words: str | None = _given(order, "prompt")
        unwanted: str | None = _given(order, "negativePrompt") if avoiding else None
        if unwanted:
            words = f"{words} Avoid: {unwanted}"
        return respelled(words, style) if words else otherwise

    return fill


def link(role: Role, *, kind: MediaKind | None = None) -> Fill:
    """The first file of a role."""
    return lambda order: next(iter(_links(order, role, kind)), None)


def links(role: Role, *, kind: MediaKind | None = None) -> Fill:
    """All files of a role, in their order; left out where there are none."""
    return lambda order: list(_links(order, role, kind)) or None


def derived(of: Callable[[Any], Any]) -> Fill:
    """What a function says of the input."""
    return lambda order: of(order.input)


def user(order: Order) -> str:
    return order.user


def seed(order: Order) -> int:
    return order.seed


def chosen_seed(order: Order) -> int | None:
    """The buyer's seed, where there is one."""
    return order.input.seed_value()


def pixels(order: Order) -> dict[str, int]:
    """The size of the image that the input asks for."""
    wanted: Any = order.input.output()
    return {"width": wanted.width, "height": wanted.height}


def pixels_by_first(name: str) -> Fill:
    """The size of the image; where the buyer chose no shape by this field, that of the first picture in the area ordered."""

    def fill(order: Order) -> dict[str, int]:
        first = next((each for each in order.links if each.kind == "image" and each.width and each.height), None)
        asked = pixels(order)
        if _given(order, name) is not None or first is None:
            return asked
        area = asked["width"] * asked["height"]
        across = min(max(first.width / first.height, 1 / _WIDEST), _WIDEST)
        width, height = of_area(f"{across}:1", area, most=4 * MEGAPIXEL)
        return {"width": width, "height": height}

    return fill


def pixels_if(name: str, otherwise: Any) -> Fill:
    """The size of the image where the buyer chose a shape by this field, or else a word that leaves it to the model."""
    return lambda order: pixels(order) if _given(order, name) not in (None, "auto") else otherwise


def shape(names: Mapping[tuple[int, int], str]) -> Fill:
    """The vendor's word for the size of the output."""

    def fill(order: Order) -> str:
        wanted: Any = order.input.output()
        return names[wanted.width, wanted.height]

    return fill


def has(*names: str) -> Takes:
    """Take the inputs that fill all of these fields."""
    return lambda given: all(getattr(given, name, None) for name in names)


def _given(order: Order, name: str, otherwise: Any = None) -> Any:
    value = getattr(order.input, name, None)
    return otherwise if value is None else value


def _links(order: Order, role: Role, kind: MediaKind | None) -> Sequence[str]:
    return [each.url for each in order.links if each.role == role and kind in (None, each.kind)]
