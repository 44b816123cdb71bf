"""Long polls: an answer that waits until there is something to tell, as asked for by `Prefer: wait=N` (RFC 7240)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager

from stablestudio.jobs.changes import Changes, Waiter
from stablestudio.server.http import Headers, Receive, Scope
from stablestudio.server.job_bodies import Phase, phase_of
from stablestudio.store.views import OrderView

MOST_SECONDS = 60
_PREFER = b"prefer"
_WAIT = re.compile(r'wait[ \t]*=[ \t]*"?([0-9]{1,9})"?', re.IGNORECASE)
_LONGEST = 1000


def preferred_wait(scope: Scope) -> int | None:
    """Return for how many seconds this request prefers to wait, `MOST_SECONDS` at most; None where it does not."""
    return min(stated_wait(scope) or 0, MOST_SECONDS) or None


def stated_wait(scope: Scope) -> int | None:
    """Return the seconds of `Prefer: wait=N`, however many; None where there is no such preference.

    The header may come several times and have other preferences in it; of two waits the first counts (section 2).
    """
    for name, value in scope["headers"]:
        if name == _PREFER and len(value) <= _LONGEST:
            for preference in value.decode("latin-1").split(","):
                if match := _WAIT.fullmatch(preference.partition(";")[0].strip()):
                    return int(match[1])
    return None


def applied(seconds: int) -> Headers:
    """Return the header that tells that a wait was honoured."""
    return [(b"preference-applied", b"wait=%d" % seconds)]


class Line:
    """Tells whether the other side has hung up."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    @property
    def is_dead(self) -> bool:
        return self._task.done()


@contextmanager
def line(receive: Receive, waiter: Waiter) -> Iterator[Line]:
    """Listen to a connection whose request was read, and wake `waiter` when it ends."""
    task = asyncio.create_task(_hear_end(receive))
    task.add_done_callback(lambda _: waiter.wake())
    try:
        yield Line(task)
    finally:
        task.cancel()


async def wait_for_turn(changes: Changes, job_id: str, *, seconds: float, receive: Receive) -> OrderView | None:
    """Return an order once its job has ended, or, where it has, once its money has; or as it is when the time is over.

    A change in between, such as of progress, is no reason to answer. Nobody is kept by a service that stops, or where
    too many wait already.
    """
    now = asyncio.get_running_loop().time
    end = now() + (seconds if changes.has_room(job_id) else 0)
    with changes.waiter(job_id) as waiter, line(receive, waiter) as call:
        order = waiter.look()
        first = phase_of(order) if order is not None else Phase.OVER

        def heeds(order: OrderView | None) -> bool:
            return order is None or phase_of(order) is not first or order.deleted_at is not None

        while first is not Phase.OVER and not heeds(order):
            left = end - now()
            if left <= 0 or call.is_dead or changes.is_over:
                break
            await waiter.wait(order, seconds=left, heeds=heeds)
            order = waiter.look()
    return order


async def _hear_end(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
