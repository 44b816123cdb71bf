"""What a job's order says is to be made, and how often to ask how it goes."""

from __future__ import annotations

from stablestudio import catalog
from stablestudio.jobs.decisions import Pace
from stablestudio.providers.bindings import Binding
from stablestudio.providers.provider import Work
from stablestudio.store.jobs import Job


def work_of(job: Job, order: tuple[str, str, str]) -> Work:
    """Return what is to be made; raise `LookupError` or `InvalidInput` where the catalog no longer takes it."""
    model, operation, body = order
    offering = catalog.find(model, operation)
    if offering is None:
        raise LookupError(f"{model}/{operation}")
    return Work(
        job_id=job.id,
        wallet=job.wallet,
        ordered_at=job.created_at,
        offering=offering,
        input=offering.read(body.encode()),
    )


def pace_of(work: Work, binding: Binding | None) -> Pace:
    """Return how often a vendor is asked how a piece of work goes: as its binding says, or its offering."""
    return Pace(steady=(binding and binding.poll_seconds) or float(work.offering.poll_after))
