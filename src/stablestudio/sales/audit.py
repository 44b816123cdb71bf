"""The audit: money rule 5 over the whole database, each breach named and found by one statement.

Every order ends delivered and charged, failed and refunded, or never charged. What the chains say is compared as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from stablestudio.money import DECIMALS, Money
from stablestudio.payments.rail import Outcome, Rail, Settled, Unknown
from stablestudio.store.database import Database

# What must not exist at any moment, whatever is going on.
NEVER: Mapping[str, str] = {
    "order without exactly one payment": """
        SELECT o.id FROM orders o WHERE (SELECT count(*) FROM payments p WHERE p.order_id = o.id) <> 1""",
    "one credential with two live payments": """
        SELECT min(p.order_id) FROM payments p WHERE p.state <> 'rejected' GROUP BY p.rail, p.key HAVING count(*) > 1""",
    "settled payment without a transaction": """
        SELECT p.order_id FROM payments p WHERE p.state = 'settled' AND p."transaction" IS NULL""",
    "payment given back that has a transaction": """
        SELECT p.order_id FROM payments p WHERE p.state IN ('rejected', 'released') AND p."transaction" IS NOT NULL""",
    "two payments with one transaction": """
        SELECT min(p.order_id) FROM payments p WHERE p."transaction" IS NOT NULL
        GROUP BY p."transaction" HAVING count(*) > 1""",
    "payment taken or held without a job or an upload": """
        SELECT p.order_id FROM payments p
        LEFT JOIN jobs j ON j.id = p.order_id LEFT JOIN uploads u ON u.order_id = p.order_id
        WHERE p.state IN ('settled', 'held') AND j.id IS NULL AND u.id IS NULL""",
    "upload whose payment is not settled": """
        SELECT u.order_id FROM uploads u JOIN payments p ON p.order_id = u.order_id WHERE p.state <> 'settled'""",
    "upload of another wallet than the order's": """
        SELECT u.order_id FROM uploads u JOIN orders o ON o.id = u.order_id WHERE u.wallet <> o.wallet""",
    "job whose payment is not settled": """
        SELECT j.id FROM jobs j JOIN payments p ON p.order_id = j.id
        WHERE p.state <> 'settled' AND (p.policy = 'accept' OR j.state = 'complete')""",
    "failed job whose payment is still held": """
        SELECT j.id FROM jobs j JOIN payments p ON p.order_id = j.id WHERE j.state = 'failed' AND p.state = 'held'""",
    "job of another wallet than the order's": """
        SELECT j.id FROM jobs j JOIN orders o ON o.id = j.id WHERE j.wallet <> o.wallet""",
    "two submissions to vendors under way": """
        SELECT s.job_id FROM submissions s WHERE s.state <> 'refused' GROUP BY s.job_id HAVING count(*) > 1""",
    "complete job without exactly one result": """
        SELECT j.id FROM jobs j WHERE j.state = 'complete'
        AND (SELECT count(*) FROM assets a WHERE a.job_id = j.id AND a.role = 'result') <> 1""",
    "failed job that was charged, without a refund": """
        SELECT j.id FROM jobs j JOIN payments p ON p.order_id = j.id AND p.state = 'settled'
        LEFT JOIN refunds r ON r.order_id = j.id WHERE j.state = 'failed' AND r.order_id IS NULL""",
    "refund of a job that did not fail": """
        SELECT r.order_id FROM refunds r LEFT JOIN jobs j ON j.id = r.order_id AND j.state = 'failed'
        WHERE j.id IS NULL""",
    "refund of a payment that was not taken": """
        SELECT r.order_id FROM refunds r LEFT JOIN payments p ON p.id = r.payment_id AND p.state = 'settled'
        WHERE p.id IS NULL""",
    "refund of more than was paid": """
        SELECT r.order_id FROM refunds r JOIN payments p ON p.id = r.payment_id WHERE r.amount > p.amount""",
    "refund of less than was paid, or to another address, or in another token": """
        SELECT r.order_id FROM refunds r JOIN payments p ON p.id = r.payment_id
        WHERE r.amount < p.amount OR r.recipient <> p.payer OR r.order_id <> p.order_id OR r.rail <> p.rail""",
    "refund that arrived without a transaction": """
        SELECT r.order_id FROM refunds r WHERE r.state = 'refunded' AND r."transaction" IS NULL""",
    "two refunds with one transaction": """
        SELECT min(r.order_id) FROM refunds r WHERE r."transaction" IS NOT NULL
        GROUP BY r."transaction" HAVING count(*) > 1""",
    "echo of an order that does not exist": """
        SELECT e.order_id FROM echoes e LEFT JOIN orders o ON o.id = e.order_id WHERE o.id IS NULL""",
}
ANOTHER_PRICE = "payment of another amount than the order's price"

# What may exist for a while, and is named so that somebody looks when it stays.
OPEN: Mapping[str, str] = {
    "payment whose outcome is not known": "SELECT order_id FROM payments WHERE state IN ('claimed', 'unknown')",
    "payment held until the work is done": "SELECT order_id FROM payments WHERE state = 'held'",
    "job that has not ended": "SELECT id FROM jobs WHERE state IN ('pending', 'loading')",
    "refund that has not arrived": "SELECT order_id FROM refunds WHERE state <> 'refunded' AND state <> 'waiting'",
    "refund that waits": "SELECT order_id FROM refunds WHERE state <> 'refunded' AND state = 'waiting'",
}

_PRICES = sa.text("""
    SELECT p.order_id, p.rail, p.amount, o.price_micros FROM payments p JOIN orders o ON o.id = p.order_id
    WHERE p.amount <> o.price_micros""")

_TALLY = sa.text("""
    SELECT CASE WHEN p.state = 'settled' AND (j.state = 'complete' OR u.id IS NOT NULL) THEN 'delivered'
                WHEN r.state = 'refunded' THEN 'refunded'
                WHEN p.state IN ('rejected', 'released') AND (j.id IS NULL OR j.state = 'failed') THEN 'never_charged'
                ELSE 'open' END AS outcome,
           p.network, p.asset, count(*), sum(p.amount), sum(o.price_micros)
    FROM orders o JOIN payments p ON p.order_id = o.id
    LEFT JOIN jobs j ON j.id = o.id LEFT JOIN refunds r ON r.order_id = o.id
    LEFT JOIN uploads u ON u.order_id = o.id
    GROUP BY 1, 2, 3 ORDER BY 1, 2, 3""")

_TRANSFERS = sa.text("""
    SELECT p.order_id, p.rail, p.key, p.state, p.credential AS saved, p."transaction" FROM payments p
    WHERE p.order_id > :after AND p.state IN ('settled', 'rejected', 'released') ORDER BY p.order_id LIMIT :page""")
_REFUNDS = sa.text("""
    SELECT r.order_id, r.rail, '' AS key, r.state, r.signed AS saved, r."transaction" FROM refunds r
    WHERE r.order_id > :after AND r.state = 'refunded' ORDER BY r.order_id LIMIT :page""")
# The second condition tells SQLite that the index of live credentials has it.
_TAKEN = sa.text(
    "SELECT 1 FROM payments WHERE rail = :rail AND key = :key AND state = 'settled' AND state <> 'rejected'"
)
_PAGE = 500
_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One breach, or one thing still open, and the order that it concerns."""

    what: str
    order_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many orders of a token came to an end, which one, and what they were worth."""

    outcome: str  # delivered (and charged), refunded, never_charged, open
    network: str
    asset: str
    orders: int
    amount: int  # base units
    price: Money


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What an audit found; `breaches` is empty in a healthy house. `compared` counts transfers looked up on chains."""

    breaches: Sequence[Finding]
    open: Sequence[Finding]
    tallies: Sequence[Tally]
    compared: int = 0


async def audit(database: Database, *, rails: Mapping[str, Rail] | None = None) -> Report:
    """Look through the whole database as it is at one moment, and ask each rail's chain about every transfer on record.

    Without `rails` no chain is asked, and tokens are taken to have six decimals, as dollars have here.
    """
    report = await database.read(lambda connection: _look(connection, rails or {}))
    if rails is None:
        return report
    comparison = _Comparison(database, rails)
    await comparison.run()
    return Report(
        breaches=[*report.breaches, *comparison.breaches],
        open=[*report.open, *comparison.open],
        tallies=report.tallies,
        compared=comparison.compared,
    )


def _look(connection: sa.Connection, rails: Mapping[str, Rail]) -> Report:
    return Report(
        breaches=[*_ask(connection, NEVER), *_compare_prices(connection, rails)],
        open=_ask(connection, OPEN),
        tallies=[
            Tally(
                outcome=outcome, network=network, asset=asset, orders=count, amount=int(units), price=Money(int(micros))
            )
            for outcome, network, asset, count, units, micros in connection.execute(_TALLY)
        ],
    )


def _ask(connection: sa.Connection, questions: Mapping[str, str]) -> list[Finding]:
    return [
        Finding(what=what, order_id=str(row[0]))
        for what, sql in questions.items()
        for row in connection.execute(sa.text(sql))
    ]


def _compare_prices(connection: sa.Connection, rails: Mapping[str, Rail]) -> list[Finding]:
    decimals = {name: rail.decimals for name, rail in rails.items()}
    return [
        Finding(what=ANOTHER_PRICE, order_id=order_id)
        for order_id, rail, amount, micros in connection.execute(_PRICES)
        if amount * 10**DECIMALS != micros * 10 ** decimals.get(rail, DECIMALS)
    ]


# What keeps a comparison with the chains from being a proof: nobody here can ask about these.
NOT_COMPARED = frozenset({"transfer on a rail that is not configured"})


class _Comparison:
    """The books beside the chains, page by page."""

    def __init__(self, database: Database, rails: Mapping[str, Rail]) -> None:
        self._database = database
        self._rails = rails
        self._places = asyncio.Semaphore(_AT_ONCE)
        self.breaches: list[Finding] = []
        self.open: list[Finding] = []
        self.compared = 0

    async def run(self) -> None:
        for pages in (_TRANSFERS, _REFUNDS):
            after = ""
            while page := await self._read(pages, after):
                await asyncio.gather(*(self._compare(row, is_refund=pages is _REFUNDS) for row in page))
                after = page[-1].order_id

    async def _read(self, pages: sa.TextClause, after: str) -> Sequence[sa.Row[tuple[str, ...]]]:
        return await self._database.read(
            lambda connection: connection.execute(pages, {"after": after, "page": _PAGE}).all()
        )

    async def _compare(self, row: sa.Row[tuple[str, ...]], *, is_refund: bool) -> None:
        rail = self._rails.get(row.rail)
        if rail is None:
            self.open.append(Finding(what="transfer on a rail that is not configured", order_id=row.order_id))
            return
        async with self._places:
            outcome = await (rail.find_refund(row.saved) if is_refund else rail.find(row.saved))
        self.compared += 1
        if row.state in ("settled", "refunded"):
            self._check_moved(row, outcome)
        elif isinstance(outcome, Settled) and not await self._is_taken(row):
            self.breaches.append(Finding(what="payment given back that the chain has settled", order_id=row.order_id))

    def _check_moved(self, row: sa.Row[tuple[str, ...]], outcome: Outcome) -> None:
        if outcome == Settled(transaction=row.transaction):
            return
        # A node that cannot be read, or has forgotten, says nothing against the books.
        if isinstance(outcome, Unknown) and not outcome.reason.startswith("not_seen"):
            self.open.append(Finding(what="transfer that the chain could not tell of", order_id=row.order_id))
        else:
            self.breaches.append(Finding(what="transfer that the chain does not know", order_id=row.order_id))

    async def _is_taken(self, row: sa.Row[tuple[str, ...]]) -> bool:
        """Tell whether the credential is on record as settled after all: by now, or for a later order."""
        terms = {"rail": row.rail, "key": row.key}
        return await self._database.read(lambda connection: connection.execute(_TAKEN, terms).first() is not None)
