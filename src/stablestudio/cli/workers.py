"""`stablestudio workers`: which processes make jobs, and how many."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import click

from stablestudio.cli.books import OperatorMistake, open_books, operates
from stablestudio.cli.output import Output
from stablestudio.clock import iso
from stablestudio.config import Settings
from stablestudio.store import executors
from stablestudio.store.database import is_file
from stablestudio.store.executors import Executor

_WIDTHS = "{:<33}  {:<24}  {:>8}  {:<20}  {:>10}  {:>5}"


class OneProcess(OperatorMistake):
    """A database in a file has one process, which does everything."""

    hint = "Set `database` to share the work: docs/postgres.md."


@click.command()
@operates
def workers(out: Output, settings: Settings) -> None:
    """List the processes that make jobs: who holds a lease, since when, for how long still, and the jobs in its hands.

    A table, or one JSON object a line where that is asked for or no terminal is there. A lease that is over
    (less than 0 seconds) is that of a process that is gone or frozen; its jobs are about to be taken by the others.
    """
    if is_file(settings.books):
        raise OneProcess
    from stablestudio.jobs.engine import in_hand  # noqa: PLC0415 - a second that an error does not need

    with open_books(settings) as database:
        found = asyncio.run(database.read(executors.listed))
        jobs = in_hand(database)
    if out.machine:
        for each in found:
            click.echo(json.dumps(_document(each, jobs.get(each.id, 0))))
    elif found:
        click.echo(_WIDTHS.format("WORKER", "HOST", "PID", "SINCE", "LEFT", "JOBS"))
        for each in found:
            left = f"{each.left / 1000:.0f} s"
            since = iso(each.leased_at)
            click.echo(_WIDTHS.format(each.id, each.host, each.pid, since, left, jobs.get(each.id, 0)))
    else:
        click.echo("Nobody makes jobs.")


def _document(executor: Executor, jobs: int) -> dict[str, Any]:
    return {
        "id": executor.id,
        "host": executor.host,
        "pid": executor.pid,
        "since": iso(executor.leased_at),
        "leaseSecondsLeft": executor.left / 1000,
        "jobs": jobs,
    }
