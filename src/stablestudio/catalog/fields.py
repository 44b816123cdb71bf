"""Field types that several model families share, with the validators behind them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

from pydantic import AfterValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from stablestudio.catalog.links import callback_problem, media_problem
from stablestudio.catalog.values import MediaKind

Prompt = Annotated[
    str,
    Field(
        min_length=1, max_length=32_000, pattern=r"\S", description="What to make, in words; 1 to 32,000 characters."
    ),
]


class Numeral:
    """A number that is a string on the wire, as the public documents have it: an integer of the same value is taken too."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(_numeral_text, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        text = handler(schema)
        return {
            "anyOf": [text, {"type": "integer", "enum": [int(value) for value in text["enum"] if value.isdecimal()]}]
        }


def _numeral_text(value: object) -> object:
    # `bool` is an `int` to isinstance, and `true` is a mistake.
    return str(value) if type(value) is int and 0 <= value < 10_000 else value


def _checked(problem: Callable[[str], str | None], *, code: str) -> AfterValidator:
    def check(text: str) -> str:
        if reason := problem(text):
            # The context carries the text, because a template would read braces in it.
            raise PydanticCustomError(code, "{reason}", {"reason": reason})
        return text

    return AfterValidator(check)


def _link(*kinds: MediaKind) -> AfterValidator:
    return _checked(partial(media_problem, kinds=kinds), code="invalid_link")


def _media(*kinds: MediaKind) -> Any:
    return Field(json_schema_extra={"format": "uri", "x-media": [*kinds]})


ImageLink = Annotated[str, _link("image"), _media("image")]
VisualLink = Annotated[str, _link("image", "video"), _media("image", "video")]
AudioLink = Annotated[str, _link("audio"), _media("audio")]
CallbackUrl = Annotated[str, _checked(callback_problem, code="invalid_url"), Field(json_schema_extra={"format": "uri"})]

LINK_HELP = "an https URL, the blobUrl of an upload, a data: URI, or job:<id> of an earlier result"
