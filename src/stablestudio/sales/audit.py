"""The audit: money rule 5 over the whole database, each breach named and found by one statement.

Every order ends delivered and charged, failed and refunded, or never charged. What the chain says is compared as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from stablestudio.payments.rail import Rail, Settled
from stablestudio.store.database import Database

# What must not exist at any moment, whatever is going on.
NEVER: Mapping[str, str] = {
    "order without exactly one payment": """
        SELECT o.id FROM orders o LEFT JOIN payments p ON p.order_id = o.id GROUP BY o.id HAVING count(p.id) <> 1""",
    "one credential with two live payments": """
        SELECT min(p.order_id) FROM payments p WHERE p.state <> 'rejected' GROUP BY p.rail, p.key HAVING count(*) > 1""",
    "two payments with one transaction": """
        SELECT min(p.order_id) FROM payments p WHERE p."transaction" IS NOT NULL
        GROUP BY p."transaction" HAVING count(*) > 1""",
    "settled payment without a job": """
        SELECT p.order_id FROM payments p LEFT JOIN jobs j ON j.id = p.order_id
        WHERE p.state = 'settled' AND j.id IS NULL""",
    "job whose payment is not settled": """
        SELECT j.id FROM jobs j JOIN payments p ON p.order_id = j.id WHERE p.state <> 'settled'""",
    "job of another wallet than the order's": """
        SELECT j.id FROM jobs j JOIN orders o ON o.id = j.id WHERE j.wallet <> o.wallet""",
    "two submissions to vendors under way": """
        SELECT s.job_id FROM submissions s WHERE s.state <> 'refused' GROUP BY s.job_id HAVING count(*) > 1""",
    "complete job without exactly one result": """
        SELECT j.id FROM jobs j LEFT JOIN assets a ON a.job_id = j.id AND a.role = 'result'
        WHERE j.state = 'complete' GROUP BY j.id HAVING count(a.key) <> 1""",
    "failed job without a refund": """
        SELECT j.id FROM jobs j LEFT JOIN refunds r ON r.order_id = j.id
        WHERE j.state = 'failed' AND r.order_id IS NULL""",
    "refund of a job that did not fail": """
        SELECT r.order_id FROM refunds r LEFT JOIN jobs j ON j.id = r.order_id AND j.state = 'failed'
        WHERE j.id IS NULL""",
    "refund of another amount or to another address than was paid": """
        SELECT r.order_id FROM refunds r JOIN payments p ON p.id = r.payment_id
        WHERE r.amount <> p.amount OR r.recipient <> p.payer OR r.order_id <> p.order_id""",
}

# What may exist for a while, and is named so that somebody looks when it stays.
OPEN: Mapping[str, str] = {
    "payment whose outcome is not known": "SELECT order_id FROM payments WHERE state IN ('claimed', 'unknown')",
    "job that has not ended": "SELECT id FROM jobs WHERE state NOT IN ('complete', 'failed')",
    "refund that has not arrived": "SELECT order_id FROM refunds WHERE state <> 'refunded'",
}

_MOVED = sa.text("""
    SELECT p.order_id, p.rail, p.credential, p."transaction" FROM payments p WHERE p.state = 'settled'
    UNION ALL
    SELECT r.order_id, r.rail, r.signed, r."transaction" FROM refunds r WHERE r.state = 'refunded'""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One breach, or one thing still open, and the order that it concerns."""

    what: str
    order_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What an audit found; `breaches` is empty in a healthy house."""

    breaches: Sequence[Finding]
    open: Sequence[Finding]


async def audit(database: Database, *, rails: Mapping[str, Rail]) -> Report:
    """Look through the whole database, and ask each rail's chain about every transfer that is on record."""
    breaches, pending = await database.read(lambda connection: (_ask(connection, NEVER), _ask(connection, OPEN)))
    return Report(breaches=[*breaches, *await _compare_with_chain(database, rails)], open=pending)


def _ask(connection: sa.Connection, questions: Mapping[str, str]) -> list[Finding]:
    return [
        Finding(what=what, order_id=str(row[0]))
        for what, sql in questions.items()
        for row in connection.execute(sa.text(sql))
    ]


async def _compare_with_chain(database: Database, rails: Mapping[str, Rail]) -> list[Finding]:
    found: list[Finding] = []
    for order_id, name, saved, transaction in await database.read(lambda connection: connection.execute(_MOVED).all()):
        rail = rails.get(name)
        if rail is None:
            found.append(Finding(what="transfer on a rail that is not configured", order_id=order_id))
        elif await rail.find(saved) != Settled(transaction=transaction):
            found.append(Finding(what="transfer that the chain does not know", order_id=order_id))
    return found
