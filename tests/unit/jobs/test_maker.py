"""The maker with a vendor that answers as it is told: asked once, refunded when it fails, patient when nobody knows."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import re
from typing import Any

import pytest
import sqlalchemy as sa

from stablestudio.catalog import OFFERINGS
from stablestudio.jobs.lease import LeaseOver, NothingAsked
from stablestudio.jobs.maker import Charged
from stablestudio.jobs.retention import Retention
from stablestudio.media.probe import UnreadableMedia
from stablestudio.providers.bindings import Binding
from stablestudio.providers.provider import Made, Output, Running, Work
from stablestudio.store.database import CommitUnknown
from tests.doubles import png
from tests.integration.samples import mp4

from .bench import GONE, NO, REFUSED, TASK

pytestmark = pytest.mark.anyio


async def test_a_job_is_asked_for_polled_kept_and_delivered(make_bench: Any) -> None:
    bench = await make_bench(poll=[Running(progress=40), Made()])
    assert (await bench.run())["do"] == "deliver"
    assert bench.vendor.asked == ["submit", "poll", "poll", "fetch"]
    assert bench.submissions() == [(1, "fake", "accepted")]
    assert bench.job() == ("complete", "task_1", None)
    ((key, size, digest, width),) = bench.database.fetch(
        "SELECT key, size, sha256, width FROM assets WHERE role = 'result'"
    )
    data = await bench.storage.read(key)
    assert (len(data), hashlib.sha256(data).hexdigest(), width) == (size, digest, 8)
    assert (bench.refunds(), bench.woken) == ([], 0)


async def test_progress_is_written_for_all_jobs_at_once_and_never_goes_back(make_bench: Any) -> None:
    bench = await make_bench(poll=[Running(progress=40), Running(progress=60), Running(progress=30), Running()])
    await bench.advance("submit", "poll", "poll")
    assert bench.progress() == 0
    await bench.maker.progress.write()
    assert bench.progress() == 60
    await bench.advance("poll", "poll")
    await bench.maker.progress.write()
    assert bench.progress() == 60


async def test_progress_that_comes_after_the_end_changes_nothing(make_bench: Any) -> None:
    bench = await make_bench(poll=[Running(progress=40), Made()])
    assert (await bench.run())["do"] == "deliver"
    before = bench.database.fetch("SELECT state, progress FROM jobs")
    await bench.maker.progress.write()
    assert bench.database.fetch("SELECT state, progress FROM jobs") == before == [("complete", 100)]


async def test_the_intent_is_on_disk_before_the_vendor_is_asked(make_bench: Any) -> None:
    bench = await make_bench()
    seen: list[Any] = []

    def look(_: Work) -> None:
        seen.append(bench.submissions())

    bench.vendor.on_submit = look
    await bench.advance("submit")
    assert seen == [[(1, "fake", "intended")]]


class _Commits:
    """Loses the answer of the next commit, which took effect or did not."""

    def __init__(self, database: Any, *, takes_effect: bool) -> None:
        self._write = database.write
        self._database = database
        self._takes_effect = takes_effect
        database.write = self.write

    async def write(self, work: Any) -> Any:
        self._database.write = self._write
        if self._takes_effect:
            await self._write(work)
        raise CommitUnknown("COMMIT", None, OSError("the server is away"))


@pytest.mark.parametrize("takes_effect", [True, False])
async def test_an_intent_whose_commit_was_not_answered_is_followed_by_its_question(
    make_bench: Any, *, takes_effect: bool
) -> None:
    bench = await make_bench()
    _Commits(bench.database, takes_effect=takes_effect)
    assert (await bench.advance("submit"))["do"] == "submit"
    assert (bench.vendor.asked, len(bench.submissions())) == ([], takes_effect)
    assert (await bench.run())["do"] == "deliver"
    assert bench.vendor.asked == ["submit", "poll", "fetch"]


async def test_another_process_cannot_know_whether_the_question_followed_such_an_intent(make_bench: Any) -> None:
    bench = await make_bench(find=[TASK])
    _Commits(bench.database, takes_effect=True)
    await bench.advance("submit")
    bench.hire()
    await bench.advance("submit")
    assert bench.vendor.asked == ["find"]


@pytest.mark.parametrize("later", [REFUSED, Running()], ids=["it failed", "it is still at work"])
async def test_a_result_that_is_kept_is_delivered_whatever_its_vendor_says_later(make_bench: Any, later: Any) -> None:
    """Its process ended between keeping it and delivering; the next one begins with the vendor again, past the deadline."""
    bench = await make_bench(poll=[Made(), later])
    assert (await bench.advance("submit", "poll", "keep"))["do"] == "deliver"
    bench.clock.advance(2 * 3600)
    assert (await bench.run())["do"] == "deliver"
    assert (bench.job()[0], bench.refunds()) == ("complete", [])


async def test_books_that_are_away_are_looked_into_again_and_no_step_faults(
    make_bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = await make_bench()
    await bench.advance("submit")

    async def away(*_: object, **__: object) -> None:
        raise sa.exc.OperationalError("", None, ConnectionError("away"))

    with monkeypatch.context() as outage:
        outage.setattr(bench.database, "fetch_one", away)
        for _ in range(20):
            following = await bench.advance("poll")
            assert (following["do"], following["wait"]) == ("poll", 5.0)
    assert (await bench.run())["do"] == "deliver"


_HELD = sa.text("UPDATE payments SET state = 'held', policy = 'complete'")
_PAID = sa.text("UPDATE payments SET state = 'settled'")
_DROPPED = sa.text("UPDATE orders SET model = 'sold-out-1'")


class _OverOnce:
    """A right that ends as a question is to be asked, and is renewed: the database was away, and nobody took the jobs."""

    executor = None

    def __init__(self, over: type[LeaseOver]) -> None:
        self._over: type[LeaseOver] | None = over

    def require(self, connection: Any) -> None: ...

    async def bind(self, work: Any) -> Any:
        over, self._over = self._over, None
        if over is not None:
            work.close()
            raise over
        return await work


@pytest.mark.parametrize(("over", "asked"), [(NothingAsked, "submit"), (LeaseOver, "find")])
async def test_a_question_that_certainly_did_not_leave_is_asked_once_the_lease_is_renewed(
    make_bench: Any, over: type[LeaseOver], asked: str
) -> None:
    bench = await make_bench(find=[TASK])
    bench.hire(right=_OverOnce(over))
    assert (await bench.advance("submit"))["do"] == "submit"
    assert (await bench.run())["do"] == "deliver"
    assert bench.vendor.asked == [asked, "poll", "fetch"]


@pytest.mark.parametrize("takes_effect", [True, False])
async def test_once_the_question_was_asked_it_is_never_asked_again(make_bench: Any, *, takes_effect: bool) -> None:
    bench = await make_bench(submit=[GONE], find=[TASK])
    _Commits(bench.database, takes_effect=takes_effect)
    await bench.advance("submit", "submit", "submit")
    assert bench.vendor.asked == ["submit", "find"]


async def test_a_lost_answer_is_looked_for_and_never_asked_for_again(make_bench: Any) -> None:
    bench = await make_bench(submit=[GONE], find=[TASK])
    following = await bench.advance("submit")
    assert (following["do"], bench.submissions()) == ("submit", [(1, "fake", "intended")])
    assert (await bench.run())["do"] == "deliver"
    assert bench.vendor.asked == ["submit", "find", "poll", "fetch"]
    assert bench.job()[1] == "task_1"


async def test_while_the_vendor_cannot_say_nobody_asks_again(make_bench: Any) -> None:
    bench = await make_bench(submit=[GONE], find=[GONE, GONE, GONE, TASK])
    await bench.run()
    assert bench.vendor.asked[:5] == ["submit", "find", "find", "find", "find"]
    assert bench.job()[0] == "complete"


async def test_a_vendor_that_cannot_look_it_up_ends_in_a_refund_not_in_a_second_order(make_bench: Any) -> None:
    bench = await make_bench(submit=[GONE], find=[None])
    following = await bench.run()
    assert (following["do"], following["code"]) == ("fail", "upstream_unknown")
    assert bench.vendor.asked == ["submit", "find"]
    assert (bench.job()[0], len(bench.refunds()), bench.woken) == ("failed", 1, 1)


@pytest.mark.parametrize(("found", "ends"), [(TASK, "complete"), (None, "failed")], ids=["knows", "cannot say"])
async def test_an_order_from_before_a_restore_is_looked_for_before_anybody_is_asked(
    make_bench: Any, found: Any, ends: str
) -> None:
    bench = await make_bench(find=[found])
    bench.restore()
    await bench.run()
    assert bench.vendor.asked[0] == "find"
    assert "submit" not in bench.vendor.asked
    assert (bench.job()[0], len(bench.refunds())) == (ends, int(ends == "failed"))


async def test_after_a_restore_each_vendor_is_asked_once_it_says_that_it_has_nothing(make_bench: Any) -> None:
    bench = await make_bench(find=[NO], second={"find": [NO]}, submit=[NO])
    bench.restore()
    await bench.run()
    assert bench.vendor.asked[0] == bench.second.asked[0] == "find"
    assert bench.second.asked[:2] == ["find", "submit"] or bench.vendor.asked[:2] == ["find", "submit"]
    assert bench.job()[0] == "complete"


async def test_an_order_of_after_a_restore_is_asked_for_as_ever(make_bench: Any) -> None:
    bench = await make_bench()
    bench.restore(ago=1)
    await bench.run()
    assert bench.vendor.asked == ["submit", "poll", "fetch"]


async def test_while_there_is_no_room_no_vendor_is_asked_and_the_job_waits(make_bench: Any) -> None:
    bench = await make_bench()
    room = [False, False, True]
    bench.hire(may_ask=lambda: room.pop(0) if room else True)
    steps = [await bench.advance("submit") for _ in range(3)]
    assert [one["do"] for one in steps] == ["submit", "submit", "poll"]
    assert (bench.vendor.asked, bench.refunds()) == (["submit"], [])


async def test_a_submission_that_certainly_was_not_taken_is_made_again(make_bench: Any) -> None:
    bench = await make_bench(submit=[GONE, TASK], find=[NO])
    await bench.run()
    assert bench.vendor.asked[:3] == ["submit", "find", "submit"]
    assert bench.submissions() == [(1, "fake", "refused"), (2, "fake", "accepted")]
    assert bench.job()[0] == "complete"


async def test_a_vendor_that_never_takes_it_is_asked_three_times_and_the_money_goes_back(make_bench: Any) -> None:
    bench = await make_bench(submit=[NO])
    following = await bench.run()
    assert (following["do"], following["code"]) == ("fail", "upstream_error")
    assert bench.vendor.asked == ["submit"] * 3
    assert bench.submissions() == [(attempt, "fake", "refused") for attempt in (1, 2, 3)]
    assert bench.refunds() == [(bench.job_id, 45_000, "upstream_error")]
    assert bench.woken == 1


async def test_a_refusal_at_the_door_is_not_asked_twice(make_bench: Any) -> None:
    bench = await make_bench(submit=[REFUSED])
    following = await bench.run()
    assert (following["code"], following["message"]) == ("moderation", "Not this.")
    assert (bench.vendor.asked, bench.job()[2]) == (["submit"], "moderation")


async def test_a_submitted_job_is_not_submitted_again(make_bench: Any) -> None:
    bench = await make_bench()
    steps = [await bench.advance("submit") for _ in range(4)]
    assert ([one["do"] for one in steps], bench.vendor.asked) == (["poll"] * 4, ["submit"])


async def test_two_runs_of_one_job_at_once_ask_the_vendor_once(make_bench: Any) -> None:
    """A question that is under way in this very process is no lost answer."""
    bench = await make_bench(find=[NO])
    bench.vendor.pause = 0.1

    async def late(pause: float) -> None:
        await asyncio.sleep(pause)
        await bench.advance("submit")

    await asyncio.gather(*(late(number / 100) for number in range(30)))
    assert (bench.vendor.asked, bench.submissions()) == (["submit"], [(1, "fake", "accepted")])


@pytest.mark.parametrize("verb", ["read", "write"])
@pytest.mark.parametrize("turn", [1, 2])
async def test_another_run_between_any_two_looks_at_the_books_changes_nothing(
    make_bench: Any, monkeypatch: pytest.MonkeyPatch, verb: str, turn: int
) -> None:
    bench = await make_bench(find=[NO])
    real, turns = getattr(bench.database, verb), itertools.count(1)

    async def interrupted(work: Any) -> Any:
        mine = next(turns) == turn
        if mine and verb == "read":
            await bench.advance("submit")
        result = await real(work)
        if mine and verb == "write":
            await bench.advance("submit")
        return result

    monkeypatch.setattr(bench.database, verb, interrupted)
    await bench.advance("submit")
    assert (await bench.advance("submit"))["do"] == "poll"
    assert (bench.vendor.asked, bench.submissions()) == (["submit"], [(1, "fake", "accepted")])


@pytest.mark.parametrize("verb", ["submit", "poll", "keep"])
async def test_nobody_is_asked_anything_about_a_job_that_has_ended(make_bench: Any, verb: str) -> None:
    """An engine that lost its own last line may run a closed job once more."""
    bench = await make_bench(submit=[REFUSED, TASK], find=[NO])
    await bench.run()
    before = list(bench.vendor.asked)
    following = await bench.advance(verb)
    assert following["do"] == "fail"
    await bench.maker.fail(bench.job_id, code=following["code"], message=following["message"])
    assert (bench.vendor.asked, bench.job()[2], len(bench.refunds())) == (before, "moderation", 1)


async def test_a_filtered_result_is_a_failure_with_a_refund(make_bench: Any) -> None:
    bench = await make_bench(poll=[REFUSED])
    following = await bench.run()
    assert (following["code"], bench.job()[0], len(bench.refunds())) == ("moderation", "failed", 1)


async def test_an_output_that_turns_out_missing_is_a_failure_with_a_refund(make_bench: Any) -> None:
    bench = await make_bench(fetch=[REFUSED])
    await bench.run()
    assert (bench.vendor.asked[-1], bench.job()[0], len(bench.refunds())) == ("fetch", "failed", 1)


async def test_a_poll_that_breaks_is_no_failure(make_bench: Any) -> None:
    bench = await make_bench(
        poll=[GONE, TimeoutError(), ValueError(), Made()], fetch=[GONE, Output(data=png(), content_type="image/png")]
    )
    await bench.run()
    assert bench.vendor.asked == ["submit", "poll", "poll", "poll", "poll", "fetch", "fetch"]
    assert bench.job()[0] == "complete"


@pytest.mark.parametrize("cancel", [True, False, GONE], ids=["it agrees", "it does not", "nobody answers"])
async def test_a_task_past_its_models_deadline_is_called_off_and_refunded(make_bench: Any, cancel: Any) -> None:
    bench = await make_bench(poll=[Running()], cancel=[cancel])
    bench.clock.advance(2000)  # it waited for its turn; the vendor has nothing to do with that
    await bench.advance("submit")
    bench.clock.advance(600)
    assert (await bench.advance("poll"))["do"] == "poll"
    assert "cancel" not in bench.vendor.asked
    bench.clock.advance(1)
    following = await bench.advance("poll")
    assert (following["do"], following["code"]) == ("fail", "upstream_timeout")
    assert following["message"] == "The vendor did not finish within 600 seconds."
    assert bench.vendor.asked[-1] == "cancel"


async def test_an_operator_may_give_a_vendor_another_deadline(make_bench: Any) -> None:
    bench = await make_bench(poll=[Running()])
    patient = [Binding(provider=bench.vendor, deadline_seconds=7200)]
    bench.bindings._by_offering = {offering.key: tuple(patient) for offering in OFFERINGS}
    await bench.advance("submit")
    bench.clock.advance(7200)
    assert (await bench.advance("poll"))["do"] == "poll"
    bench.clock.advance(1)
    assert (await bench.advance("poll"))["code"] == "upstream_timeout"


async def test_a_job_that_is_ready_after_a_day_is_delivered_all_the_same(make_bench: Any) -> None:
    bench = await make_bench()
    await bench.advance("submit")
    bench.clock.advance(100_000)
    assert (await bench.advance("poll"))["do"] == "keep"


@pytest.mark.parametrize("verb", ["submit", "poll", "keep"])
async def test_what_breaks_for_a_day_is_given_up_and_refunded(make_bench: Any, verb: str) -> None:
    bench = await make_bench(submit=[TASK if verb != "submit" else GONE], find=[GONE], poll=[GONE], fetch=[GONE])
    if verb != "submit":
        await bench.advance("submit")
    first = await bench.advance(verb)
    assert first["do"] == verb
    assert 1 <= first["wait"] <= 60
    bench.clock.advance(86_401)
    assert (await bench.advance(verb))["code"] == "upstream_unknown"


async def test_a_file_kept_before_a_stop_stays_and_is_described_as_it_is(make_bench: Any) -> None:
    kept, other = png((8, 8), "red"), png((16, 16), "blue")
    bench = await make_bench(
        fetch=[Output(data=kept, content_type="image/png"), Output(data=other, content_type="image/png")]
    )
    await bench.advance("submit", "poll", "keep")
    await bench.database.write(lambda c: c.exec_driver_sql("DELETE FROM assets").close())  # the stop came before this
    await bench.advance("keep")
    ((key, size, width, height, digest),) = bench.database.fetch("SELECT key, size, width, height, sha256 FROM assets")
    assert await bench.storage.read(key) == kept
    assert (size, digest) == (len(kept), hashlib.sha256(kept).hexdigest())
    assert (width, height) == (8, 8)


async def test_keeping_and_delivering_twice_changes_nothing(make_bench: Any) -> None:
    bench = await make_bench()
    await bench.advance("submit", "poll", "keep", "keep")
    for _ in range(2):
        await bench.maker.deliver(bench.job_id)
    assert bench.job()[0] == "complete"
    assert bench.database.fetch("SELECT role FROM assets ORDER BY role") == [("result",), ("thumbnail",)]


async def test_failing_twice_owes_the_money_once(make_bench: Any) -> None:
    bench = await make_bench()
    for code in ("moderation", "upstream_error"):
        await bench.maker.fail(bench.job_id, code=code, message="no")
    assert bench.refunds() == [(bench.job_id, 45_000, "moderation")]


async def test_a_delivered_job_cannot_be_failed_any_more(make_bench: Any) -> None:
    bench = await make_bench()
    await bench.run()
    await bench.maker.fail(bench.job_id, code="upstream_error", message="too late")
    assert (bench.job()[0], bench.refunds()) == ("complete", [])


@pytest.mark.parametrize(
    "gone", [{"model": "sold-out-1"}, {"input_": '{"prompt":"a cat","imageSize":"3K"}'}], ids=["model", "input"]
)
async def test_an_order_that_the_catalog_no_longer_knows_fails_and_is_refunded(make_bench: Any, gone: Any) -> None:
    """An upgrade may drop a model or tighten an input while its orders are under way; their money must not hang."""
    bench = await make_bench(**gone)
    following = await bench.advance("submit")
    assert following["do"] == "fail"
    assert bench.vendor.asked == []


@pytest.mark.parametrize("payment", ["settled", "held", "settled and not told"])
async def test_a_result_that_is_kept_is_delivered_though_an_upgrade_dropped_its_model(
    make_bench: Any, payment: str
) -> None:
    bench, asked = await make_bench(), []

    async def collect(order_id: str) -> Charged:
        asked.append(order_id)
        await bench.database.write(lambda connection: connection.execute(_PAID))
        return Charged.SETTLED

    bench._charge = collect
    bench.hire()
    if payment != "settled":
        await bench.database.write(lambda connection: connection.execute(_HELD))
    await bench.advance("submit", "poll", "keep")
    await bench.database.write(lambda connection: connection.execute(_DROPPED))
    if payment == "settled and not told":
        await bench.advance("charge")
        assert (await bench.advance("charge"))["do"] == "deliver"
    assert (await bench.run())["do"] == "deliver"
    assert (bench.job()[0], bench.refunds(), len(asked)) == ("complete", [], {"settled": 0, "held": 1}.get(payment, 2))


async def test_a_charge_that_faults_is_tried_again_and_the_job_is_not_failed_for_it(make_bench: Any) -> None:
    bench, faults = await make_bench(), [ConnectionResetError("the node hung up")]

    async def collect(_: str) -> Charged:
        if faults:
            raise faults.pop()
        await bench.database.write(lambda connection: connection.execute(_PAID))
        return Charged.SETTLED

    bench._charge = collect
    bench.hire()
    await bench.database.write(lambda connection: connection.execute(_HELD))
    assert (await bench.run())["do"] == "deliver"
    assert (bench.job()[0], bench.refunds()) == ("complete", [])


CLIP = {"model": "grok-video", "input_": '{"prompt":"a cat","duration":"3"}'}


async def test_a_picture_is_delivered_unchanged_with_a_thumbnail_and_its_blurhash(make_bench: Any) -> None:
    large = png((1024, 640))
    bench = await make_bench(fetch=[Output(data=large, content_type="image/png")])
    await bench.run()
    kept = bench.database.fetch("SELECT role, content_type, width, height, blurhash FROM assets ORDER BY role")
    assert kept[0] == ("result", "image/png", 1024, 640, None)
    assert kept[1][:4] == ("thumbnail", "image/jpeg", 512, 320)
    assert re.fullmatch(r"[0-9A-Za-z#$%*+,\-.:;=?@\[\]^_{|}~]{28}", kept[1][4])
    assert await bench.storage.read(f"jobs/{bench.job_id}/0.png") == large


@pytest.mark.parametrize(
    ("model", "fetch", "days"),
    [
        ("nano-banana", Output(data=png(), content_type="image/png"), 2),
        ("grok-video", Output(data=mp4(), content_type="video/mp4"), 5),
    ],
)
async def test_all_files_of_a_job_expire_together_by_the_kind_of_its_result(
    make_bench: Any, model: str, fetch: Output, days: int
) -> None:
    more = {} if model == "nano-banana" else CLIP
    bench = await make_bench(**more, fetch=[fetch])
    bench.maker._retention = Retention(images=2, videos=5)
    await bench.run()
    ((until,),) = bench.database.fetch("SELECT DISTINCT expires_at FROM assets")
    assert until % 60_000 == 0
    assert 0 <= until - bench.clock.now_ms() - days * 86_400_000 < 60_000


async def test_files_of_a_job_that_was_not_paid_for_expire_at_once(make_bench: Any) -> None:
    bench = await make_bench()
    await bench.advance("submit", "poll", "keep")
    await bench.maker.fail(bench.job_id, code="payment_failed", message="no")
    assert bench.database.fetch("SELECT expires_at FROM assets") == [(bench.clock.now_ms(),)]


async def test_a_clip_is_delivered_with_its_poster_and_thumbnail(make_bench: Any) -> None:
    bench = await make_bench(**CLIP, fetch=[Output(data=mp4(), content_type="video/mp4")])
    await bench.run()
    kept = bench.database.fetch("SELECT role, content_type, width, height, milliseconds FROM assets ORDER BY role")
    assert kept == [
        ("poster", "image/jpeg", 320, 320, None),
        ("result", "video/mp4", 320, 320, 3000),
        ("thumbnail", "image/jpeg", 320, 320, None),
    ]


async def test_a_clip_without_a_thumbnail_ends_all_the_same(make_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clip is what was paid for; a step that never succeeds would keep the buyer's money for ever."""

    async def give_up(*_: object, **__: object) -> bytes:
        raise UnreadableMedia

    monkeypatch.setattr("stablestudio.jobs.keeper.DECODER.thumbnail", give_up)
    bench = await make_bench(**CLIP, fetch=[Output(data=mp4(), content_type="video/mp4")])
    await bench.run()
    assert bench.job()[0] == "complete"


async def test_junk_from_the_vendor_is_not_delivered(make_bench: Any) -> None:
    bench = await make_bench(fetch=[Output(data=b"<html>504</html>", content_type="image/png")])
    await bench.advance("submit", "poll")
    assert (await bench.advance("keep"))["do"] == "keep"
    assert bench.database.fetch("SELECT key FROM assets") == []
