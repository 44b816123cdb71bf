"""Which vendor is asked, when, and how often: one that refuses counts for itself alone."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import sqlalchemy as sa

from stablestudio import catalog
from stablestudio.catalog import OFFERINGS
from stablestudio.jobs.decisions import Verb
from stablestudio.providers.answers import Reply, Unreadable
from stablestudio.providers.bindings import Binding, OfferingInterrupted
from stablestudio.providers.provider import FailureKind, Made, NotAccepted
from stablestudio.store import jobs as store
from tests.doubles import INPUT, sell

from .bench import GONE, REFUSED, TASK

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("kind", [FailureKind.RATE_LIMITED, FailureKind.UPSTREAM_QUOTA, FailureKind.UPSTREAM_ERROR])
async def test_the_next_vendor_is_asked_where_the_first_certainly_did_not_accept(
    make_bench: Any, kind: FailureKind
) -> None:
    bench = await make_bench(submit=[NotAccepted("no", kind=kind)], second={})
    assert (await bench.run())["do"] == "deliver"
    assert (bench.vendor.asked, bench.second.asked) == (["submit"], ["submit", "poll", "fetch"])
    assert bench.submissions() == [(1, "fake", "refused"), (2, "second", "accepted")]


async def test_no_other_vendor_is_asked_while_the_first_may_have_accepted(make_bench: Any) -> None:
    bench = await make_bench(submit=[GONE], second={})
    assert (await bench.run())["do"] == "fail"
    assert bench.second.asked == []
    assert len(bench.refunds()) == 1


async def test_no_other_vendor_is_asked_what_the_first_refused_to_make(make_bench: Any) -> None:
    bench = await make_bench(submit=[REFUSED], second={})
    assert (await bench.run())["code"] == "moderation"
    assert bench.second.asked == []


async def test_a_verdict_stands_where_its_step_runs_again(make_bench: Any) -> None:
    """The engine may lose a step's end, not its effect."""
    bench = await make_bench(submit=[REFUSED], second={})
    first = await bench.advance("submit")
    assert await bench.advance("submit") == first
    assert (bench.vendor.asked, bench.second.asked) == (["submit"], [])
    assert len(bench.refunds()) == 1


async def test_a_vendor_without_credit_is_passed_over_by_the_next_order(make_bench: Any) -> None:
    bench = await make_bench(submit=[NotAccepted("no credit", kind=FailureKind.UPSTREAM_QUOTA)], second={})
    await bench.run()
    offering = catalog.find("nano-banana", "generate")
    assert bench.bindings.first(offering).provider.name == "second"
    bench.clock.advance(301)
    assert bench.bindings.first(offering).provider.name == "fake"


async def test_where_nobody_has_credit_no_money_is_asked(make_bench: Any) -> None:
    bench = await make_bench(submit=[NotAccepted("no credit", kind=FailureKind.UPSTREAM_QUOTA)])
    assert (await bench.run())["code"] == "upstream_quota"
    with pytest.raises(OfferingInterrupted):
        bench.bindings.first(catalog.find("nano-banana", "generate"))


_AUTH = NotAccepted("bad key", kind=FailureKind.UPSTREAM_AUTH)
_UNFIT = NotAccepted("too wide", kind=FailureKind.INVALID_INPUT)
_BUSY = NotAccepted("slow down", kind=FailureKind.RATE_LIMITED)


@pytest.mark.parametrize(
    ("first", "second"), [([_BUSY, _BUSY, TASK], [_AUTH]), ([_BUSY, TASK], [_UNFIT]), ([_UNFIT], [_BUSY, _BUSY, TASK])]
)
async def test_a_second_vendor_never_makes_a_route_less_sure(make_bench: Any, first: Any, second: Any) -> None:
    bench = await make_bench(submit=first, second={"submit": second})
    assert (await bench.run())["do"] == "deliver"
    asked = (bench.vendor.asked + bench.second.asked).count("submit")
    assert asked == len(first) + len(second), "whoever refused for good was asked once"


@pytest.mark.parametrize("verb", ["poll", "keep"])
async def test_a_job_whose_provider_left_the_settings_waits_for_it_a_day_and_is_refunded(
    make_bench: Any, verb: Verb, caplog: pytest.LogCaptureFixture
) -> None:
    bench = await make_bench()
    await bench.advance("submit")
    providers, bench.bindings._by_name = bench.bindings._by_name, {}
    assert (await bench.advance(verb))["do"] == verb
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == ["provider_missing"]
    bench.bindings._by_name = providers
    assert (await bench.advance("poll"))["do"] == "keep", "it is back, and so is the job"
    bench.bindings._by_name = {}
    bench.clock.advance(86_401)
    assert (await bench.advance(verb))["code"] == "upstream_unknown"


async def test_each_vendor_gets_the_pause_that_it_asked_for(make_bench: Any) -> None:
    patient = NotAccepted("in half a minute", kind=FailureKind.RATE_LIMITED, retry_after=30)
    bench = await make_bench(submit=[patient, TASK], second={"submit": [_BUSY, _AUTH]})
    began = bench.clock.now_ms()
    following = await bench.advance("submit", "submit")
    assert following["wait"] == 0.5, "the second asked for no pause"
    bench.clock.advance(0.5)
    following = await bench.advance("submit")
    assert (following["do"], following["wait"]) == ("submit", 29.5)
    assert (await bench.advance("submit"))["do"] == "submit", "an engine that comes early is sent away"
    assert bench.vendor.asked == ["submit"]
    bench.clock.advance(following["wait"])
    assert (await bench.advance("submit"))["do"] == "poll"
    assert bench.clock.now_ms() - began == 30_000


async def test_a_vendor_that_takes_over_gets_no_more_at_once_than_it_may(make_bench: Any) -> None:
    bench = await make_bench(submit=[_AUTH], second={})
    vendors = (Binding(provider=bench.vendor), Binding(provider=bench.second, at_once=1))
    bench.bindings._by_offering = {offering.key: vendors for offering in OFFERINGS}
    now = bench.clock.now_ms()
    other = await bench.database.write(lambda c: sell(c, 2, now=now, input=INPUT, model="nano-banana"))
    await bench.advance("submit", "submit")
    for _ in range(3):
        following = await bench.maker.advance("submit", other)
    assert (following["do"], following["wait"]) == ("submit", 1.0)
    assert (bench.vendor.asked, bench.second.asked) == (["submit"], ["submit"])
    await bench.advance("poll", "keep")
    await bench.maker.deliver(bench.job_id)
    assert (await bench.maker.advance("submit", other))["do"] == "poll"


async def test_a_process_takes_no_more_jobs_than_it_may_itself_whatever_the_engine_hands_out(make_bench: Any) -> None:
    """The engine keeps one limit for all processes: that of whoever started last."""
    bench = await make_bench()
    bench.hire(at_once=1)
    now = bench.clock.now_ms()
    other = await bench.database.write(lambda c: sell(c, 2, now=now, input=INPUT, model="nano-banana"))
    await bench.advance("submit")
    following = await bench.maker.advance("submit", other)
    assert (following["do"], following["wait"], bench.vendor.asked) == ("submit", 1.0, ["submit"])
    await bench.advance("poll", "keep")
    await bench.maker.deliver(bench.job_id)
    assert (await bench.maker.advance("submit", other))["do"] == "poll"


@pytest.mark.parametrize(
    ("kind", "closed"),
    [
        (FailureKind.UPSTREAM_RETIRED, {"nano-banana/generate"}),
        (FailureKind.UPSTREAM_AUTH, {"nano-banana/generate", "nano-banana/edit"}),
        (FailureKind.UPSTREAM_QUOTA, {"nano-banana/generate", "nano-banana/edit", "nano-banana-pro/generate"}),
    ],
)
async def test_one_buyers_order_closes_no_more_than_it_proves(
    make_bench: Any, kind: FailureKind, closed: set[str]
) -> None:
    bench = await make_bench(submit=[NotAccepted("no", kind=kind)])
    bench.bindings._by_offering = {
        offering.key: (Binding(provider=bench.vendor, model=offering.model),) for offering in OFFERINGS
    }
    await bench.run()
    looked = ("nano-banana/generate", "nano-banana/edit", "nano-banana-pro/generate")
    found = {offering.key for offering in OFFERINGS if offering.key in looked and not bench.bindings.serves(offering)}
    assert found == closed


async def test_a_buyer_who_finds_a_route_closed_hears_when_to_come_back(make_bench: Any) -> None:
    bench = await make_bench(submit=[_AUTH])
    await bench.run()
    bench.clock.advance(60)
    with pytest.raises(OfferingInterrupted) as caught:
        bench.bindings.first(catalog.find("nano-banana", "generate"))
    assert caught.value.headers == [("Retry-After", "240")]


async def test_an_answer_that_cannot_be_written_down_at_once_is_written_a_moment_later(
    make_bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = await make_bench()
    real, faults = bench.database.write, itertools.count()

    async def full(work: Any) -> Any:
        if getattr(work, "func", None) is store.accept and next(faults) < 2:
            raise sa.exc.OperationalError("INSERT", {}, Exception("disk full"))
        return await real(work)

    monkeypatch.setattr(bench.database, "write", full)
    assert (await bench.advance("submit"))["do"] == "poll"
    assert bench.submissions() == [(1, "fake", "accepted")]


@pytest.mark.parametrize(("status", "closed"), [(401, True), (402, True), (403, False), (500, False)])
async def test_a_key_that_is_refused_while_a_job_is_made_takes_the_route_off_sale_and_loses_nothing(
    make_bench: Any,
    caplog: pytest.LogCaptureFixture,
    status: int,
    closed: bool,  # noqa: FBT001 - the case
) -> None:
    reply = Reply(status=status, headers={"x-request-id": "req_7"}, body=b"{}")
    bench = await make_bench(poll=[Unreadable("the vendor answered with an error", reply=reply), Made()])
    await bench.advance("submit")
    assert (await bench.advance("poll"))["do"] == "poll"
    (told,) = [record for record in caplog.records if record.message == "vendor_unclear"]
    assert (told.request, told.exc_info) == ("req_7", None)  # type: ignore[attr-defined]
    assert bench.bindings.serves(catalog.find("nano-banana", "generate")) is not closed
    assert (await bench.advance("poll"))["do"] == "keep"
