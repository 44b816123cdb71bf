"""Money rule 5, proved over a whole database: every order ends delivered and charged, failed and refunded, or never charged.

Each question is one SQL statement that finds what must not exist; its name says what it has found.
"""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

# Transfers that are no mint: what buyers paid and what went back.
_MOVED = "SELECT * FROM ledger_transactions WHERE nonce IS NOT NULL AND failure IS NULL"

# True at every moment, whatever is still going on.
ALWAYS = {
    "order without exactly one payment": """
        SELECT o.id FROM orders o LEFT JOIN payments p ON p.order_id = o.id GROUP BY o.id HAVING count(p.id) <> 1""",
    "payment for another amount than the price": """
        SELECT p.order_id FROM payments p JOIN orders o ON o.id = p.order_id WHERE p.amount <> o.price_micros""",
    "one credential with two live payments": """
        SELECT rail, key FROM payments WHERE state <> 'rejected' GROUP BY rail, key HAVING count(*) > 1""",
    "job whose payment is neither settled nor to be settled after the work": """
        SELECT j.id FROM jobs j JOIN payments p ON p.order_id = j.id
        WHERE p.state <> 'settled' AND p.policy <> 'complete'""",
    "delivered job whose payment is not settled": """
        SELECT j.id FROM jobs j JOIN payments p ON p.order_id = j.id
        WHERE j.state = 'complete' AND p.state <> 'settled'""",
    "settled payment without a job or an upload": """
        SELECT p.order_id FROM payments p
        LEFT JOIN jobs j ON j.id = p.order_id LEFT JOIN uploads u ON u.order_id = p.order_id
        WHERE p.state = 'settled' AND j.id IS NULL AND u.id IS NULL""",
    "job of another wallet than the order's": """
        SELECT j.id FROM jobs j JOIN orders o ON o.id = j.id WHERE j.wallet <> o.wallet""",
    "settled payment without its transfer": f"""
        SELECT p.order_id FROM payments p LEFT JOIN ({_MOVED}) t
          ON t.hash = p."transaction" AND t.sender = lower(p.payer) AND t.asset = lower(p.asset) AND t.amount = p.amount
        WHERE p.state = 'settled' AND t.hash IS NULL AND p.network NOT LIKE 'solana:%'""",
    "settled payment without its transaction on Solana": """
        SELECT p.order_id FROM payments p LEFT JOIN ledger_solana_transactions t
          ON t.signature = p."transaction" AND json_extract(t.meta, '$.err') IS NULL
        WHERE p.state = 'settled' AND t.signature IS NULL AND p.network LIKE 'solana:%'""",
    "payment recorded as unpaid whose authorization was spent": f"""
        SELECT p.order_id FROM payments p JOIN ({_MOVED}) t ON t.sender || ':' || t.nonce = p.key
        WHERE p.state = 'rejected'
          AND NOT EXISTS (SELECT 1 FROM payments s WHERE s.key = p.key AND s.state = 'settled')""",
    "two payments with one transaction": """
        SELECT "transaction" FROM payments WHERE "transaction" IS NOT NULL GROUP BY 1 HAVING count(*) > 1""",
    "refund of a job that did not fail": """
        SELECT r.order_id FROM refunds r LEFT JOIN jobs j ON j.id = r.order_id AND j.state = 'failed' WHERE j.id IS NULL""",
    "failed and charged job without a refund": """
        SELECT j.id FROM jobs j JOIN payments p ON p.order_id = j.id LEFT JOIN refunds r ON r.order_id = j.id
        WHERE j.state = 'failed' AND p.state = 'settled' AND r.order_id IS NULL""",
    "refund of another amount or to another address than was paid": """
        SELECT r.order_id FROM refunds r JOIN payments p ON p.id = r.payment_id
        WHERE r.amount <> p.amount OR r.recipient <> p.payer OR r.order_id <> p.order_id""",
    "refund recorded without its transfer": f"""
        SELECT r.order_id FROM refunds r LEFT JOIN ({_MOVED}) t
          ON t.hash = r."transaction" AND t.recipient = lower(r.recipient) AND t.amount = r.amount
        WHERE r.state = 'refunded' AND t.hash IS NULL AND r.rail NOT LIKE 'x402:solana:%'""",
    "refund recorded without its transaction on Solana": """
        SELECT r.order_id FROM refunds r LEFT JOIN ledger_solana_transactions t
          ON t.signature = r."transaction" AND json_extract(t.meta, '$.err') IS NULL
        WHERE r.state = 'refunded' AND t.signature IS NULL AND r.rail LIKE 'x402:solana:%'""",
    "vendor asked twice": "SELECT job_id FROM sandbox_tasks GROUP BY job_id HAVING count(*) > 1",
    "vendor's task that the job does not know": """
        SELECT j.id FROM jobs j LEFT JOIN sandbox_tasks t ON t.id = j.task WHERE j.task IS NOT NULL AND t.job_id IS NOT j.id""",
    "two submissions under way": """
        SELECT job_id FROM submissions WHERE state <> 'refused' GROUP BY job_id HAVING count(*) > 1""",
    "complete job without exactly one result": """
        SELECT j.id FROM jobs j LEFT JOIN assets a ON a.job_id = j.id AND a.role = 'result'
        WHERE j.state = 'complete' GROUP BY j.id HAVING count(a.key) <> 1""",
    "complete clip without its thumbnail": """
        SELECT j.id FROM jobs j JOIN assets a ON a.job_id = j.id AND a.role = 'result'
        LEFT JOIN assets t ON t.job_id = j.id AND t.role = 'thumbnail'
        WHERE j.state = 'complete' AND a.content_type LIKE 'video/%' GROUP BY j.id HAVING count(t.key) <> 1""",
    "job unknown to the engine": """
        SELECT j.id FROM jobs j LEFT JOIN workflow_status w ON w.workflow_uuid = j.id WHERE w.workflow_uuid IS NULL""",
    "workflow without a job": """
        SELECT w.workflow_uuid FROM workflow_status w LEFT JOIN jobs j ON j.id = w.workflow_uuid WHERE j.id IS NULL""",
    "balance that is not the sum of its transfers": """
        SELECT b.owner FROM ledger_balances b WHERE b.asset LIKE '0x%' AND b.amount <>
          (SELECT coalesce(sum(amount), 0) FROM ledger_transactions t WHERE t.asset = b.asset AND t.recipient = b.owner)
          - (SELECT coalesce(sum(amount), 0) FROM ledger_transactions t
             WHERE t.asset = b.asset AND t.sender = b.owner AND t.nonce IS NOT NULL AND t.failure IS NULL)""",
}

# True once nothing is going on any more.
AT_REST = {
    "payment whose outcome nobody found out": "SELECT order_id FROM payments WHERE state IN ('claimed', 'unknown', 'held')",
    "job that did not end": "SELECT id FROM jobs WHERE state NOT IN ('complete', 'failed')",
    "refund that did not end": "SELECT order_id FROM refunds WHERE state <> 'refunded'",
    "workflow that did not end well": """
        SELECT w.workflow_uuid, w.status FROM workflow_status w WHERE w.status <> 'SUCCESS'""",
    "transfer that belongs to no sale": f"""
        SELECT t.hash FROM ({_MOVED}) t
        LEFT JOIN payments p ON p."transaction" = t.hash AND p.state = 'settled'
        LEFT JOIN refunds r ON r."transaction" = t.hash AND r.state = 'refunded'
        WHERE (p.id IS NULL) = (r.order_id IS NULL)""",
}


def audit(database: Path, *, at_rest: bool = True) -> list[str]:
    """Return every breach found, as sentences with ids; none is the only good answer."""
    questions = ALWAYS | (AT_REST if at_rest else {})
    with closing(_open(database)) as connection:
        return [f"{name}: {row}" for name, sql in questions.items() for row in connection.execute(sql)]


def audit_files(data: Path) -> list[str]:
    """Return every kept file that is not what its record says."""
    found = []
    with closing(_open(data / "stablestudio.db")) as connection:
        for key, size, digest in connection.execute("SELECT key, size, sha256 FROM assets"):
            path = data / "assets" / key
            kept = path.read_bytes() if path.exists() else b""
            if (len(kept), hashlib.sha256(kept).hexdigest()) != (size, digest):
                found.append(f"file that is not what its record says: {key}")
    return found


def rows(database: Path, sql: str, *parameters: object) -> list[tuple[object, ...]]:
    """Look into the database of a running service."""
    with closing(_open(database)) as connection:
        return connection.execute(sql, parameters).fetchall()


def _open(database: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)
    connection.execute("BEGIN")  # one moment for all questions
    return connection
