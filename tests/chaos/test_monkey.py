"""The short form of `make chaos`: whatever breaks while a crowd buys, each order is one charge, and one delivery or one refund."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.postgres import require_binaries

_JOBS, _SEED = 100, 402
_SECONDS = 1500  # patience for a machine that has much else to do; less than a minute is usual


@pytest.mark.slow
@pytest.mark.timeout(_SECONDS + 60)
@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_nothing_is_lost_or_made_twice_whatever_breaks(store: str) -> None:
    if store == "postgres":
        require_binaries()
    play = ["--store", store, "--jobs", str(_JOBS), "--settled-by", "ledger", "--wallets", "32", "--seed", str(_SEED)]
    command = [sys.executable, "-m", "tests.chaos.monkey", *play]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "breaches: none" in done.stdout
