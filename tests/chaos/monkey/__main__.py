"""`python -m tests.chaos.monkey`: buy, break, wait for rest, and prove that nothing was lost; exit code 1 on any breach."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.fakes.s3 import S3
from tests.postgres import PostgresServer, binaries

from .bucket import Relay
from .crowd import Crowd
from .faults import Monkey
from .house import House, opened
from .town import Town
from .vendors import Vendors
from .verdict import FULL_RUN, answers, breaches, outcomes, rest, shortfalls

# Some payments are charged when the work is done; short enough to see the end of one that a facilitator lied about.
_HELD = {"STABLESTUDIO_HOLD_SECONDS": "60", "STABLESTUDIO_SETTLE": '{"gpt-image-2": "complete"}'}
_PAUSE = {"sqlite": 4.0, "postgres": 2.0}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.monkey", description=__doc__)
    parser.add_argument("--store", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--files", choices=["folder", "s3"], default="folder", help="where the house keeps files")
    parser.add_argument(
        "--settled-by", choices=["ledger", "facilitators"], default="facilitators", help="who settles x402"
    )
    parser.add_argument("--jobs", type=int, default=FULL_RUN, help="orders to be paid for (default: %(default)s)")
    parser.add_argument(
        "--minutes", type=float, default=20.0, help="longest time that is bought (default: %(default)s)"
    )
    parser.add_argument("--wallets", type=int, default=96, help="buyers at a time (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="what decides the lots (default: the time)")
    return parser.parse_args()


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


async def _progress(crowd: Crowd, monkey: Monkey, *, jobs: int) -> None:
    begun = time.monotonic()
    while True:
        await asyncio.sleep(10)
        faults = monkey.lots.drawn.total()
        _say(f"  {time.monotonic() - begun:4.0f} s: {crowd.paid:,} of {jobs:,} paid orders ended, {faults} faults")


async def _play(house: House, crowd: Crowd, monkey: Monkey, *, jobs: int) -> None:
    """Let the crowd buy and the monkey break until enough was bought and all is whole again."""
    enough = asyncio.Event()
    breaking = asyncio.create_task(monkey.run(enough, lambda: crowd.paid))
    telling = asyncio.create_task(_progress(crowd, monkey, jobs=jobs))
    await crowd.buy()
    enough.set()
    await breaking
    telling.cancel()
    await rest(house)
    await crowd.come_back()


async def _run(given: argparse.Namespace, folder: Path, server: PostgresServer | None) -> int:
    begun = time.monotonic()
    vendors = Vendors(given.seed)
    town = Town(folder, seed=given.seed) if given.settled_by == "facilitators" else None
    async with contextlib.AsyncExitStack() as stack:
        settings = {**_HELD, **await stack.enter_async_context(vendors.serving())}
        if town is not None:
            settings |= await stack.enter_async_context(town.serving())
            town.lots.calm = True  # a house that finds no node does not open
        relay = await _bucket(given, stack, settings) if given.files == "s3" else None
        house = await stack.enter_async_context(opened(folder, settings, store=given.store, server=server))
        crowd = Crowd(house.doors, seed=given.seed, jobs=given.jobs, wallets=given.wallets, minutes=given.minutes)
        stack.push_async_callback(crowd.close)
        await crowd.fund(town.fund if town else None)
        if town is not None:
            town.lots.calm = False
        monkey = Monkey(house, seed=given.seed, pause=_PAUSE[given.store], extra=relay.faults if relay else {})
        await _play(house, crowd, monkey, jobs=given.jobs)
        all_lots = [monkey.lots, vendors.lots, crowd.lots, *([town.lots] if town else [])]
        for lots in all_lots:
            lots.calm = True  # the audit asks the chain, and takes no lost answer for a good one
        outside = town.balances() if town else []
        found = await asyncio.to_thread(breaches, house, crowd.orders, vendors.asks, outside=outside)
    found += shortfalls(crowd.orders, jobs=given.jobs, paid=crowd.paid, minutes=given.minutes, lots=all_lots)
    paid = f"{len(crowd.orders):,} orders, {crowd.paid:,} paid, in {(time.monotonic() - begun) / 60:.1f} minutes"
    tables = {
        "faults injected": sum((lots.drawn for lots in all_lots), Counter[str]()),
        "processes started anew": house.ends,
        "answers to payments": answers(crowd.orders),
        "outcomes": outcomes(crowd.orders),
    }
    title = f"\nseed {given.seed}, {given.store}, files in {given.files}, settled by {given.settled_by}: {paid}\n"
    sys.stdout.write("\n".join([title, *(_table(*each) for each in tables.items()), _breaches(found)]) + "\n")
    return 1 if found else 0


async def _bucket(given: argparse.Namespace, stack: contextlib.AsyncExitStack, settings: dict[str, str]) -> Relay:
    """Let the house keep its files in S3, behind a relay that has bad days."""
    bucket = stack.enter_context(S3())
    relay = Relay(bucket.port, seed=given.seed)
    await stack.enter_async_context(relay.serving())
    settings |= bucket.environment | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{relay.port}"}
    return relay


def _breaches(found: Sequence[str]) -> str:
    return "\n".join(["breaches:", *found]) if found else "breaches: none"


def _table(name: str, counts: Mapping[str, int] | Counter[str]) -> str:
    width = max((len(word) for word in [*counts, name]), default=0)
    rows = [f"{word:<{width}}  {count:>7,}" for word, count in sorted(counts.items(), key=lambda each: -each[1])]
    return "\n".join([f"{name:<{width}}  {sum(counts.values()):>7,}", "-" * (width + 9), *rows, ""])


def main() -> int:
    given = _arguments()
    _say(f"seed {given.seed}: {given.jobs:,} paid orders on {given.store}, files in {given.files}")
    folder = Path(tempfile.mkdtemp(prefix="stablestudio-chaos-"))
    with contextlib.ExitStack() as stack:
        server = None
        if given.store == "postgres":
            programs = binaries()
            if programs is None:
                _say("PostgreSQL is not installed: `apt-get install postgresql` brings it")
                return 2
            server = stack.enter_context(PostgresServer(programs))
        code = asyncio.run(_run(given, folder, server))
    if code == 0:
        shutil.rmtree(folder)
    else:
        _say(f"The data and logs of this run are in {folder}.")
    return code


if __name__ == "__main__":
    sys.exit(main())
