"""Inputs: the validated bodies of requests, and the rules that span several of their fields."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from stablestudio.catalog.limits import FileLimit, Measured
from stablestudio.catalog.values import ImageOutput, MediaInput, MediaKind, Role, VideoOutput
from stablestudio.errors import Issue

Check = Callable[[Any], Iterable[Issue]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A condition on several fields; `text` states it to buyers. It is asked only where all its fields are valid alone."""

    fields: frozenset[str]
    text: str
    check: Check


def rule(*fields: str) -> Callable[[Check], Rule]:
    """Make a rule over these fields of a function that yields issues; its docstring is the rule's text."""

    def made(check: Check) -> Rule:
        return Rule(fields=frozenset(fields), text=(check.__doc__ or "").strip(), check=check)

    return made


@dataclass(frozen=True, slots=True)
class MediaField:
    """A field that holds one link, or a list of links, to media."""

    name: str
    kind: MediaKind
    role: Role


class OfferingInput(BaseModel):
    """The validated body of a request for one offering, in the wire's own field names."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    example: ClassVar[dict[str, Any]]
    """A valid body, for documents and probes."""
    rules: ClassVar[tuple[Rule, ...]] = ()
    media_fields: ClassVar[tuple[MediaField, ...]] = ()
    file_limits: ClassVar[tuple[FileLimit, ...]] = ()
    """What the files may measure."""
    elsewhere: ClassVar[dict[str, str]] = {}
    """Fields that buyers know from sibling routes, and what to do instead of sending them here."""
    priced_by: ClassVar[tuple[str, ...]] = ()
    """The fields that the price depends on."""

    def cell(self) -> str:
        """Return the key of the price cell that this input falls into."""
        return "each"

    def units(self) -> int:
        """Return how many times the cell's price is due: seconds where a second is priced, else 1."""
        return 1

    def output(self) -> ImageOutput | VideoOutput:
        """Return what is to be made; an upload makes nothing and raises `TypeError`."""
        raise TypeError(f"{type(self).__name__} makes no output")

    def media(self) -> tuple[MediaInput, ...]:
        """Return every file that this input points to, in the order of the fields."""
        found: list[MediaInput] = []
        for field in self.media_fields:
            value = getattr(self, field.name)
            if isinstance(value, str):
                found.append(MediaInput(path=(field.name,), kind=field.kind, url=value, role=field.role))
            elif value is not None:
                found += [
                    MediaInput(path=(field.name, index), kind=field.kind, url=url, role=field.role)
                    for index, url in enumerate(value)
                ]
        return tuple(found)

    def with_kinds(self, kinds: Sequence[MediaKind]) -> OfferingInput:  # noqa: ARG002 - most fields take one kind alone
        """Return the input that says what its files are, in the order of `media()`, where it was left to be found out."""
        return self

    def misfits(self, files: Sequence[Measured]) -> Iterator[Issue]:
        """Say which files, in the order of `media()`, measure what the route does not take."""
        for limit in self.file_limits:
            yield from limit.issues(files)

    def seed_value(self) -> int | None:
        """Return the buyer's random seed, where the route takes one and it was given."""
        return None

    def callback(self) -> str | None:
        """Return the address that is to be called when the job ends, where the route takes one and it was given."""
        return None

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        document = handler.resolve_ref_schema(handler(schema))
        document["properties"] = {name: _plain(value) for name, value in document.get("properties", {}).items()}
        if cls is not OfferingInput and hasattr(cls, "example"):
            document["examples"] = [cls.example]
        return document


class ImageInput(OfferingInput):
    """An input that asks for one image."""

    def output(self) -> ImageOutput:
        raise NotImplementedError


class VideoInput(OfferingInput):
    """An input that asks for one clip, priced by the second."""

    seconds_field: ClassVar[str] = "duration"

    def cell(self) -> str:
        return "second"

    def units(self) -> int:
        return int(getattr(self, self.seconds_field))

    def output(self) -> VideoOutput:
        raise NotImplementedError

    @classmethod
    def durations(cls) -> tuple[int, ...]:
        """Return the lengths that the route sells, in seconds, shortest first."""
        return tuple(sorted(int(value) for value in choices(cls.model_fields[cls.seconds_field].annotation)))


def choices(annotation: Any) -> tuple[Any, ...]:
    """Return the values of the first `Literal` inside a type, e.g. in `tuple[Literal["a", "b"], ...] | None`."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return next((found for part in get_args(annotation) if (found := choices(part))), ())


def _plain(field: JsonSchemaValue) -> JsonSchemaValue:
    """Leave out the title, which only repeats the name, and `null`, which is taken as absence and need not be sent."""
    rest = {key: value for key, value in field.items() if key not in {"title", "anyOf"}}
    options = [option for option in field.get("anyOf", []) if option != {"type": "null"}]
    if len(options) == len(field.get("anyOf", [])):
        return rest | ({"anyOf": options} if options else {})
    rest.pop("default", None)
    return rest | (options[0] if len(options) == 1 else {"anyOf": options})
