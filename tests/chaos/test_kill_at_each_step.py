"""`kill -9` at each of the ten steps in the life of a sale; afterwards every cent and every job is where it belongs."""

from __future__ import annotations

import hashlib
import re
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from .audit import audit_files, rows
from .conftest import CLIP, DOOMED, FUNDS, PICTURE, Ware, World

_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """A place to die at, in a sale that will be delivered or refunded."""

    step: str
    place: str
    ware: Ware
    owed: bool = True  # whether the sale is on disk by then, so that it must end without the buyer

    def __str__(self) -> str:
        return f"{self.step}-{self.place}"


PAID = [
    Kill(step="1.read", place="quote.read", ware=PICTURE, owed=False),
    Kill(step="2.quote", place="quote.priced", ware=PICTURE, owed=False),
    Kill(step="4.verify", place="sale.verified", ware=PICTURE, owed=False),
    Kill(step="5.claim", place="sale.claimed", ware=PICTURE),
    Kill(step="6.settle", place="sale.settled", ware=PICTURE),
    Kill(step="7.commit", place="sale.committed", ware=PICTURE),
    Kill(step="8.answer", place="sale.answered", ware=PICTURE),
    Kill(step="9.make", place="make.intended", ware=CLIP),
    Kill(step="9.make", place="make.asked", ware=CLIP),
    Kill(step="9.make", place="make.submitted", ware=CLIP),
    Kill(step="9.make", place="make.polled", ware=CLIP),
    Kill(step="9.make", place="make.fetched", ware=CLIP),
    Kill(step="9.make", place="make.kept", ware=CLIP),
    Kill(step="9.make", place="make.thumbnailed", ware=CLIP),
    Kill(step="10.close", place="close.complete", ware=CLIP),
    Kill(step="10.close", place="close.failed", ware=DOOMED),
    Kill(step="10.close", place="refund.signed", ware=DOOMED),
    Kill(step="10.close", place="refund.sent", ware=DOOMED),
]
UNPAID = [
    Kill(step="1.read", place="quote.read", ware=PICTURE, owed=False),
    Kill(step="2.quote", place="quote.priced", ware=PICTURE, owed=False),
    Kill(step="3.ask", place="quote.asked", ware=PICTURE, owed=False),
]


@pytest.mark.parametrize("kill", PAID, ids=str)
def test_the_same_payment_after_a_kill_gets_its_one_order(world: World, kill: Kill) -> None:
    payment = world.sign(kill.ware)
    _die(world, kill, payment)
    world.service.start()
    answer = world.pay(kill.ware, payment)
    assert answer.status_code == 200, answer.text
    again = world.pay(kill.ware, payment)
    assert (again.content, again.headers["PAYMENT-RESPONSE"]) == (answer.content, answer.headers["PAYMENT-RESPONSE"])
    _expect_one_ended_sale(world, kill, job_id=answer.json()["jobId"])


@pytest.mark.parametrize("kill", [kill for kill in PAID if kill.owed], ids=str)
def test_a_sale_ends_well_though_its_buyer_never_comes_back(world: World, kill: Kill) -> None:
    _die(world, kill, world.sign(kill.ware))
    world.service.start()
    (job,) = world.buyer.jobs()
    _expect_one_ended_sale(world, kill, job_id=job["jobId"])


@pytest.mark.parametrize("kill", [kill for kill in PAID if not kill.owed], ids=str)
def test_before_the_claim_a_kill_costs_the_buyer_nothing(world: World, kill: Kill) -> None:
    _die(world, kill, world.sign(kill.ware))
    world.service.start()
    assert world.buyer.jobs() == []
    _expect_nothing_sold(world)


@pytest.mark.parametrize("kill", UNPAID, ids=str)
def test_a_kill_before_any_payment_leaves_nothing_and_the_next_question_sells(world: World, kill: Kill) -> None:
    world.service.start(failpoint=kill.place)
    with pytest.raises(httpx2.TransportError):
        world.buyer.http.post(kill.ware.path, json=kill.ware.body)
    assert world.service.wait_dead() == -signal.SIGKILL
    world.service.start()
    _expect_nothing_sold(world)
    _expect_one_ended_sale(world, kill, job_id=world.buy(kill.ware))


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
    _die(world, kill, world.sign(kill.ware))
    world.service.start(failpoint=second, wait=False)
    assert world.service.wait_dead(_SECONDS) == -signal.SIGKILL
    world.service.start()
    (job,) = world.buyer.jobs()
    _expect_one_ended_sale(world, kill, job_id=job["jobId"])


def test_every_place_of_the_sources_is_killed_at() -> None:
    sources = Path(__file__).parents[2] / "src" / "stablestudio"
    named = {name for source in sources.rglob("*.py") for name in re.findall(r'\breach\("([^"]+)"', source.read_text())}
    elsewhere = {
        "charge.claimed",
        "webhook.taken",
        "webhook.sent",
        "cancel.confirmed",
        "cancel.ended",
        "restore.checked",
        "restore.half",
        "restore.loaded",
        "restore.noted",
        "purge.marked",
        "purge.erased",
        "purge.noted",
        "upload.written",
    }
    assert named == {kill.place for kill in PAID + UNPAID} | elsewhere


def _die(world: World, kill: Kill, payment: str) -> None:
    """Pay at a service that kills itself; what comes back to the buyer by then does not matter."""
    world.service.start(failpoint=kill.place)
    with suppress(httpx2.TransportError):
        world.pay(kill.ware, payment)
    assert world.service.wait_dead(_SECONDS) == -signal.SIGKILL


def _expect_one_ended_sale(world: World, kill: Kill, *, job_id: str) -> None:
    job = world.buyer.wait(job_id, seconds=_SECONDS)
    assert [listed["jobId"] for listed in world.buyer.jobs()] == [job_id]
    if kill.ware.delivered:
        assert (job["status"], job["payment"]["state"]) == ("complete", "charged")
        _expect_download(world, job)
    else:
        assert (job["status"], job["payment"]["state"]) == ("failed", "refunded")
    assert world.buyer.balance() == FUNDS - (kill.ware.price if kill.ware.delivered else 0)
    _expect_books(world, kill.ware, job_id)


def _expect_download(world: World, job: dict[str, Any]) -> None:
    files = [world.buyer.http.get(link) for name, link in job["result"].items() if name.endswith("Url")]
    assert [file.status_code for file in files] == [200] * len(files)
    kept = rows(world.service.database, "SELECT sha256 FROM assets WHERE job_id = ?", job["jobId"])
    assert sorted(kept) == sorted((hashlib.sha256(file.content).hexdigest(),) for file in files)


def _expect_books(world: World, ware: Ware, job_id: str) -> None:
    database = world.service.database
    world.service.wait_for_rest()
    assert audit_files(world.service.data) == []
    assert rows(database, "SELECT id FROM orders") == [(job_id,)]
    assert rows(database, "SELECT id FROM jobs") == [(job_id,)]
    assert rows(database, "SELECT job_id FROM sandbox_tasks") == [(job_id,)]
    assert rows(database, "SELECT state FROM refunds") == ([] if ware.delivered else [("refunded",)])
    payer, payee = world.buyer.key.address.lower(), world.required[ware.path].accepts[0].pay_to.lower()
    assert _transfers(database, sender=payer) == [(payee, ware.price)]
    sent_back = [] if ware.delivered else [(payer, ware.price)]
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
