"""Webhooks: what is told survives, is told again after set pauses, and never goes where it must not."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa

from stablestudio.jobs.webhooks import (
    AGAIN_SECONDS,
    PAUSES,
    NoWebhook,
    RedeliveryTooSoon,
    Verdict,
    WebhookWorker,
    judge,
    judge_asked,
    redeliver,
)
from stablestudio.media.addresses import FetchPolicy
from stablestudio.media.post import Posted, Poster
from stablestudio.protocols.webhooks import WebhookKeys
from stablestudio.store import jobs, refunds, webhooks
from stablestudio.store.database import Database
from tests.doubles import NOW_MS, WALLET, ManualClock, sell
from tests.fakes.receiver import Receiver

pytestmark = pytest.mark.anyio
INSIDE = FetchPolicy(schemes=frozenset({"http", "https"}), ports=range(1, 65_536), permits=lambda _: True)
_DAY_S = 86_400


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_any_success_is_a_delivery(status: int) -> None:
    assert judge(Posted(status=status), tries=1) == Verdict("delivered")


@pytest.mark.parametrize("answer", [None, *(Posted(status=status) for status in (301, 307, 400, 401, 404, 429, 500))])
def test_anything_else_is_told_again_after_growing_pauses(answer: Posted | None) -> None:
    verdicts = [judge(answer, tries=tries) for tries in range(1, len(PAUSES) + 2)]
    assert [verdict.pause for verdict in verdicts[:-1]] == list(PAUSES)
    assert {verdict.state for verdict in verdicts[:-1]} == {"pending"}
    assert verdicts[-1] == Verdict("given_up")
    assert sum(PAUSES) > _DAY_S


def test_a_receiver_that_is_gone_is_left_alone() -> None:
    assert judge(Posted(status=410), tries=1) == Verdict("given_up")


def test_a_receiver_s_wish_counts_within_an_hour() -> None:
    assert judge(Posted(status=503, retry_after=120), tries=1).pause == 120
    assert judge(Posted(status=503, retry_after=10**6), tries=1).pause == 3600
    assert judge(Posted(status=503, retry_after=1), tries=3).pause == PAUSES[2]


def test_a_try_that_somebody_asked_for_ends_well_or_changes_nothing() -> None:
    for before in ("pending", "delivered", "given_up"):
        assert judge_asked(Posted(status=204), before=before) == Verdict("delivered")
        assert judge_asked(Posted(status=410), before=before) == Verdict("given_up")
        assert judge_asked(None, before=before, left=70.0) == Verdict(before, 70.0)


def test_pauses_of_different_messages_differ() -> None:
    assert judge(None, tries=3, shift=1.0).pause > judge(None, tries=3).pause > judge(None, tries=3, shift=-1.0).pause


async def _type_of(event: webhooks.WebhookEvent) -> bytes:
    return event.type.encode()


class Desk:
    """A worker, and orders whose buyers want to be told."""

    def __init__(self, database: Database, clock: ManualClock) -> None:
        self.database = database
        self.clock = clock
        self.keys = WebhookKeys(b"s" * 32)
        self.poster = Poster(policy=INSIDE)

    def worker(self) -> WebhookWorker:
        return WebhookWorker(
            self.database,
            poster=self.poster,
            keys=self.keys,
            render=_type_of,
            clock=self.clock,
        )

    async def end(self, number: int, url: str | None, *, failed: bool = False) -> str:
        """Write down a paid order whose job has ended; return its id."""

        def write(connection: sa.Connection) -> str:
            job_id = sell(connection, number, webhook_url=url)
            if failed:
                jobs.fail(connection, job_id=job_id, code="upstream_error", message="no", now=NOW_MS)
            else:
                jobs.complete(connection, job_id=job_id, now=NOW_MS)
            return job_id

        return await self.database.write(write)

    async def ask(self, order_id: str) -> None:
        """Ask as a buyer for one more try."""
        now = self.clock.now_ms()
        await self.database.write(lambda connection: redeliver(connection, order_id=order_id, now=now))

    async def events(self, order_id: str) -> list[webhooks.WebhookEvent]:
        return await self.database.read(lambda connection: webhooks.of_order(connection, order_id))

    async def tries(self, order_id: str) -> list[webhooks.Try]:
        ids = [event.id for event in await self.events(order_id)]
        return await self.database.read(lambda connection: webhooks.tries_of(connection, ids))


@pytest.fixture
def desk(database: Database, clock: ManualClock) -> Desk:
    return Desk(database, clock)


async def test_an_ended_job_is_told_once_with_headers_that_hold(desk: Desk) -> None:
    with Receiver(204) as receiver:
        job_id = await desk.end(1, receiver.url)
        worker = desk.worker()
        await worker.work_once()
        await worker.work_once()
        (delivery,) = receiver.deliveries
    (event,) = await desk.events(job_id)
    assert (event.type, event.state, event.tries) == ("job.complete", "delivered", 1)
    assert (delivery.body, delivery.path) == (b"job.complete", "/hook?order=1")
    headers = desk.keys.headers(event.id, job_id=job_id, now_s=desk.clock.now_s, body=delivery.body)
    assert {name: delivery.headers[name] for name in headers} == headers
    assert delivery.headers["content-type"] == "application/json"
    (done,) = await desk.tries(job_id)
    assert (done.number, done.at, done.status, done.reason) == (1, desk.clock.now_ms(), 204, None)


async def test_whoever_asked_for_nothing_is_told_nothing(desk: Desk) -> None:
    assert await desk.events(await desk.end(1, None)) == []


async def test_a_failure_and_its_refund_are_told(desk: Desk) -> None:
    with Receiver() as receiver:
        job_id = await desk.end(1, receiver.url, failed=True)
        await desk.database.write(
            lambda connection: refunds.sign_refund(connection, order_id=job_id, signed="{}", now=NOW_MS)
        )
        for _ in range(2):
            await desk.database.write(
                lambda connection: refunds.settle_refund(connection, order_id=job_id, transaction="0x", now=NOW_MS)
            )
        await desk.worker().work_once()
        assert sorted(each.body for each in receiver.deliveries) == [b"job.failed", b"job.refunded"]


async def test_a_message_that_is_not_heard_is_told_again_with_a_fresh_time_under_its_id(desk: Desk) -> None:
    with Receiver(500, 302, 204, headers={"location": "http://127.0.0.1:1/"}) as receiver:
        job_id = await desk.end(1, receiver.url)
        worker = desk.worker()
        for number in (1, 2, 3):
            await worker.work_once()
            assert len(receiver.deliveries) == number
            await worker.work_once()
            assert len(receiver.deliveries) == number  # not before its pause
            desk.clock.advance(PAUSES[number - 1] * 1.2)
        first, *later = receiver.deliveries
    assert {each.headers["webhook-id"] for each in later} == {first.headers["webhook-id"]}
    assert len({each.headers["webhook-timestamp"] for each in (first, *later)}) == 3
    assert len({each.headers["webhook-signature"] for each in (first, *later)}) == 3
    assert [each.status for each in await desk.tries(job_id)] == [500, 302, 204]
    assert [event.state for event in await desk.events(job_id)] == ["delivered"]


async def test_a_message_is_given_up_after_a_day_and_told_again_on_request(desk: Desk) -> None:
    with Receiver(500) as receiver:
        job_id = await desk.end(1, receiver.url)
        worker = desk.worker()
        for _ in range(len(PAUSES) + 3):
            await worker.work_once()
            desk.clock.advance(_DAY_S)
        assert len(receiver.deliveries) == len(PAUSES) + 1
        assert [event.state for event in await desk.events(job_id)] == ["given_up"]
        now = desk.clock.now_ms()
        assert len(await desk.database.write(lambda connection: webhooks.redeliver(connection, now=now))) == 1
        await worker.work_once()
        assert len(receiver.deliveries) == len(PAUSES) + 2
        assert [event.state for event in await desk.events(job_id)] == ["given_up"]


async def test_asked_for_tries_take_nothing_from_the_schedule(desk: Desk) -> None:
    with Receiver(500) as receiver:
        job_id = await desk.end(1, receiver.url)
        worker = desk.worker()
        for number in range(3):
            await worker.work_once()
            desk.clock.advance(PAUSES[number] * 1.2)
        await worker.work_once()
        (before,) = await desk.events(job_id)
        for _ in range(12):
            desk.clock.advance(AGAIN_SECONDS)
            await desk.ask(job_id)
            await worker.work_once()
        (after,) = await desk.events(job_id)
        assert (after.state, after.due_at, after.scheduled) == ("pending", before.due_at, 4)
        assert len(receiver.deliveries) == 4 + 12
        for _ in range(len(PAUSES)):
            desk.clock.advance(_DAY_S)
            await worker.work_once()
        assert len(receiver.deliveries) == len(PAUSES) + 1 + 12
        assert [event.state for event in await desk.events(job_id)] == ["given_up"]


async def test_what_was_delivered_stays_so_where_a_try_asked_for_later_is_not_heard(desk: Desk) -> None:
    with Receiver(204, 500) as receiver:
        job_id = await desk.end(1, receiver.url)
        await desk.worker().work_once()
        desk.clock.advance(AGAIN_SECONDS)
        await desk.ask(job_id)
        await desk.worker().work_once()
        desk.clock.advance(_DAY_S)
        await desk.worker().work_once()
    assert [each.status for each in await desk.tries(job_id)] == [204, 500]
    assert [event.state for event in await desk.events(job_id)] == ["delivered"]


async def test_a_buyer_may_ask_a_minute_after_the_last_try_began(desk: Desk) -> None:
    with Receiver(500) as receiver:
        job_id = await desk.end(1, receiver.url)
        await desk.ask(job_id)  # it is about to be told: nothing is added
        worker = desk.worker()
        await worker.work_once()
        desk.clock.advance(AGAIN_SECONDS - 1.5)
        with pytest.raises(RedeliveryTooSoon) as refused:
            await desk.ask(job_id)
        assert (refused.value.status, dict(refused.value.headers)["Retry-After"]) == (429, "2")
        assert len(receiver.deliveries) == 1
        desk.clock.advance(1.5)
        await desk.ask(job_id)
        await worker.work_once()
        with pytest.raises(RedeliveryTooSoon):
            await desk.ask(job_id)
    (event,) = await desk.events(job_id)
    assert (event.tries, event.scheduled) == (2, 2)  # the schedule's own second try was due by then


async def test_nobody_can_ask_where_nobody_is_told(desk: Desk) -> None:
    with pytest.raises(NoWebhook):
        await desk.ask(await desk.end(1, None))


async def test_a_try_under_way_is_left_alone_even_by_the_operator(desk: Desk) -> None:
    job_id = await desk.end(1, "https://hooks.example.com/")
    (event,) = await desk.events(job_id)
    now = desk.clock.now_ms()
    until = now + 20_000
    await desk.database.write(lambda connection: webhooks.take(connection, event=event, now=now, until=until))
    await desk.database.write(lambda connection: webhooks.redeliver(connection, order_id=job_id, now=now + 1))
    (event,) = await desk.events(job_id)
    assert (event.due_at, event.asked) == (until, None)


async def test_the_newest_tries_are_remembered(desk: Desk) -> None:
    with Receiver(500) as receiver:
        job_id = await desk.end(1, receiver.url)
        worker = desk.worker()
        for _ in range(webhooks.MOST_TRIES + 5):
            await worker.work_once()
            desk.clock.advance(_DAY_S)
            await desk.ask(job_id)
    numbers = [each.number for each in await desk.tries(job_id)]
    assert numbers == list(range(6, webhooks.MOST_TRIES + 6))
    kept = await desk.database.read(
        lambda connection: connection.execute(sa.text("SELECT count(*) FROM webhook_tries")).scalar()
    )
    assert kept == webhooks.MOST_TRIES


async def test_nothing_more_is_told_of_a_failed_job_that_its_owner_deleted(desk: Desk) -> None:
    with Receiver(500) as receiver:
        job_id = await desk.end(1, receiver.url, failed=True)
        await desk.worker().work_once()
        await desk.database.write(
            lambda connection: jobs.delete_failed(connection, job_id=job_id, wallet=WALLET, now=NOW_MS)
        )
        await desk.database.write(
            lambda connection: refunds.sign_refund(connection, order_id=job_id, signed="{}", now=NOW_MS)
        )
        await desk.database.write(
            lambda connection: refunds.settle_refund(connection, order_id=job_id, transaction="0x", now=NOW_MS)
        )
        desk.clock.advance(_DAY_S)
        await desk.worker().work_once()
        assert len(receiver.deliveries) == 1
    assert [(event.type, event.state) for event in await desk.events(job_id)] == [("job.failed", "given_up")]


async def test_an_address_inside_is_not_called_and_the_log_says_why(desk: Desk) -> None:
    with Receiver() as receiver:
        desk.poster = Poster(policy=FetchPolicy(schemes=frozenset({"http"}), ports=range(1, 65_536)))
        job_id = await desk.end(1, receiver.url)
        await desk.worker().work_once()
        assert receiver.deliveries == []
    (tried,) = await desk.tries(job_id)
    assert (tried.status, tried.reason) == (None, "127.0.0.1 is not a public address.")


async def test_a_name_that_leads_inside_is_not_called(desk: Desk) -> None:
    async def inside(host: str) -> list[str]:
        return ["127.0.0.1"]

    with Receiver() as receiver:
        policy = FetchPolicy(schemes=frozenset({"http"}), ports=range(1, 65_536))
        desk.poster = Poster(policy=policy, resolve=inside)
        job_id = await desk.end(1, receiver.url.replace("127.0.0.1", "hooks.example.com"))
        await desk.worker().work_once()
        assert receiver.deliveries == []
    assert [each.reason for each in await desk.tries(job_id)] == ["hooks.example.com is not a public address."]


async def test_a_receiver_that_never_answers_costs_its_time_and_is_tried_again(desk: Desk) -> None:
    with Receiver(pause=3.0) as receiver:
        desk.poster = Poster(policy=INSIDE, total_seconds=1.0)
        job_id = await desk.end(1, receiver.url)
        await desk.worker().work_once()
    (tried,) = await desk.tries(job_id)
    assert (tried.status, tried.reason) == (None, "127.0.0.1 took longer than 1 seconds.")
    assert [event.state for event in await desk.events(job_id)] == ["pending"]


async def test_two_workers_send_one_try(desk: Desk) -> None:
    with Receiver(pause=0.2) as receiver:
        for number in range(1, 9):
            await desk.end(number, receiver.url)
        await asyncio.gather(*(desk.worker().work_once() for _ in range(3)))
        ids = [each.headers["webhook-id"] for each in receiver.deliveries]
    assert len(ids) == len(set(ids)) == 8


async def test_a_try_that_a_stop_cut_off_is_made_again(desk: Desk) -> None:
    with Receiver() as receiver:
        job_id = await desk.end(1, receiver.url)
        (event,) = await desk.events(job_id)
        now = desk.clock.now_ms()
        assert await desk.database.write(
            lambda connection: webhooks.take(connection, event=event, now=now, until=now + 20_000)
        )
        worker = desk.worker()
        await worker.work_once()
        assert receiver.deliveries == []
        desk.clock.advance(20)
        await worker.work_once()
        assert len(receiver.deliveries) == 1
    assert [(each.number, each.status) for each in await desk.tries(job_id)] == [(1, None), (2, 204)]


async def test_news_wake_a_running_worker(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stablestudio.jobs.webhooks._INTERVAL", 3600.0)
    with Receiver() as receiver:
        running = asyncio.create_task(desk.worker().run())
        for number in (1, 2, 3):
            await desk.end(number, receiver.url)
            await asyncio.to_thread(receiver.wait, number)
        running.cancel()
