"""Our number of what runs in a queue is the engine's own count."""

from __future__ import annotations

import random

import pytest
from dbos._core import ActiveWorkflowById, ActiveWorkflowEntry

from stablestudio.jobs.engine_count import CountedWorkflows

QUEUES = ["make", "sandbox", None]


@pytest.mark.parametrize("seed", range(5))
def test_the_number_is_what_the_engine_counts(seed: int) -> None:
    lot = random.Random(seed)
    ours, theirs = CountedWorkflows(), ActiveWorkflowById()
    under_way: list[tuple[ActiveWorkflowEntry, ...]] = []
    for _ in range(300):
        if under_way and lot.random() < 0.5:
            for entry in under_way.pop(lot.randrange(len(under_way))):
                entry.release()
                entry.release()  # as the engine does: before it parks, and at the end
        else:
            key, queue = f"job_{lot.randrange(20)}", lot.choice(QUEUES)
            under_way.append((ours.add(key, queue), theirs.add(key, queue)))
        for queue in ("make", "sandbox", "other"):
            assert ours.count_for_queue(queue) == theirs.count_for_queue(queue)
    assert sorted(ours.activeList()) == sorted(theirs.activeList())
