"""Random lives of sales: paid, settled, made, cancelled, refunded, with lost answers and deaths at any moment.

`MODEL_EXAMPLES=5000 pytest tests/model` looks longer, at other lives each time; `-rP` shows what was met.
"""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from stablestudio.store.database import Database

from .machine import staged

_EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "0"))
_FEW = 8  # examples for each failpoint
_ROUNDS = 8  # of them, until somebody has died there
_STEPS = 50
_FAILPOINTS = [
    *("sale.verified", "sale.claimed", "sale.settled", "sale.committed", "charge.claimed"),
    *("make.intended", "make.asked", "make.submitted", "make.polled", "make.fetched", "make.kept", "make.thumbnailed"),
    *("close.complete", "close.failed", "cancel.confirmed", "cancel.ended", "refund.signed", "refund.sent"),
]


@pytest.mark.parametrize("failpoint", _FAILPOINTS)
def test_no_life_of_a_sale_breaks_a_rule(
    databases: list[Database], failpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every payment buys one job, every job ends delivered or paid back once, and the books are what the chains say."""

    machine = staged(databases, failpoint, monkeypatch)
    how_long = settings(
        max_examples=max(_EXAMPLES // len(_FAILPOINTS), 1) if _EXAMPLES else _FEW,
        stateful_step_count=_STEPS,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    for number in range(_ROUNDS):
        run_state_machine_as_test(machine if _EXAMPLES else seed(number)(machine), settings=how_long)
        if machine.stage.met[f"death at {failpoint}"]:
            break
    for what, times in sorted(machine.stage.met.items()):
        sys.stdout.write(f"{times:7,} {what}\n")
    assert machine.stage.met[f"death at {failpoint}"]
