"""What a service sells, as `GET /api/models` tells it."""

from __future__ import annotations

from typing import Any

import pydantic
from pydantic.alias_generators import to_camel

from stablestudio.client.answers import api_error
from stablestudio.client.errors import UnknownModel, UnreadableAnswer
from stablestudio.client.steps import Call, Flow
from stablestudio.client.till import steadily

_TAKE_MEDIA = {"edit", "i2v"}


class Dish(pydantic.BaseModel):
    """One offering; prices are US dollars."""

    model_config = pydantic.ConfigDict(frozen=True, extra="allow", alias_generator=to_camel, populate_by_name=True)

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
    typical_seconds: tuple[int | float, int | float] | None = None
    lifecycle: dict[str, Any] = pydantic.Field(default_factory=dict)


def menu(base_url: str) -> Flow[list[Dish]]:
    """Read all offerings."""
    reply = yield from steadily(Call(method="GET", url=f"{base_url}/api/models"))
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
