"""The audit itself: each of its questions finds the breach that it is named after."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from .audit import ALWAYS, AT_REST, audit, audit_files

_GOOD = "(SELECT id FROM jobs WHERE state = 'complete')"
BREACHES = {
    "order without exactly one payment": "INSERT INTO orders SELECT 'x', wallet, model, operation, input, price_micros, "
    "NULL, revision, created_at, NULL FROM orders LIMIT 1",
    "payment for another amount than the price": "UPDATE payments SET amount = amount - 1",
    "one credential with two live payments": "DROP INDEX uq_payments_rail_key; UPDATE payments SET key = 'x'",
    "job whose payment is neither settled nor to be settled after the work": "UPDATE payments SET state = 'claimed'",
    "delivered job whose payment is not settled": "UPDATE payments SET state = 'held', policy = 'complete'",
    "settled payment without a job or an upload": f"DELETE FROM jobs WHERE id = {_GOOD}",
    "job of another wallet than the order's": "UPDATE jobs SET wallet = 'eip155:0x00'",
    "settled payment without its transfer": "UPDATE ledger_transactions SET amount = amount - 1",
    "payment recorded as unpaid whose authorization was spent": "UPDATE payments SET state = 'rejected'",
    "settled payment without its transaction on Solana": "UPDATE payments SET network = 'solana:x'",
    "refund recorded without its transaction on Solana": "UPDATE refunds SET rail = 'x402:solana:x'",
    "two payments with one transaction": "UPDATE payments SET \"transaction\" = '0x00'",
    "refund of a job that did not fail": "UPDATE jobs SET state = 'complete'",
    "failed and charged job without a refund": "DELETE FROM refunds",
    "refund of another amount or to another address than was paid": "UPDATE refunds SET amount = amount + 1",
    "refund recorded without its transfer": "UPDATE refunds SET \"transaction\" = '0x00'",
    "vendor asked twice": "INSERT INTO sandbox_tasks SELECT 'x' || id, job_id, ready_at, created_at FROM sandbox_tasks",
    "vendor's task that the job does not know": "UPDATE jobs SET task = 'x'",
    "two submissions under way": "INSERT INTO submissions (job_id, attempt, provider, state, created_at, updated_at) "
    "SELECT job_id, attempt + 1, provider, 'intended', created_at, updated_at FROM submissions",
    "complete job without exactly one result": "DELETE FROM assets WHERE role = 'result'",
    "complete clip without its thumbnail": "DELETE FROM assets WHERE role = 'thumbnail'",
    "job unknown to the engine": f"DELETE FROM workflow_status WHERE workflow_uuid = {_GOOD}",
    "workflow without a job": f"UPDATE workflow_status SET workflow_uuid = 'x' WHERE workflow_uuid = {_GOOD}",
    "balance that is not the sum of its transfers": "UPDATE ledger_balances SET amount = amount + 1",
    "payment whose outcome nobody found out": "UPDATE payments SET state = 'unknown'",
    "job that did not end": "UPDATE jobs SET state = 'loading'",
    "refund that did not end": "UPDATE refunds SET state = 'signed'",
    "workflow that did not end well": "UPDATE workflow_status SET status = 'ERROR'",
    "transfer that belongs to no sale": "DELETE FROM refunds",
}
_OTHER_REFUND = "refund of another amount or to another address than was paid"
_OTHER_TRANSFER = "settled payment without its transfer"
# The other things that a question of several asks for.
CLAUSES = [
    (_OTHER_REFUND, "UPDATE refunds SET recipient = '0x00'"),
    (_OTHER_TRANSFER, "UPDATE ledger_transactions SET sender = '0x00'"),
    (_OTHER_TRANSFER, "UPDATE ledger_transactions SET asset = '0x00'"),
    (_OTHER_TRANSFER, "UPDATE ledger_transactions SET failure = 'reverted'"),
    ("refund recorded without its transfer", "UPDATE ledger_transactions SET recipient = '0x00'"),
    ("refund recorded without its transfer", "UPDATE ledger_transactions SET amount = amount + 1"),
    ("settled payment without a job or an upload", "DELETE FROM jobs WHERE state = 'failed'"),
]


def test_good_books_pass(books: Path) -> None:
    assert audit(books / "stablestudio.db") == []
    assert audit_files(books) == []


def test_every_question_is_put_to_the_test() -> None:
    assert BREACHES.keys() == (ALWAYS | AT_REST).keys()


@pytest.mark.parametrize(("name", "script"), [*BREACHES.items(), *CLAUSES])
def test_a_breach_is_found(books: Path, name: str, script: str, data: Path) -> None:
    shutil.copytree(books, data)
    with closing(sqlite3.connect(data / "stablestudio.db")) as connection:
        connection.executescript("PRAGMA ignore_check_constraints = ON;" + script)
    assert name in {found.partition(":")[0] for found in audit(data / "stablestudio.db")}


def test_a_damaged_file_is_found(books: Path, data: Path) -> None:
    shutil.copytree(books, data)
    clip = next(data.rglob("*.mp4"))
    clip.write_bytes(clip.read_bytes()[:-1])
    assert audit_files(data) == [f"file that is not what its record says: {clip.relative_to(data / 'assets')}"]
