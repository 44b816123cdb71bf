"""Offerings: the routes that sell, and the short declarations that they are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stablestudio.catalog.inputs import OfferingInput, VideoInput
from stablestudio.catalog.reading import read
from stablestudio.catalog.values import LIVE, Kind, Lifecycle
from stablestudio.money import Money

InputType = type[OfferingInput]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Offering:
    """A model and an operation: one route that sells.

    `cells` are the default prices by cell key, each for a second where `per_second`; `typical_seconds` is the shortest and
    longest usual time to make one; `poll_after` is the pause in seconds that buyers are asked to keep, 0 for an upload.
    """

    model: str
    operation: str
    title: str
    kind: Kind
    type: str
    input: InputType
    cells: Mapping[str, Money]
    lifecycle: Lifecycle
    typical_seconds: tuple[int, int]
    poll_after: int

    @property
    def key(self) -> str:
        """The name of the offering in configuration, e.g. `gpt-image-2/generate`, and `upload`."""
        return self.model if self.kind is Kind.UPLOAD else f"{self.model}/{self.operation}"

    @property
    def path(self) -> str:
        """The path of the route, e.g. `/api/generate/gpt-image-2/generate`."""
        return f"/api/{self.key}" if self.kind is Kind.UPLOAD else f"/api/generate/{self.key}"

    @property
    def per_second(self) -> bool:
        return issubclass(self.input, VideoInput)

    @property
    def deadline_seconds(self) -> int:
        """How long whoever makes it may take: ten times the longest usual time, and ten minutes (clips: 30) at least."""
        return max(10 * self.typical_seconds[1], 1800 if self.per_second else 600)

    @property
    def durations(self) -> tuple[int, ...]:
        """The lengths that the route sells, in seconds, shortest first; empty where it makes no clips."""
        return self.input.durations() if issubclass(self.input, VideoInput) else ()

    def read(self, body: bytes) -> OfferingInput:
        """Return the input that a JSON body states; raise `InvalidInput` with all its issues."""
        return read(self.input, body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One thing that a model does, what it takes, and what each cell costs in dollars."""

    name: str
    input: InputType
    prices: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The declaration of a model: everything that its offerings share."""

    name: str
    title: str
    kind: Kind
    operations: tuple[Operation, ...]
    typical_seconds: tuple[int, int]
    poll_after: int
    lifecycle: Lifecycle = LIVE

    def offerings(self) -> tuple[Offering, ...]:
        """Make an offering of each operation; the only operation of a model leaves its name out of the job type."""
        alone = len(self.operations) == 1
        return tuple(
            Offering(
                model=self.name,
                operation=operation.name,
                title=self.title if self.kind is Kind.UPLOAD else f"{self.title} - {operation.name}",
                kind=self.kind,
                type=self.name if alone else f"{self.name}-{operation.name}",
                input=operation.input,
                cells={key: Money.parse(price) for key, price in operation.prices.items()},
                lifecycle=self.lifecycle,
                typical_seconds=self.typical_seconds,
                poll_after=self.poll_after,
            )
            for operation in self.operations
        )
