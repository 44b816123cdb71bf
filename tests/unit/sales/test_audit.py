"""The audit finds what must not exist, and nothing where all is well."""

from __future__ import annotations

import pytest

from stablestudio.payments.rail import Settled, Unknown
from stablestudio.sales.audit import Finding, audit

from .shop import Shop

pytestmark = pytest.mark.anyio

PAID = Settled(transaction="0x01")  # as the scripted chain answers


async def test_a_paid_order_under_way_is_open_and_no_breach(shop: Shop) -> None:
    sold = await shop.sell(shop.purchase())
    shop.chain.finds = [PAID]
    report = await audit(shop.database, rails={shop.rail.name: shop.rail})
    assert (report.breaches, report.open) == ([], [Finding(what="job that has not ended", order_id=sold.job_id)])


async def test_a_settled_payment_without_a_job_is_a_breach(shop: Shop) -> None:
    sold = await shop.sell(shop.purchase())
    shop.chain.finds = [PAID]
    await shop.database.write(lambda connection: connection.exec_driver_sql("DELETE FROM jobs").close())
    report = await audit(shop.database, rails={shop.rail.name: shop.rail})
    assert report.breaches == [Finding(what="settled payment without a job", order_id=sold.job_id)]


@pytest.mark.parametrize("said", [Unknown(reason="not_seen"), Settled(transaction="0x99")])
async def test_a_transfer_that_the_chain_tells_otherwise_is_a_breach(shop: Shop, said: Settled | Unknown) -> None:
    sold = await shop.sell(shop.purchase())
    shop.chain.finds = [said]
    report = await audit(shop.database, rails={shop.rail.name: shop.rail})
    assert report.breaches == [Finding(what="transfer that the chain does not know", order_id=sold.job_id)]
    assert (await audit(shop.database, rails={})).breaches[0].what == "transfer on a rail that is not configured"
