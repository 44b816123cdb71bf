"""Which provider serves an offering, and what a route says that nobody can serve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stablestudio.catalog import Kind, LifecycleState, Offering
from stablestudio.errors import StudioError
from stablestudio.providers.provider import Provider


class OfferingRetired(StudioError):
    """The vendor has ended this model and nothing configured here serves it."""

    status = 410
    hint = "Use the successor named in the message; nothing was charged."


class OfferingUnavailable(StudioError):
    """The operator of this service has no provider configured for this route."""

    status = 503
    hint = "Choose another model from GET /api/models; nothing was charged."


class Bindings:
    """Ordered providers per kind of offering; the first that is configured serves."""

    def __init__(self, providers: Mapping[Kind, Sequence[Provider]]) -> None:
        self._providers = {kind: tuple(listed) for kind, listed in providers.items()}
        self._by_name = {provider.name: provider for listed in self._providers.values() for provider in listed}

    def named(self, name: str) -> Provider:
        """Return a provider that a job was given to."""
        return self._by_name[name]

    def serves(self, offering: Offering) -> bool:
        """Tell whether somebody configured can serve the offering."""
        return bool(self._providers.get(offering.kind))

    def first(self, offering: Offering) -> Provider:
        """Return who serves the offering, or raise why nobody does, before any money is asked."""
        providers = self._providers.get(offering.kind)
        if providers:
            return providers[0]
        if offering.lifecycle.state is LifecycleState.RETIRED:
            successor = offering.lifecycle.successor
            advice = f" Its successor is {successor}." if successor else ""
            raise OfferingRetired(f"{offering.title} was ended by its vendor.{advice}")
        raise OfferingUnavailable(f"No provider is configured for {offering.title}.")
