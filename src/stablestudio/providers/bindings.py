"""Which provider serves an offering, and what a route says that nobody can serve."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from stablestudio.catalog import LifecycleState, Offering, OfferingInput
from stablestudio.clock import Clock
from stablestudio.errors import InvalidInput, Issue, StudioError
from stablestudio.providers.provider import FailureKind, Objects, Provider

log = logging.getLogger(__name__)
# A vendor that does not take our orders is asked again after this long.
_CLOSED_MS = 5 * 60 * 1000


class OfferingRetired(StudioError):
    """The vendor has ended this model and nothing configured here serves it."""

    status = 410
    hint = "Use the successor named in the message; nothing was charged."


class OfferingInterrupted(StudioError):
    """Whoever makes this has no capacity for this service at the moment."""

    status = 503
    retryable = True
    hint = "Try again in some minutes, or choose another model from GET /api/models; nothing was charged."


class OfferingUnavailable(StudioError):
    """The operator of this service has no provider configured for this route."""

    status = 503
    hint = "Choose another model from GET /api/models; nothing was charged."


class ProviderMissing(LookupError):
    """The settings no longer have a provider that took a job; only its key can ask for the result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """One provider that serves an offering, with the vendor's own id of the model."""

    provider: Provider
    model: str = ""
    poll_seconds: float | None = None  # pause between polls; the offering's own if None
    deadline_seconds: float | None = None  # how long it may work on one; the offering's own if None
    at_once: int | None = None  # most jobs that its provider works on at the same time


class Bindings:
    """Ordered providers for each offering; one that lacks key or credit is passed over until it may be better."""

    def __init__(self, by_offering: Mapping[str, Sequence[Binding]], *, clock: Clock) -> None:
        """Take the bindings by the offering's key, the preferred first."""
        self._by_offering = {key: tuple(bindings) for key, bindings in by_offering.items()}
        self._by_name = {binding.provider.name: binding.provider for binding in self._all()}
        self._objecting = {name: each for name, each in self._by_name.items() if isinstance(each, Objects)}
        self._clock = clock
        self._closed: dict[tuple[str, ...], int] = {}  # what cannot serve, until when (ms)

    def _all(self) -> Iterator[Binding]:
        for bindings in self._by_offering.values():
            yield from bindings

    @property
    def providers(self) -> Mapping[str, Provider]:
        """Return everybody who serves something, by name."""
        return self._by_name

    def of(self, offering: Offering) -> Sequence[Binding]:
        """Return who is bound to an offering, in order, whether able to serve now or not."""
        return self._by_offering.get(offering.key, ())

    def preferred(self, offering: Offering) -> str:
        """Return the name of the provider that an offering is bound to first, empty where nobody is."""
        bound = self.of(offering)
        return bound[0].provider.name if bound else ""

    def named(self, name: str) -> Provider:
        """Return a provider that a job was given to. Raises `ProviderMissing`."""
        try:
            return self._by_name[name]
        except KeyError:
            raise ProviderMissing(name) from None

    def serves(self, offering: Offering) -> bool:
        """Tell whether somebody configured can serve the offering now."""
        return not all(self._closed_until(binding, offering) for binding in self.of(offering))

    def close(self, binding: Binding, offering: Offering, *, kind: FailureKind) -> None:
        """Pass a binding over for some minutes: its vendor takes no such order of ours.

        Credit is the provider's, a key may lack the right to one model, and what has ended may be one route alone.
        """
        name, model = binding.provider.name, binding.model
        scopes = {FailureKind.UPSTREAM_QUOTA: (name,), FailureKind.UPSTREAM_AUTH: (name, model)}
        scope = scopes.get(kind, (name, model, offering.key))
        self._closed[scope] = self._clock.now_ms() + _CLOSED_MS
        log.error("provider_passed_over", extra={"scope": scope, "kind": kind.value, "seconds": _CLOSED_MS // 1000})

    def first(self, offering: Offering, given: OfferingInput | None = None) -> Binding:
        """Return who makes an input of the offering, or any, or raise why nobody does, before any money is asked."""
        bound = self.of(offering)
        refused: list[tuple[Issue, ...]] = []
        for binding in bound:
            if issues := self._objections(binding, offering, given):
                refused.append(issues)
            elif not self._closed_until(binding, offering):
                return binding
        if refused and len(refused) == len(bound):
            least = min(refused, key=len)  # whoever makes the input with the fewest changes
            raise InvalidInput(f"Nobody bound to {offering.title} here makes this: {least[0].message}", issues=least)
        if bound:
            ends = [until for binding in bound if (until := self._closed_until(binding, offering))]
            wait = min(ends) - self._clock.now_ms()
            raise OfferingInterrupted(
                f"No provider of {offering.title} takes orders at the moment.",
                headers={"Retry-After": str(max(1, wait // 1000))},
            )
        if offering.lifecycle.state is LifecycleState.RETIRED:
            successor = offering.lifecycle.successor
            advice = f" Its successor is {successor}." if successor else ""
            raise OfferingRetired(f"{offering.title} was ended by its vendor.{advice}", extra={"successor": successor})
        raise OfferingUnavailable(f"No provider is configured for {offering.title}.")

    def candidates(self, offering: Offering, given: OfferingInput | None = None) -> Sequence[Binding]:
        """Return who may be asked for work that is paid, in order: closed ones last, rather than none."""
        able = [binding for binding in self.of(offering) if not self._objections(binding, offering, given)]
        return sorted(able, key=lambda binding: self._closed_until(binding, offering) > 0)

    def bound(self, offering: Offering, name: str) -> Binding | None:
        """Return a provider's binding to an offering; None where the settings no longer have it."""
        return next((binding for binding in self.of(offering) if binding.provider.name == name), None)

    def _objections(self, binding: Binding, offering: Offering, given: OfferingInput | None) -> tuple[Issue, ...]:
        if given is None or (provider := self._objecting.get(binding.provider.name)) is None:
            return ()
        return provider.objections(offering, given, model=binding.model)

    def _closed_until(self, binding: Binding, offering: Offering) -> int:
        """Return until when a binding is passed over (ms), 0 where it is not."""
        if not self._closed:
            return 0
        whole = (binding.provider.name, binding.model, offering.key)
        until = max(self._closed.get(whole[:length], 0) for length in (1, 2, 3))
        return until if until > self._clock.now_ms() else 0
