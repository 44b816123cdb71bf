"""What a service sells, as `GET /api/models` tells it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pydantic

from stablestudio.client.answers import api_error
from stablestudio.client.errors import UnknownModel, UnreadableAnswer
from stablestudio.client.jobs import Told
from stablestudio.client.steps import Call, Flow, Reply
from stablestudio.client.till import steadily

_TAKE_MEDIA = {"edit", "i2v"}


class Eta(Told):
    """Seconds to expect: the median, and what nine of ten jobs stay below. `basis` is `history`, of `jobs` jobs, or `catalog`."""

    seconds: int | float
    p90_seconds: int | float
    basis: str = "catalog"
    jobs: int = 0


class Dish(Told):
    """One offering; prices are US dollars."""

    model: str
    operation: str
    path: str = ""
    type: str = ""
    kind: str = ""
    title: str = ""
    price_from: str = ""
    price_to: str = ""
    available: bool = True
    max_bytes: int | None = None
    """The largest file, where files are what is sold room for."""
    eta: Eta | None = None
    typical_seconds: tuple[int | float, int | float] | None = None
    """The shortest and the longest by the catalog, whatever jobs took here."""
    lifecycle: dict[str, Any] = pydantic.Field(default_factory=dict)
    input: dict[str, Any] | None = None
    """The JSON schema of its input, where all of one model was asked for."""


def menu(base_url: str) -> Flow[list[Dish]]:
    """Read all offerings."""
    return _dishes((yield from steadily(Call(method="GET", url=f"{base_url}/api/models"))))


def dish(base_url: str, *, model: str, operation: str) -> Flow[Dish | None]:
    """Read one offering with the schema of its input; None where none is told, and an order then has to find out."""
    reply = yield from steadily(Call(method="GET", url=f"{base_url}/api/models/{quote(model, safe='')}"))
    if reply.status == 404:
        return None
    found = (each for each in _dishes(reply) if (each.model, each.operation) == (model, operation))
    return next((each for each in found if each.input is not None), None)


def _dishes(reply: Reply) -> list[Dish]:
    if reply.status != 200:
        raise api_error(reply)
    try:
        return [Dish.model_validate(item) for item in reply.document()["models"]]
    except (KeyError, TypeError, pydantic.ValidationError) as error:
        raise UnreadableAnswer("The service answered no list of models.") from error


def choose_operation(dishes: list[Dish], *, model: str, with_media: bool) -> str:
    """Return a model's operation where the buyer named none: its first, or with media the first that is made for some."""
    operations = [dish.operation for dish in dishes if dish.model == model]
    if not operations:
        known = ", ".join(dict.fromkeys(dish.model for dish in dishes))
        raise UnknownModel(f"There is no model {model!r}; known are {known}.")
    return next((each for each in operations if with_media and each in _TAKE_MEDIA), operations[0])
