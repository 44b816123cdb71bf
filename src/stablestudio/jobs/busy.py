"""How many jobs of each provider this process has in its hands, and whether it may take one more."""

from __future__ import annotations

from collections import defaultdict

from stablestudio.providers.bindings import Binding


class Busy:
    """Counts jobs by provider. A provider's queue has limits, too, but not where another one was preferred or another process told otherwise."""

    def __init__(self, at_once: int | None) -> None:
        """Take how many jobs of a provider this process takes, unless its binding says less."""
        self._at_once = at_once
        self._jobs: defaultdict[str, set[str]] = defaultdict(set)

    def has_room(self, binding: Binding, job_id: str) -> bool:
        """Tell whether a provider may have this job from here; one that it has already it may have."""
        jobs = self._jobs[binding.provider.name]
        limits = [most for most in (binding.at_once, self._at_once) if most is not None]
        return job_id in jobs or all(len(jobs) < most for most in limits)

    def begin(self, provider: str, job_id: str) -> None:
        """Count a job as with a provider."""
        self._jobs[provider].add(job_id)

    def end(self, job_id: str, *, provider: str | None = None) -> None:
        """Count a job no more, with one provider or with any."""
        for name in (provider,) if provider is not None else tuple(self._jobs):
            self._jobs[name].discard(job_id)
