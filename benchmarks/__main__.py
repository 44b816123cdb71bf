"""`python -m benchmarks`: start the servers, take interleaved rounds, print medians, ratios and the aims."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

from benchmarks.measures import Bench
from benchmarks.servers import LOAD_CORE, core, install_peer, pinned

_QUIET_LOAD = 0.7
MEASURES = ("quotes", "polls", "accepts", "files", "cli", "waits", "purge")
_WITH_PEER = {"quotes", "polls", "accepts"}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("measures", nargs="*", choices=[*MEASURES, "all"], default="all")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each contender (default: %(default)s)")
    parser.add_argument("--no-peer", action="store_true", help="leave the peer out; it needs Node.js")
    return parser.parse_args()


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Measure what was asked for; 0 if everything ran, whatever the figures."""
    wanted = _arguments()
    signal.signal(signal.SIGTERM, _interrupt)
    chosen = MEASURES if "all" in wanted.measures else tuple(wanted.measures)
    missing = "left out" if wanted.no_peer or _WITH_PEER.isdisjoint(chosen) else install_peer()
    if missing:
        _say(f"no peer: {missing}")
    if not pinned():
        _say("fewer than two cores to pin to: the figures will be noisy")
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="stablestudio-bench-") as folder, core(LOAD_CORE):
        bench = Bench(
            folder=Path(folder), seconds=wanted.seconds, rounds=wanted.rounds, with_peer=missing is None, say=_say
        )
        print(bench.run(chosen))
    if load > _QUIET_LOAD:
        print(f"other work was running when this began (load {load:.1f}): trust the ratios, repeat the rest")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
