"""`stablestudio audit`: prove over the whole database that every order came to a good end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any

import click
import sqlalchemy as sa

from stablestudio.cli.books import BooksMissing, open_books, operates
from stablestudio.cli.output import Output
from stablestudio.clock import SystemClock
from stablestudio.config import Settings, load_secret
from stablestudio.payments.rail import Rail
from stablestudio.sales.audit import NOT_COMPARED, Finding, Report, Tally
from stablestudio.sales.audit import audit as look_through
from stablestudio.store.database import Database, is_file

BREACHED = 1
_MAPPED = 2**36  # bytes of the database's file at most
_OUTCOMES = {
    "delivered": "Delivered and charged",
    "refunded": "Failed and refunded",
    "never_charged": "Never charged",
    "open": "Still open",
}
_NAMED = 10


@click.command()
@click.option("--chain", is_flag=True, help="Ask the chains about each transfer too, with the rails of the settings.")
@operates
def audit(out: Output, settings: Settings, *, chain: bool) -> None:
    """Check that every order ended delivered and charged, failed and refunded, or never charged.

    Reads the data folder's database as it is at one moment, also while the service runs. Exit code 0: no breach;
    1: breaches, each named with its order, or with --chain transfers that no configured rail can look up;
    2: the books cannot be read.
    """
    with open_books(settings) as database:
        # Every page is read many times, and a mapped file costs no call for each: a million orders in half the time.
        if is_file(database.url):
            sa.event.listen(database.engine, "connect", lambda opened, _: opened.execute(f"PRAGMA mmap_size={_MAPPED}"))
        report = asyncio.run(_audit(settings, database, chain=chain))
    out.result(_document(report), *_lines(report, chain=chain))
    unseen = chain and any(finding.what in NOT_COMPARED for finding in report.open)
    if report.breaches or unseen:
        click.get_current_context().exit(BREACHED)


async def _audit(settings: Settings, database: Database, *, chain: bool) -> Report:
    if not chain:
        return await look_through(database)
    rails = _rails(settings, database)
    try:
        return await look_through(database, rails=rails)
    finally:
        for rail in rails.values():
            await rail.stop()


def _rails(settings: Settings, database: Database) -> Mapping[str, Rail]:
    from stablestudio.server.rails import build_rails  # noqa: PLC0415 - half a second that the books alone do not need

    if not (settings.data / "secret").is_file():
        raise BooksMissing(f"There is no secret in {settings.data}, which the embedded chains' keys come from.")
    secret = load_secret(settings.data)
    return build_rails(settings, database=database, secret=secret, clock=SystemClock()).by_name


def _document(report: Report) -> dict[str, Any]:
    return {
        "success": not report.breaches,
        "orders": sum(tally.orders for tally in report.tallies),
        "totals": [_total(tally) for tally in report.tallies],
        "breaches": [_finding(each) for each in report.breaches],
        "open": [_finding(each) for each in report.open],
        "transfersCompared": report.compared,
    }


def _total(tally: Tally) -> dict[str, Any]:
    return {
        "outcome": tally.outcome,
        "network": tally.network,
        "asset": tally.asset,
        "orders": tally.orders,
        "amount": str(tally.price),
        "currency": "USD",
        "amountAtomic": str(tally.amount),
    }


def _finding(finding: Finding) -> dict[str, str]:
    return {"what": finding.what, "order": finding.order_id}


def _lines(report: Report, *, chain: bool) -> list[str]:
    lines = [_sum(tally) for outcome in _OUTCOMES for tally in report.tallies if tally.outcome == outcome]
    compared = [f"Transfers compared with their chains: {report.compared:,}."] if chain else []
    unseen = sum(finding.what in NOT_COMPARED for finding in report.open) if chain else 0
    verdict = f"Breaches: {len(report.breaches):,}." if report.breaches else "No breach."
    if unseen:
        verdict = f"{verdict} But {unseen:,} transfers could not be compared: run this with the service's settings."
    return [
        *(lines or ["No orders yet."]),
        *compared,
        *_named(report.open, most=_NAMED),
        verdict,
        *_named(report.breaches, most=len(report.breaches)),
    ]


def _sum(tally: Tally) -> str:
    return f"{_OUTCOMES[tally.outcome]:<21}  {tally.orders:>9,}  ${tally.price}  {tally.asset} on {tally.network}"


def _named(findings: Sequence[Finding], *, most: int) -> list[str]:
    """Return findings by name, each with its orders; the open ones are many in a busy house."""
    lines = []
    for what, group in groupby(findings, key=attrgetter("what")):
        orders = [finding.order_id for finding in group]
        rest = [f"    and {len(orders) - most:,} more"] if len(orders) > most else []
        lines += [f"  {what}: {len(orders):,}", *(f"    {order}" for order in orders[:most]), *rest]
    return lines
