"""What a vendor lacks of what a route sells, as far as the input alone tells: said before any money is asked. Pure.

A vendor's table of lacks is asked twice, by the same function: when the order is quoted, and before the vendor is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stablestudio.catalog import OfferingInput
from stablestudio.errors import Issue
from stablestudio.providers.provider import FailureKind, NotAccepted

CODE = "not_made_here"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """Something that buyers may ask for by a field and a vendor cannot do; `says` is what can be had in its place."""

    field: str
    asked: Callable[[Any], bool]
    says: str
    allowed: tuple[Any, ...] | None = None

    def issue(self) -> Issue:
        return Issue((self.field,), CODE, f"{self.field!r}: {self.says}", self.allowed)


Lacks = Mapping[str, Sequence[Lack]]
"""A vendor's lacks by the key of the offering."""


def objections(lacks: Iterable[Lack], given: OfferingInput) -> tuple[Issue, ...]:
    """Return what an input asks for and a vendor lacks; nothing where it can be made."""
    # Asking an input for a field of a sibling route is slow, and this is done at every quote.
    fields = type(given).model_fields
    return tuple([lack.issue() for lack in lacks if lack.field in fields and lack.asked(given)])


def accept(issues: Sequence[Issue], *, vendor: str) -> None:
    """Raise `NotAccepted` where there are objections, so that another vendor may be asked."""
    if issues:
        told = "; ".join(issue.message for issue in issues)
        raise NotAccepted(f"{vendor} cannot make this: {told}", kind=FailureKind.INVALID_INPUT)


def only(field: str, *allowed: Any, because: str = "") -> Lack:
    """Take no other values of a field; a field that was left out is no wish."""
    listed = ", ".join(repr(value) for value in allowed)
    return Lack(
        field=field,
        asked=lambda given: (value := getattr(given, field, None)) is not None and value not in allowed,
        says=f"here it can only be {listed}{because}",
        allowed=allowed,
    )


def without(field: str, because: str) -> Lack:
    """Take no inputs that fill a field."""
    return Lack(field=field, asked=lambda given: bool(getattr(given, field, None)), says=f"leave it out: {because}")


def at_most(field: str, most: int) -> Lack:
    """Take so many entries of a list."""
    entries = "1 entry" if most == 1 else f"{most} entries"
    return Lack(
        field=field,
        asked=lambda given: len(getattr(given, field, None) or ()) > most,
        says=f"here it takes at most {entries}",
    )


def unreachable(path: tuple[str | int, ...], says: str) -> Issue:
    """Object to a file that a vendor could only fetch by an address which it does not have."""
    name, *indexes = path
    return Issue(path, CODE, f"{str(name) + ''.join(f'[{index}]' for index in indexes)!r}: {says}")
