"""A service of its own for junk, so that nobody else moves its money."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.fuzzing import MAX_BODY, Target
from tests.acceptance.raw_http import request
from tests.service import Service


@pytest.fixture(scope="module")
def shot_at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A service that may sell."""
    environment = {"STABLESTUDIO_SANDBOX_DELAY": "0.1", "STABLESTUDIO_MAX_BODY_BYTES": str(MAX_BODY)}
    with Service(tmp_path_factory.mktemp("fuzz"), environment=environment) as service:
        target = Target(service)
        yield target
        target.buyer.http.close()


@pytest.fixture
def target(shot_at: Target) -> Iterator[Target]:
    """The service; afterwards it must be alive, without a fault of its own, and have sold nothing."""
    before, faults = shot_at.books(), len(shot_at.faults())
    yield shot_at
    assert shot_at.service.alive
    health = shot_at.send(request("GET", "/health"))
    assert health is not None
    assert health.json()["status"] == "ok"
    assert shot_at.books() == before
    assert shot_at.faults()[faults:] == []
