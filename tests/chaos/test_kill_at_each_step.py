"""`kill -9` at each of the ten steps in the life of a sale; afterwards every cent and every job is where it belongs."""

from __future__ import annotations

import hashlib
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from .audit import audit_files, rows
from .conftest import DOOMED, GOOD, PATH, PRICE, World

FUNDS = 100_000_000
_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """A place to die at, in a sale that will be delivered or refunded."""

    step: str
    place: str
    owed: bool  # whether the sale is on disk by then, so that it must end without the buyer
    body: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.step}-{self.place}"


def _good(step: str, *places: str, owed: bool = True) -> list[Kill]:
    return [Kill(step=step, place=place, owed=owed, body=GOOD) for place in places]


def _doomed(step: str, *places: str) -> list[Kill]:
    return [Kill(step=step, place=place, owed=True, body=DOOMED) for place in places]


PAID = [
    *_good("1.read", "quote.read", owed=False),
    *_good("2.quote", "quote.priced", owed=False),
    *_good("4.verify", "sale.verified", owed=False),
    *_good("5.claim", "sale.claimed"),
    *_good("6.settle", "sale.settled"),
    *_good("7.commit", "sale.committed"),
    *_good("8.answer", "sale.answered"),
    *_good("9.make", "make.intended", "make.asked", "make.submitted", "make.polled"),
    *_good("9.make", "make.fetched", "make.kept", "make.thumbnailed"),
    *_good("10.close", "close.complete"),
    *_doomed("10.close", "close.failed", "refund.signed", "refund.sent"),
]
UNPAID = [
    *_good("1.read", "quote.read", owed=False),
    *_good("2.quote", "quote.priced", owed=False),
    *_good("3.ask", "quote.asked", owed=False),
]


@pytest.mark.parametrize("kill", PAID, ids=str)
def test_the_same_payment_after_a_kill_gets_its_one_order(world: World, kill: Kill) -> None:
    payment = world.sign()
    _die(world, kill, payment)
    world.service.start()
    answer = world.pay(kill.body, payment)
    assert answer.status_code == 200, answer.text
    again = world.pay(kill.body, payment)
    assert (again.content, again.headers["PAYMENT-RESPONSE"]) == (answer.content, answer.headers["PAYMENT-RESPONSE"])
    _expect_one_ended_sale(world, kill, job_id=answer.json()["jobId"])


@pytest.mark.parametrize("kill", [kill for kill in PAID if kill.owed], ids=str)
def test_a_sale_ends_well_though_its_buyer_never_comes_back(world: World, kill: Kill) -> None:
    _die(world, kill, world.sign())
    world.service.start()
    (job,) = world.buyer.jobs()
    _expect_one_ended_sale(world, kill, job_id=job["jobId"])


@pytest.mark.parametrize("kill", [kill for kill in PAID if not kill.owed], ids=str)
def test_before_the_claim_a_kill_costs_the_buyer_nothing(world: World, kill: Kill) -> None:
    _die(world, kill, world.sign())
    world.service.start()
    assert world.buyer.jobs() == []
    _expect_nothing_sold(world)


@pytest.mark.parametrize("kill", UNPAID, ids=str)
def test_a_kill_before_any_payment_leaves_nothing_and_the_next_question_sells(world: World, kill: Kill) -> None:
    world.service.start(failpoint=kill.place)
    with pytest.raises(httpx2.TransportError):
        world.buyer.http.post(PATH, json=kill.body)
    assert world.service.wait_dead() == -signal.SIGKILL
    world.service.start()
    _expect_nothing_sold(world)
    _expect_one_ended_sale(world, kill, job_id=world.buyer.buy(PATH, kill.body))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("sale.claimed", "sale.settled"),
        ("sale.settled", "sale.committed"),
        ("make.intended", "make.asked"),
        ("make.asked", "make.submitted"),
        ("make.fetched", "make.kept"),
        ("make.kept", "make.thumbnailed"),
        ("close.failed", "refund.signed"),
        ("refund.signed", "refund.sent"),
        ("refund.sent", "refund.sent"),
    ],
)
def test_a_second_kill_while_the_first_is_mended(world: World, first: str, second: str) -> None:
    kill = next(kill for kill in PAID if kill.place == first)
    _die(world, kill, world.sign())
    world.service.start(failpoint=second, wait=False)
    assert world.service.wait_dead(_SECONDS) == -signal.SIGKILL
    world.service.start()
    (job,) = world.buyer.jobs()
    _expect_one_ended_sale(world, kill, job_id=job["jobId"])


def test_every_place_of_the_sources_is_killed_at() -> None:
    sources = Path(__file__).parents[2] / "src" / "stablestudio"
    named = {
        part.partition('"')[0] for source in sources.rglob("*.py") for part in source.read_text().split('reach("')[1:]
    }
    assert named == {kill.place for kill in PAID + UNPAID}


def _die(world: World, kill: Kill, payment: str) -> None:
    """Pay at a service that kills itself; what comes back to the buyer by then does not matter."""
    world.service.start(failpoint=kill.place)
    with suppress(httpx2.TransportError):
        world.pay(kill.body, payment)
    assert world.service.wait_dead(_SECONDS) == -signal.SIGKILL


def _expect_one_ended_sale(world: World, kill: Kill, *, job_id: str) -> None:
    job = world.buyer.wait(job_id, seconds=_SECONDS)
    assert [listed["jobId"] for listed in world.buyer.jobs()] == [job_id]
    delivered = kill.body is GOOD
    if delivered:
        assert (job["status"], job["payment"]["state"]) == ("complete", "charged")
        _expect_download(world, job)
    else:
        assert (job["status"], job["payment"]["state"]) == ("failed", "refunded")
    assert world.buyer.balance() == FUNDS - (PRICE if delivered else 0)
    _expect_books(world, job_id, delivered=delivered)


def _expect_download(world: World, job: dict[str, Any]) -> None:
    for name, role in (("videoUrl", "result"), ("thumbnailUrl", "thumbnail")):
        file = world.buyer.http.get(job["result"][name])
        assert file.status_code == 200
        sql = "SELECT sha256 FROM assets WHERE job_id = ? AND role = ?"
        assert rows(world.service.database, sql, job["jobId"], role) == [(hashlib.sha256(file.content).hexdigest(),)]


def _expect_books(world: World, job_id: str, *, delivered: bool) -> None:
    database = world.service.database
    world.service.wait_for_rest()
    assert audit_files(world.service.data) == []
    assert rows(database, "SELECT id FROM orders") == [(job_id,)]
    assert rows(database, "SELECT id FROM jobs") == [(job_id,)]
    assert rows(database, "SELECT job_id FROM sandbox_tasks") == [(job_id,)]
    assert rows(database, "SELECT state FROM refunds") == ([] if delivered else [("refunded",)])
    payer, payee = world.buyer.key.address.lower(), world.required.accepts[0].pay_to.lower()
    assert _transfers(database, sender=payer) == [(payee, PRICE)]
    sent_back = [] if delivered else [(payer, PRICE)]
    assert [row for row in _transfers(database, recipient=payer) if row[1] != FUNDS] == sent_back


def _expect_nothing_sold(world: World) -> None:
    database = world.service.database
    assert world.buyer.balance() == FUNDS
    for table in ("orders", "payments", "jobs", "sandbox_tasks", "refunds", "workflow_status"):
        assert rows(database, f"SELECT * FROM {table}") == []
    assert _transfers(database, sender=world.buyer.key.address.lower()) == []


def _transfers(database: Path, **end: str) -> list[tuple[object, ...]]:
    ((column, address),) = end.items()
    return rows(database, f"SELECT recipient, amount FROM ledger_transactions WHERE {column} = ?", address)
