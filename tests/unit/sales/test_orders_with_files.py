"""Orders with files: looked at once for all copies of a payment, before the claim, and never again after it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field, replace

import pytest

from stablestudio.catalog import OfferingInput
from stablestudio.errors import InvalidInput, Issue
from stablestudio.media.intake import Checked
from stablestudio.payments.errors import PaymentRejected
from stablestudio.payments.rail import Rejected
from stablestudio.sales.order import Sold
from stablestudio.store import copies
from tests.doubles import ScriptedChain, only_sqlite

from .shop import CAT, Shop

pytestmark = pytest.mark.anyio
EDIT = CAT | {"images": ["https://example.com/cat.png"]}
ISSUE = Issue(("images", 0), "fetch_failed", "It is not there.")


@dataclass
class Door:
    """An intake that counts, and lets everybody wait until it is opened."""

    answer: Checked | InvalidInput | None = None
    checks: int = 0
    forgotten: list[Checked] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    looked: asyncio.Event = field(default_factory=asyncio.Event)

    async def check(self, given: OfferingInput, *, wallet: str) -> Checked:
        self.checks += 1
        self.looked.set()
        await self.open.wait()
        if isinstance(self.answer, InvalidInput):
            raise self.answer
        return self.answer or Checked(input=given)

    async def forget(self, checked: Checked, *, wallet: str) -> None:
        self.forgotten.append(checked)


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.fixture
def busy(shop: Shop, door: Door) -> Shop:
    return replace(shop, intake=door)


@only_sqlite  # with readers that take longer, a copy may hear "not known" after the others are through, and look again
async def test_fifty_copies_of_a_payment_have_the_files_looked_at_once(busy: Shop, door: Door) -> None:
    purchase = busy.purchase(EDIT, operation="edit")
    asked = [asyncio.create_task(busy.sell(purchase)) for _ in range(50)]
    await door.looked.wait()
    await asyncio.sleep(0.1)  # whoever else looks does it by now
    door.open.set()
    answers = await asyncio.gather(*asked)
    assert {answer.job_id for answer in answers} == set(busy.jobs())
    assert (len(busy.jobs()), door.checks, len(busy.chain.submitted)) == (1, 1, 1)


async def test_a_payment_that_was_taken_is_answered_without_a_look(busy: Shop, door: Door) -> None:
    door.open.set()
    purchase = busy.purchase(EDIT, operation="edit")
    first = await busy.sell(purchase)
    door.answer = InvalidInput("gone", issues=[ISSUE])
    assert (await busy.sell(purchase)).job_id == first.job_id
    assert door.checks == 1


async def test_files_that_cannot_be_had_leave_the_payment_untouched_and_good_for_the_next_try(
    busy: Shop, door: Door
) -> None:
    door.open.set()
    door.answer = InvalidInput("gone", issues=[ISSUE])
    purchase = busy.purchase(EDIT, operation="edit")
    with pytest.raises(InvalidInput):
        await busy.sell(purchase)
    assert (busy.payments(), busy.chain.submitted) == ([], [])
    door.answer = None
    assert isinstance(await busy.sell(purchase), Sold)


async def test_a_buyer_who_leaves_does_not_end_the_look_that_others_wait_for(busy: Shop, door: Door) -> None:
    purchase = busy.purchase(EDIT, operation="edit")
    first, second = asyncio.create_task(busy.sell(purchase)), asyncio.create_task(busy.sell(purchase))
    await door.looked.wait()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    door.open.set()
    assert isinstance(await second, Sold)


async def test_the_order_is_written_as_its_files_turned_out_and_has_their_copies(busy: Shop, door: Door) -> None:
    door.open.set()
    purchase = busy.purchase(EDIT, operation="edit")
    found = purchase.input.model_copy(update={"prompt": "a cat, as found"})
    door.answer = Checked(input=found, intake="i1")
    copy = copies.Copy(
        key="inputs/i1/0", intake="i1", url=EDIT["images"][0], content_type="image/png", size=1, sha256="", created_at=1
    )
    await busy.database.write(lambda connection: copies.insert(connection, copy))
    sold = await busy.sell(purchase)
    ((written,),) = busy.database.fetch("SELECT input FROM orders")
    assert json.loads(written)["prompt"] == "a cat, as found"
    kept = await busy.database.read(lambda connection: copies.find(connection, order_id=sold.job_id, url=copy.url))
    assert kept == copy


async def test_what_was_looked_at_for_a_payment_that_did_not_move_is_forgotten(busy: Shop, door: Door) -> None:
    door.open.set()
    door.answer = Checked(input=busy.purchase(EDIT, operation="edit").input, intake="i1")
    poor = replace(busy, chain=ScriptedChain(Rejected(reason="insufficient_funds", message="The wallet is empty.")))
    with pytest.raises(PaymentRejected):
        await poor.sell(poor.purchase(EDIT, operation="edit"))
    assert door.forgotten == [door.answer]
