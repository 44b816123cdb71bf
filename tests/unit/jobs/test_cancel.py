"""Cancelling: who stops is paid back, who goes on is charged, and one compare-and-set decides between them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stablestudio.jobs.cancel import Canceller, CancelTooLate
from stablestudio.providers.provider import Made, Running
from tests.doubles import FakeVendor

from .bench import NO, REFUSED, Bench

pytestmark = pytest.mark.anyio


def _canceller(bench: Bench) -> Canceller:
    return Canceller(bench.database, bindings=bench.bindings, clock=bench.clock, on_failed=bench._wake)


async def _refused(bench: Bench) -> str:
    with pytest.raises(CancelTooLate) as refused:
        await _canceller(bench).cancel(bench.job_id)
    assert (refused.value.status, refused.value.charged) == (409, True)
    return refused.value.message


async def test_a_job_that_nobody_was_asked_for_is_cancelled_and_owed(make_bench: Any) -> None:
    bench = await make_bench()
    await _canceller(bench).cancel(bench.job_id)
    assert bench.job() == ("failed", None, "cancelled")
    assert bench.refunds() == [(bench.job_id, 45_000, "cancelled")]
    assert (bench.vendor.asked, bench.woken) == ([], 1)


async def test_a_cancelled_job_is_never_submitted(make_bench: Any) -> None:
    bench = await make_bench()
    await _canceller(bench).cancel(bench.job_id)
    assert (await bench.run())["do"] == "fail"
    assert bench.vendor.asked == []
    assert len(bench.refunds()) == 1


async def test_a_cancel_between_the_maker_s_look_and_its_intent_wins(make_bench: Any) -> None:
    bench = await make_bench()
    has_room = bench.maker._busy.has_room
    cancelled = []

    def cancel_first(*arguments: Any) -> bool:
        # The maker has read the job as pending and is about to write its intent.
        cancelled.append(asyncio.ensure_future(_canceller(bench).cancel(bench.job_id)))
        return bool(has_room(*arguments))

    bench.maker._busy.has_room = cancel_first
    await bench.advance("submit")
    (ended,) = cancelled
    outcome = (await asyncio.gather(ended, return_exceptions=True))[0]
    # Whichever was written first: never both a vendor at work and the money back.
    works = "submit" in bench.vendor.asked and "cancel" not in bench.vendor.asked
    assert works == (outcome is not None)
    assert works == (bench.refunds() == [])


async def test_a_job_between_two_vendors_is_cancelled(make_bench: Any) -> None:
    bench = await make_bench(submit=[NO])
    await bench.advance("submit")
    assert bench.submissions() == [(1, "fake", "refused")]
    await _canceller(bench).cancel(bench.job_id)
    assert bench.job()[2] == "cancelled"


async def test_a_vendor_that_confirms_is_not_paid_for(make_bench: Any) -> None:
    bench = await make_bench(poll=[Running()])
    await bench.advance("submit")
    await _canceller(bench).cancel(bench.job_id)
    assert bench.vendor.asked == ["submit", "cancel"]
    assert (bench.job()[2], len(bench.refunds())) == ("cancelled", 1)
    await _canceller(bench).cancel(bench.job_id)  # once more changes nothing
    assert bench.vendor.asked == ["submit", "cancel"]
    assert len(bench.refunds()) == 1


@pytest.mark.parametrize("answer", [False, ConnectionResetError("gone"), TimeoutError()])
async def test_a_vendor_that_does_not_confirm_goes_on(make_bench: Any, answer: object) -> None:
    bench = await make_bench(cancel=[answer])
    await bench.advance("submit")
    await _refused(bench)
    assert bench.job()[0] == "loading"
    assert (await bench.run())["do"] == "deliver"
    assert (bench.job()[0], bench.refunds()) == ("complete", [])


async def test_a_job_in_a_vendor_s_hands_without_a_task_goes_on(make_bench: Any) -> None:
    bench = await make_bench(submit=[ConnectionResetError("the vendor hung up")])
    await bench.advance("submit")
    assert bench.submissions() == [(1, "fake", "intended")]
    assert "handed to a vendor" in await _refused(bench)


async def test_a_vendor_that_cannot_stop_goes_on(make_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = await make_bench()
    await bench.advance("submit")
    monkeypatch.delattr(FakeVendor, "cancel")
    assert "cannot stop" in await _refused(bench)


async def test_a_complete_job_is_too_late_and_a_failed_one_stays_failed(make_bench: Any) -> None:
    done = await make_bench(poll=[Made()])
    await done.run()
    assert await _refused(done) == "This job is complete."
    assert done.refunds() == []


async def test_a_failed_job_stays_failed(make_bench: Any) -> None:
    failed = await make_bench(submit=[REFUSED])
    await failed.run()
    await _canceller(failed).cancel(failed.job_id)
    assert (failed.job()[2], len(failed.refunds())) == ("moderation", 1)


async def test_of_a_result_and_a_cancel_at_once_one_wins(make_bench: Any) -> None:
    bench = await make_bench(poll=[Made()])
    await bench.advance("submit", "poll", "keep")
    both = (_canceller(bench).cancel(bench.job_id), bench.maker.deliver(bench.job_id))
    cancel, deliver = await asyncio.gather(*both, return_exceptions=True)
    assert deliver is None
    delivered = bench.job()[0] == "complete"
    assert delivered == isinstance(cancel, CancelTooLate)
    assert delivered == (bench.refunds() == [])
    kept = bench.database.fetch("SELECT COUNT(*) FROM assets WHERE expires_at IS NULL")[0][0]
    assert (kept > 0) == delivered  # what was cancelled is not kept


async def test_cancels_at_the_same_moment_are_one(make_bench: Any) -> None:
    bench = await make_bench(poll=[Running()], cancel=[True, False, False, False])
    await bench.advance("submit")
    canceller = _canceller(bench)
    assert await asyncio.gather(*(canceller.cancel(bench.job_id) for _ in range(4))) == [None] * 4
    assert bench.vendor.asked == ["submit", "cancel"]
    assert (bench.job()[2], len(bench.refunds())) == ("cancelled", 1)


async def test_whoever_hears_no_from_the_vendor_because_another_process_cancelled_first_is_told_so(
    make_bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = await make_bench(poll=[Running()], cancel=[True])
    await bench.advance("submit")
    here, there = _canceller(bench), _canceller(bench)
    agrees = bench.vendor.cancel

    async def cancelled_meanwhile(*arguments: Any) -> bool:
        monkeypatch.setattr(bench.vendor, "cancel", agrees)
        await there.cancel(bench.job_id)
        return False

    monkeypatch.setattr(bench.vendor, "cancel", cancelled_meanwhile)
    await here.cancel(bench.job_id)
    assert (bench.job()[2], len(bench.refunds())) == ("cancelled", 1)
