"""Which fields of an offering take files, by the schema that the menu has of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stablestudio.client.errors import FileUnusable
from stablestudio.client.files import MediaFile, Source, sources_in
from stablestudio.client.menu import Dish
from stablestudio.client.orders import Upload
from stablestudio.errors import Issue

_WORDS = {"image": "a picture", "video": "a clip", "audio": "a sound"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A field that takes files of some kinds (`image`, `video`, `audio`); `many` says that it is a list."""

    kinds: tuple[str, ...]
    many: bool

    @property
    def words(self) -> str:
        return " or ".join(_WORDS.get(kind, kind) for kind in self.kinds)


def slots_of(dish: Dish) -> dict[str, Slot]:
    """Return the fields of an offering that take files."""
    fields = (dish.input or {}).get("properties", {})
    return {name: slot for name, field in fields.items() if (slot := _slot(field)) is not None}


def placed(fields: Mapping[str, Any], files: Mapping[Source, MediaFile], *, dish: Dish) -> dict[str, Any]:
    """Return an input whose lists of files are lists, also where one file was named alone.

    Raise `FileUnusable` for a file in a field that takes none, or none of its kind.
    """
    slots = slots_of(dish)
    for name, value in fields.items():
        for source in sources_in(value):
            _check(name, files[source], slots=slots, dish=dish)
    return {name: _listed(value, slot=slots.get(name)) for name, value in fields.items()}


def _check(name: str, file: MediaFile, *, slots: Mapping[str, Slot], dish: Dish) -> None:
    slot = slots.get(name)
    if slot is None:
        raise _misplaced(name, f"{name!r} takes no file", "takes_no_file", slots=slots, dish=dish)
    if file.content_type.partition("/")[0] not in slot.kinds:
        told = f"{name!r} takes {slot.words}; {file.name} is {file.content_type}"
        raise _misplaced(name, told, "wrong_kind_of_media", slots=slots, dish=dish)


def _misplaced(name: str, told: str, code: str, *, slots: Mapping[str, Slot], dish: Dish) -> FileUnusable:
    taken = ", ".join(f"{field!r} takes {slot.words}" for field, slot in slots.items())
    hint = f"In {dish.model}/{dish.operation} {taken or 'no field takes a file'}; nothing was paid."
    return FileUnusable(f"{told}.", hint=hint, issues=[Issue((name,), code, f"{told}.")])


def _listed(value: Any, *, slot: Slot | None) -> Any:
    alone = isinstance(value, Source | Upload)
    return [value] if alone and slot is not None and slot.many else value


def _slot(field: Any) -> Slot | None:
    if not isinstance(field, dict):
        return None
    item = field.get("items", field)
    kinds = item.get("x-media") if isinstance(item, dict) else None
    return Slot(kinds=tuple(kinds), many="items" in field) if isinstance(kinds, list) else None
